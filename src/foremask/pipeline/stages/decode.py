"""Reads the frames of a clip."""

from collections.abc import Iterator

from foremask.facts import Span
from foremask.media.frames import Frame
from foremask.pipeline.images import shown
from foremask.pipeline.threads import BoundedQueue
from foremask.types import Image


class Decode:
    """Yields each frame of the ``span`` and its context as the network sees it.

    The frames of the span go to ``kept`` too, if it is given, to wait for their masks there. If
    the queue is full, reading waits. ``read`` counts the frames of the span, and ``ended`` says
    that all are read.
    """

    name = "decode"

    def __init__(self, span: Span | None = None, kept: BoundedQueue[Frame] | None = None) -> None:
        self._span = span
        self._kept = kept
        self.read = 0
        self.ended = False

    def __call__(self, frames: Iterator[Frame], /) -> Iterator[Image]:
        try:
            for frame in around_span(frames, self._span):
                if self._span is None or self._span.holds(frame.pts):
                    self.read += 1
                    if self._kept is not None:
                        self._kept.put(frame)
                yield shown(frame)
            self.ended = True
        finally:
            if self._kept is not None:
                self._kept.end()


def around_span(frames: Iterator[Frame], span: Span | None) -> Iterator[Frame]:
    """Yield the frames of the span and its context; decode no later frames."""
    for frame in frames:
        if span is None or span.shows(frame.pts):
            yield frame
        elif frame.pts > span.first_pts:
            break
