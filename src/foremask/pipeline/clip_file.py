"""Tells whether a clip is still the file that it was when its run began."""

from dataclasses import dataclass, field
from pathlib import Path

from foremask.errors import CorruptVideo


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A file as it is now. One that is deleted later has not changed: what reads it goes on."""

    path: Path
    _facts: tuple[int, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_facts", _facts_of(self.path))

    @property
    def has_changed(self) -> bool:
        """Whether the file was written to or replaced."""
        return _facts_of(self.path) not in (self._facts, None)

    def check(self) -> None:
        """Raise CorruptVideo if the file has changed: its mask could be that of two clips."""
        if self.has_changed:
            raise CorruptVideo(
                "The clip changed while it was masked: something writes or has replaced the file.",
                cli_remedy="Run the same command again when the clip is whole.",
            )


def _facts_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
