"""The entry point of ``foremask`` and ``python -m foremask``."""

import os
import sys
from typing import Final

from foremask.machine import process_setup

_DECODING: Final = frozenset(["mask", "cutout", "tracks", "sheet"])


def main() -> int:
    try:
        process_setup.prepare()
        from foremask.cli.commands import main as command_line  # loads NumPy

        status = command_line()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = 130
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    if status in (130, 143) and _DECODING & set(sys.argv):
        _exit_without_joining_threads(status)
    return status


def _exit_without_joining_threads(status: int) -> None:
    # Interrupted decoder threads may be deadlocked, and Python's normal exit would join them.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
