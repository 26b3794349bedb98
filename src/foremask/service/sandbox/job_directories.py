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
from foremask.service.sandbox.scratch import remove_contents

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
        return len(_first_entries(self.writable)) > MAX_FILES

    @property
    def is_a_mess(self) -> bool:
        """Whether there is more than an honest child leaves."""
        left = _first_entries(self.writable)
        return len(left) > MAX_FILES or any(each.is_dir(follow_symlinks=False) for each in left)

    def clear(self) -> None:
        """Empty it, however full it is. Of a mess, the child must have ended before."""
        remove_contents(self.readable)
        remove_contents(self.writable)

    def stage[Q: Request[Any]](self, request: Q) -> Q:
        """The request with paths in here: inputs are links, outputs are files to be written.

        An input on another disk is copied.
        """
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


def _first_entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(itertools.islice(entries, MAX_FILES + 1))
    except FileNotFoundError:  # the slot is being closed
        return []
