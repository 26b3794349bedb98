"""``foremask`` and ``python -m foremask``."""

import sys

from foremask import own_process


def main() -> int:
    """The command line; gives the exit status."""
    own_process.prepare()
    from foremask.cli.app import main as command_line  # loads NumPy

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
