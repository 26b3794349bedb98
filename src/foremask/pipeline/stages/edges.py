"""Gives masks the size of their frames, along the edges in the picture."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from foremask.media.frames import Frame
from foremask.pipeline.values import MaskedFrame
from foremask.types import Alpha, Levels
from foremask.vision.matting.foreground import Behind, behind_edges
from foremask.vision.matting.guided_filter import refine
from foremask.vision.matting.outline import resolve_outlines


@dataclass(frozen=True, slots=True)
class Edges:
    """Resolves soft edges by colour, then upsamples each mask to its frame.

    With ``ahead_frames``, soft edges are resolved by the background that this many later frames
    and earlier ones show. With ``behind``, it gets that background, by frame index.
    """

    ahead_frames: int | None = None
    behind: dict[int, Behind] | None = None
    name: str = "edges"

    def __call__(self, masked: Iterable[MaskedFrame], /) -> Iterator[MaskedFrame]:
        for frame, alpha, backdrop in resolve_outlines(masked, self.ahead_frames):
            if self.behind is not None and backdrop is not None:
                self.behind[frame.index] = behind_edges(alpha, backdrop)
            coded = np.ascontiguousarray(frame.orientation.to_coded(alpha))
            yield MaskedFrame(frame, refine(coded, frame.luma()))


def sharpened(frame: Frame, alpha: Alpha) -> Levels:
    """One frame's mask as `Edges` makes it, without other frames; of coded orientation."""
    (masked,) = Edges()([MaskedFrame(frame, alpha)])
    return masked.mask


@dataclass(frozen=True, slots=True)
class Turn:
    """Turns stored masks, which have their frames' size, to the coded orientation."""

    name: str = "turn"

    def __call__(self, masked: Iterable[MaskedFrame], /) -> Iterator[MaskedFrame]:
        for frame, levels in masked:
            yield MaskedFrame(frame, np.ascontiguousarray(frame.orientation.to_coded(levels)))
