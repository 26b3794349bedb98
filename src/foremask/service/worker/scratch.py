"""A worker's own directory for its steps' files; a start removes those of killed workers."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"


@contextmanager
def own_scratch(parent: Path) -> Generator[Path]:
    """A directory below ``parent`` during the block; those of ended processes are removed."""
    parent.mkdir(parents=True, exist_ok=True)
    gate = os.open(parent / ".steps", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)  # nobody sweeps between another's mkdir and its lock
        _sweep(parent)
        own = Path(tempfile.mkdtemp(prefix="steps-", dir=parent))
        lock = os.open(own / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(gate)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


def _sweep(parent: Path) -> None:
    for left in parent.glob("steps-*"):
        try:
            lock = os.open(left / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # of a version that had no locks
            shutil.rmtree(left, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its worker lives
        else:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)
