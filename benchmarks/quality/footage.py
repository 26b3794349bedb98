"""Clips without a truth: a folder of videos, of which only steadiness can be measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.quality.streams import VIDEOS, frames_of, frames_per_second
from foremask.types import Rgb


@dataclass(frozen=True, slots=True)
class Footage:
    """A video; of its frames, the first ``most_frames`` count, since they are all held in memory."""

    path: Path
    most_frames: int = 300

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def fps(self) -> float:
        """Its average frame rate."""
        return frames_per_second(self.path)

    def frames(self) -> Iterator[Rgb]:
        """The first frames in order."""
        return islice(frames_of(self.path), self.most_frames)


def footage_in(folder: Path) -> list[Footage]:
    """All videos of a folder, by name."""
    return [Footage(path) for path in sorted(folder.iterdir()) if path.suffix in VIDEOS]
