"""`python -m zerobuffer`: the commands writer, reader and relay."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
