"""The command of one sub-tile: `python -m shine.euclid.run --help`.

It imports next to nothing, for the work may be done by a process that is there already.
"""

import sys

from shine.euclid.cli import main

if __name__ == "__main__":
    sys.exit(main())
