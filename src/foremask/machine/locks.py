"""Locks between processes, on every system that Python runs on; the only home of filelock."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[bool]:
    """Hold a lock on the file ``path``, which is created, and deleted afterwards.

    The lock of a process that is killed ends with it. Without ``waits``, yield False if another
    process, or another call, holds the lock. Raises OSError if the file cannot be written.
    """
    from filelock import FileLock, Timeout  # slow to import

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=waits)
    except Timeout:
        is_held = False
    else:
        is_held = True
    try:
        yield is_held
    finally:
        if is_held:
            with suppress(OSError):  # Windows deletes no file that is open; filelock then does
                path.unlink()
        lock.release()
