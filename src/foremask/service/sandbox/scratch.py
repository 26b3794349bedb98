"""A process's own directory for its jobs' files; a start removes those of killed processes."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOCK: Final = "lock"


@contextmanager
def own_directory(parent: Path, prefix: str) -> Generator[Path]:
    """A directory below ``parent`` during the block; those of ended processes are removed."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f".{prefix}").open("ab") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # nobody sweeps between another's mkdir and its lock
        _sweep(parent, prefix)
        own = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
        lock = (own / _LOCK).open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def empty(directory: Path) -> None:
    """Remove what is in it, but not itself: the rights of a child are those to this directory."""
    for each in directory.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _sweep(parent: Path, prefix: str) -> None:
    for lock in parent.glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("r+b") as handle:  # its process lives, or ends
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)
