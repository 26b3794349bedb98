"""The directory of a child's current job: inputs are links in it, outputs are moved out of it."""

import contextlib
import itertools
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from foremask.service.sandbox.operations import Request, with_paths
from foremask.service.sandbox.scratch import empty

MAX_FILES: Final = 64
"""A child may have so many files in its slot: an operation writes one or two."""


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
        """Empty it, however full it is; over `MAX_FILES`, its child must have ended first."""
        empty(self.readable)
        empty(self.writable)

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
