"""The commands of `python -m zerobuffer`: options, JSON and exit codes of those that the `zerobuffer` command has.

Each command has a module of its own; `args` has every option.
"""

import os
import signal
import sys
from typing import List, Optional

from . import args, output, reader, relay, report, writer

_COMMANDS = {"writer": writer.run, "reader": reader.run, "relay": relay.run}


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs a command; returns its exit code."""
    output.occupy_standard_streams()
    options = args.parse(sys.argv[1:] if arguments is None else arguments)
    report.show_log(options.verbose)
    return output.exit_code(_COMMANDS[options.command](options))


def run() -> int:
    """`main`, as the last thing that a process does.

    The interpreter restores the default effect of signals when it ends: a Ctrl-C that comes so late must not change the code.
    """
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if relay.abandoned:
        # At its end the interpreter would close them.
        os._exit(code)
    return code
