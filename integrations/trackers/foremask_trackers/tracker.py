"""What this package asks of a network: frames and prompts in, coarse masks out.

A tracker is a network that follows what a person marked, such as SAM 2. `tracked_masks` makes the
masks of a clip with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from foremask.types import Image, Levels
from foremask.vision.network.finder import Click

type Masks = Mapping[int, Levels]
"""The mask of each thing by its number, all on one grid of any size."""


@dataclass(frozen=True, slots=True)
class PromptBox:
    """A box around a thing, in shares of the picture's sides."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def overlap(self, other: "PromptBox") -> float:
        """The area that both boxes share, divided by the area that they cover together."""
        shared = PromptBox(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        return shared / max(1e-9, self.area + other.area - shared)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is marked of one thing on one frame. A thing begins with its first prompt."""

    thing: int
    points: tuple[Click, ...] = ()
    box: PromptBox | None = None


class Track(Protocol):
    """Follows the things of one clip over its frames, which come in time or all against it."""

    def advance(self, image: Image) -> Masks:
        """Go on to the next frame; return the masks of the things that have begun."""
        ...

    def prompt(self, prompts: Sequence[Prompt]) -> Masks:
        """Begin or correct things on the frame of the last `advance`; return all its masks."""
        ...


class Tracker(Protocol):
    @property
    def runtime(self) -> str:
        """The tracker's name and device, for the report."""
        ...

    def begin(self) -> Track: ...
