"""Brings masks from the network's grid to the full size of their frames."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from foremask.media.frames import Frame
from foremask.types import Alpha, Levels
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outlines


class Refiner(Protocol):
    """Turns upright alphas into levels of the size and coded orientation of their frames.

    The order stays. A refiner may read ahead.
    """

    def __call__(
        self, pairs: Iterable[tuple[Frame, Alpha]], /
    ) -> Iterator[tuple[Frame, Levels]]: ...


def refine_edges(
    pairs: Iterable[tuple[Frame, Alpha]], ahead_frames: int | None = None
) -> Iterator[tuple[Frame, Levels]]:
    """The standard `Refiner`: outlines follow the colour edges, then the full-size detail.

    ``ahead_frames`` as in `resolve_outlines`.
    """
    for frame, alpha in resolve_outlines(pairs, ahead_frames):
        coded = np.ascontiguousarray(frame.orientation.to_coded(alpha))
        yield frame, refine(coded, frame.luma())
