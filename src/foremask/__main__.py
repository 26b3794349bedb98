"""``foremask`` and ``python -m foremask``."""

import sys

from foremask.machine import process_setup


def main() -> int:
    """The command line; gives the exit status."""
    try:
        process_setup.prepare()
        from foremask.cli.commands import main as command_line  # loads NumPy
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
