"""Writes each masked frame, by any number of writers."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Protocol

from foremask.facts import Written
from foremask.machine.stopwatch import ENCODE
from foremask.media.frames import Frame
from foremask.options import NO_MATTE, Matte
from foremask.pipeline.values import MaskedFrame
from foremask.types import Levels
from foremask.vision.matting.matte import adjusted


class FrameWriter(Protocol):
    """Writes masks of coded orientation; ``end`` is the last frame's end in seconds."""

    def write(self, mask: Levels, frame: Frame) -> None: ...
    def finish(self, end: Fraction | None) -> Written: ...


class Encode:
    """Passes each mask, changed by ``matte``, to all ``writers``, and yields it unchanged.

    ``check`` is called with each frame after it is written.
    """

    name = ENCODE

    def __init__(
        self,
        writers: Sequence[FrameWriter],
        matte: Matte = NO_MATTE,
        check: Callable[[Frame], None] = lambda _: None,
    ) -> None:
        self._writers = writers
        self._matte = matte
        self._check = check

    def __call__(self, masked: Iterator[MaskedFrame], /) -> Iterator[MaskedFrame]:
        for each in masked:
            levels = adjusted(each.mask, self._matte)
            for writer in self._writers:
                writer.write(levels, each.frame)
            self._check(each.frame)
            yield each
