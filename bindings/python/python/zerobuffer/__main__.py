"""`python -m zerobuffer`: the commands writer, reader and relay."""

import signal
import sys

from ._cli import main

if __name__ == "__main__":
    code = main()
    # The interpreter gives signals their default effect when it ends: a Ctrl-C that comes so late shall not change the code.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
