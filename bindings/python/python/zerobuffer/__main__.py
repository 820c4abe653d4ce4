"""`python -m zerobuffer`: the commands writer, reader and relay."""

import sys

from ._cli import run

if __name__ == "__main__":
    sys.exit(run())
