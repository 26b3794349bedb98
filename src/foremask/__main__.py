"""``foremask`` and ``python -m foremask``."""

import sys

from foremask.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
