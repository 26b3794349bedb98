"""Brings each mask back to its frame."""

from collections.abc import Iterable, Iterator

from foremask.errors import Internal
from foremask.facts import Span
from foremask.machine import stopwatch
from foremask.media.frames import Frame
from foremask.pipeline.progress import Statistics
from foremask.pipeline.stages.decode import around_span
from foremask.pipeline.threads import BoundedQueue
from foremask.pipeline.values import MaskedFrame, RoughMask


class Pair:
    """Yields each frame of the span with its mask, and counts both in ``statistics``.

    ``frames`` are those that `Decode` kept, or a second reader of the clip, if so many frames that
    wait for their masks would take too much memory (docs/adr/0057).
    """

    name = "pair"

    def __init__(
        self, frames: BoundedQueue[Frame] | Iterable[Frame], span: Span | None = None
    ) -> None:
        self._frames = frames
        self._span = span
        self.statistics = Statistics()

    def __call__(self, masks: Iterator[RoughMask], /) -> Iterator[MaskedFrame]:
        frames = self._wanted()
        # Take the mask before the frame, so that an error of the masker is raised first.
        for number, mask in enumerate(masks):
            frame = next(frames, None)
            if frame is None:
                raise Internal(f"the masker answered mask {number}, and there are {number} frames")
            self.statistics.note(mask, frame.time_s)
            yield MaskedFrame(frame, mask)
        beyond = next(frames, None)
        if beyond is not None:
            raise Internal(f"the masker ended at frame {beyond.index}, before the video")

    def _wanted(self) -> Iterator[Frame]:
        if isinstance(self._frames, BoundedQueue):
            return self._frames.read()
        return _decoded_again(iter(self._frames), self._span)


def _decoded_again(frames: Iterator[Frame], span: Span | None) -> Iterator[Frame]:
    around = around_span(frames, span)
    while True:
        with stopwatch.stage("decode again"):
            frame = next(around, None)
        if frame is None:
            return
        if span is None or span.holds(frame.pts):
            yield frame
