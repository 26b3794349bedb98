"""A tracker without a network: a thing is all pixels of the colours that its points are on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from foremask_trackers.tracker import Masks, Prompt

from foremask.types import Image, Levels, Rgb

SIDE_PX = 128
ALIKE = 40  # the largest difference of a channel between pixels of one colour


@dataclass(slots=True)
class _Coloured:
    colours: list[Rgb] = field(default_factory=list)
    others: list[Rgb] = field(default_factory=list)

    def mask(self, rgb: Rgb) -> Levels:
        inside = _any_of(rgb, self.colours) & ~_any_of(rgb, self.others)
        return np.where(inside, 255, 0).astype(np.uint8)


def _any_of(rgb: Rgb, colours: list[Rgb]) -> np.ndarray:
    result = np.zeros(rgb.shape[:2], np.bool_)
    for colour in colours:
        result |= np.abs(rgb.astype(int) - colour.astype(int)).max(axis=2) < ALIKE
    return result


class ColourTrack:
    def __init__(self, seen: list[Image]) -> None:
        self._seen = seen
        self._things: dict[int, _Coloured] = {}
        self._rgb = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)

    def advance(self, image: Image) -> Masks:
        self._seen.append(image)
        self._rgb = image.rgb(SIDE_PX, SIDE_PX)
        return self._masks()

    def prompt(self, prompts: Sequence[Prompt]) -> Masks:
        for prompt in prompts:
            thing = self._things.setdefault(prompt.thing, _Coloured())
            if prompt.box is not None:
                box = prompt.box
                middle = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
                thing.colours.append(self._at(*middle))
            for point in prompt.points:
                colours = thing.colours if point.inside else thing.others
                colours.append(self._at(point.x, point.y))
        return self._masks()

    def _at(self, x: float, y: float) -> Rgb:
        row, column = (min(SIDE_PX - 1, int(share * SIDE_PX)) for share in (y, x))
        return np.array(self._rgb[row, column])

    def _masks(self) -> Masks:
        return {number: thing.mask(self._rgb) for number, thing in self._things.items()}


class ColourTracker:
    """``seen`` has the images that each track was given, in order."""

    runtime = "colours"

    def __init__(self) -> None:
        self.seen: list[list[Image]] = []

    def begin(self) -> ColourTrack:
        self.seen.append([])
        return ColourTrack(self.seen[-1])
