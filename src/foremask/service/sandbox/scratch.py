"""A process's own directory for its jobs' files; a start removes those of killed processes."""

import contextlib
import fcntl
import itertools
import os
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
            with contextlib.suppress(OSError):
                remove_tree(own)


def remove_tree(directory: Path) -> None:
    """Remove a directory, however deep and full."""
    remove_contents(directory)
    directory.rmdir()


def remove_contents(top: Path) -> None:
    """Empty ``top`` without recursion or long paths: deep directories are moved up first."""
    number = itertools.count()
    while directories := _without_files(top):
        for directory in directories:
            for deeper in _without_files(directory):
                free = (top / f"moved-{each}" for each in number)
                deeper.rename(next(path for path in free if not path.exists()))
            directory.rmdir()


def _without_files(directory: Path) -> list[Path]:
    """Remove the files of a directory; return its subdirectories, which we can now change."""
    with os.scandir(directory) as entries:
        there = list(entries)
    directories = []
    for entry in there:
        if entry.is_dir(follow_symlinks=False):
            directories.append(Path(entry.path))
            directories[-1].chmod(0o700)  # who made it may have left itself no right
        else:
            Path(entry.path).unlink()
    return directories


def _sweep(parent: Path, prefix: str) -> None:
    for lock in parent.glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("r+b") as handle:  # its process lives, or ends
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(lock.parent)
