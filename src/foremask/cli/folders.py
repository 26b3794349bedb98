"""The folders that a model may use: no path that it names leads out of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foremask.cli.exits import Usage


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders in which files are read and written; each is there, and without links."""

    roots: tuple[Path, ...]

    @classmethod
    def named(cls, folders: list[Path]) -> Self:
        """Raises Usage for a path that is no folder."""
        for folder in folders:
            if not folder.is_dir():
                raise Usage(f"--folder {folder} is not a folder that is here")
        return cls(tuple(folder.resolve() for folder in folders))

    def inside(self, named: str) -> Path:
        """The path without links and ``..``; a relative one counts from the first folder.

        Raises Usage for one outside of the folders, whether or not there is such a file.
        """
        try:
            path = (self.roots[0] / named).resolve()
        except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL, a name too long
            raise Usage(f"{named!r} cannot be the path of a file") from None
        if not any(path.is_relative_to(root) for root in self.roots):
            allowed = ", ".join(map(str, self.roots))
            raise Usage(
                f"{named} is outside the folders that may be used: {allowed}. Name a file in one."
            )
        return path
