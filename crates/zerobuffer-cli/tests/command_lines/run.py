"""The same cases against the command line of every language: `zerobuffer`, `zerobuffer-cpp`, `python -m zerobuffer`, ...

Usage: run.py NAME=COMMAND ... [-- ARGUMENTS OF unittest]
       run.py rust=target/debug/zerobuffer "python=venv/bin/python -m zerobuffer" -- -k fifo

The first command is the reference that the others are compared with. It must be `zerobuffer`, which looks at buffers, too.
"""

import sys
import unittest
from pathlib import Path

import languages


def main():
    arguments = sys.argv[1:]
    rest = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    named = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if not named or not all("=" in argument for argument in named):
        sys.exit(__doc__)
    languages.COMMANDS.update((name, command.split()) for name, command in (argument.split("=", 1) for argument in named))
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = __import__(file.stem)
        globals().update({name: value for name, value in vars(module).items() if isinstance(value, type)})
    unittest.main(module=__name__, argv=[sys.argv[0], *rest], warnings="ignore")


if __name__ == "__main__":
    main()
