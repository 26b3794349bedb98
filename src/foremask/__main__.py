"""The entry point of ``foremask`` and ``python -m foremask``."""

import os
import sys
from typing import Final

from foremask.machine import process_setup

_INTERRUPTED: Final = (130, 143)
_DECODING: Final = frozenset(["mask", "cutout", "tracks", "sheet"])


def main() -> int:
    """Run the command line, and return the exit status."""
    try:
        process_setup.prepare()
        from foremask.cli.commands import main as command_line  # loads NumPy

        status = command_line()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = 130
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    if status in _INTERRUPTED and _DECODING & set(sys.argv):
        _leave_at_once(status)
    return status


def _leave_at_once(status: int) -> None:
    """End the process without Python's own shutdown.

    By now, files are closed and temporary ones removed. Decoder threads may still wait for each
    other, and Python's shutdown would wait for them for ever.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
