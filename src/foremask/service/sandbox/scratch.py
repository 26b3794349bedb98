"""The directories of jobs' files: a process's own, and a child's, whose inputs are links in it."""

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from foremask.service.sandbox.messages import Request, with_paths

MAX_FILES: Final = 64
"""A child may have so many files in its slot: an operation writes one or two."""
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


def _sweep(parent: Path, prefix: str) -> None:
    for lock in parent.glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("r+b") as handle:  # its process lives, or ends
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)


@dataclass(frozen=True, slots=True)
class JobDirectory:
    """What a child may read and what it may write, each a directory below ``parent``."""

    parent: Path

    def __post_init__(self) -> None:
        self.readable.mkdir(parents=True)
        self.writable.mkdir()

    @property
    def readable(self) -> Path:
        return self.parent / "in"

    @property
    def writable(self) -> Path:
        return self.parent / "out"

    @property
    def has_too_many_files(self) -> bool:
        """Whether the child has made more files than `MAX_FILES`; looks at no more than that."""
        try:
            with os.scandir(self.writable) as entries:
                return len(list(itertools.islice(entries, MAX_FILES + 1))) > MAX_FILES
        except FileNotFoundError:  # the slot is being closed
            return False

    def clear(self) -> None:
        """Empty both, but keep them: the child's rights are to these directories.

        Where they have more than `MAX_FILES`, the child must have ended before.
        """
        for each in (*self.readable.iterdir(), *self.writable.iterdir()):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()

    def stage[Q: Request[Any]](self, request: Q) -> Q:
        """The request with paths in here: inputs are links or copies, outputs are to be written."""
        number = itertools.count()

        def link(path: Path) -> Path:
            inside = self.readable / f"{next(number)}-{path.name}"
            try:
                os.link(path.resolve(), inside)
            except OSError:
                shutil.copyfile(path, inside)
            return inside

        linked = with_paths(request, "input", link)
        return with_paths(linked, "output", lambda path: self.writable / path.name)

    def collect(self, request: Request[Any]) -> None:
        """Move the outputs that exist to where the caller wants them; only plain files."""

        def move(path: Path) -> Path:
            written = self.writable / path.name
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(written.lstat().st_mode):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(written, path)
            return path

        with_paths(request, "output", move)
