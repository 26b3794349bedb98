"""The directory of a child's current job: inputs are links in it, outputs are moved out of it."""

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from foremask.service.sandbox.operations import Request, fields_of, paths_of

MAX_FILES: Final = 64
"""A child may have so many files in its slot: an operation writes one or two."""


@dataclass(frozen=True, slots=True)
class JobDirectory:
    """Two directories that last as long as we hold their lock."""

    directory: Path
    lock: int

    @property
    def readable_dir(self) -> Path:
        return self.directory / "in"

    @property
    def writable_dir(self) -> Path:
        return self.directory / "out"

    def close(self) -> None:
        """Remove it; in a thread, for a child may have left a great deal."""
        remove_tree(self.directory)
        os.close(self.lock)


def stage[Q: Request[Any]](job_directory: JobDirectory, request: Q) -> Q:
    """The request with paths in the directory: inputs are links, outputs are files to be written.

    An input on another disk is copied.
    """
    number = itertools.count()

    def link(path: Path) -> Path:
        inside = job_directory.readable_dir / f"{next(number)}-{path.name}"
        try:
            os.link(path.resolve(), inside)
        except OSError:
            shutil.copyfile(path, inside)
        return inside

    def place(path: Path) -> Path:
        return job_directory.writable_dir / path.name

    changes: dict[str, Path | tuple[Path, ...]] = {}
    for mark, move in (("input", link), ("output", place)):
        for name in fields_of(type(request), mark):
            match getattr(request, name):
                case Path() as path:
                    changes[name] = move(path)
                case None:
                    pass
                case paths:
                    changes[name] = tuple(move(path) for path in paths)
    return msgspec.structs.replace(request, **changes)


def collect(job_directory: JobDirectory, request: Request[Any]) -> None:
    """Move the outputs that exist to where the caller wants them; only plain files."""
    for paths in paths_of(request, "output").values():
        for path in paths:
            written = job_directory.writable_dir / path.name
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(written.lstat().st_mode):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(written, path)


def has_too_many_files(job_directory: JobDirectory) -> bool:
    """Whether the child has made more files than `MAX_FILES`; looks at no more than that."""
    try:
        with os.scandir(job_directory.writable_dir) as entries:
            return next(itertools.islice(entries, MAX_FILES, None), None) is not None
    except FileNotFoundError:  # the slot is being closed
        return False


def empty(job_directory: JobDirectory) -> bool:
    """Remove the files of a job; False where there are more than an honest child leaves.

    Then the child must have ended before `clear` removes the rest.
    """
    for directory in (job_directory.readable_dir, job_directory.writable_dir):
        with os.scandir(directory) as entries:
            left = list(itertools.islice(entries, MAX_FILES + 1))
        if len(left) > MAX_FILES or any(entry.is_dir(follow_symlinks=False) for entry in left):
            return False
        for entry in left:
            Path(entry.path).unlink()
    return True


def clear(job_directory: JobDirectory) -> None:
    """Empty the directory, however full it is; nobody may still write to it."""
    for directory in (job_directory.readable_dir, job_directory.writable_dir):
        _remove_contents(directory)


def remove_tree(directory: Path) -> None:
    """Remove a directory, however deep and full; nothing when it is not there."""
    if directory.is_dir():
        _remove_contents(directory)
        directory.rmdir()


def _remove_contents(top: Path) -> None:
    """Empty ``top`` without recursion or long paths: deep directories are moved up first."""
    number = itertools.count()
    while directories := _without_files(top):
        for directory in directories:
            for deeper in _without_files(directory):
                deeper.rename(_free_name(top, number))
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


def _free_name(top: Path, number: Iterator[int]) -> Path:
    return next(path for each in number if not (path := top / f"moved-{each}").exists())


def new_job_directory(scratch: Path) -> JobDirectory:
    """A slot below ``scratch``."""
    directory = Path(tempfile.mkdtemp(prefix="slot-", dir=scratch)).resolve()
    lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    job_directory = JobDirectory(directory, lock)
    job_directory.readable_dir.mkdir()
    job_directory.writable_dir.mkdir()
    return job_directory


def sweep(scratch: Path) -> None:
    """Remove the slots of processes that were killed."""
    for lock in scratch.glob("slot-*/lock"):
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            remove_tree(lock.parent)
        finally:
            os.close(handle)
