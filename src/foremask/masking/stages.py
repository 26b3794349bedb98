"""The stages of a masking, each in its own thread: decode, infer, pair, refine."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Self

from foremask.errors import Internal
from foremask.facts import Span
from foremask.masking.hinting import reduced
from foremask.masking.plan import WINDOW_BYTES, MaskingPlan
from foremask.masking.report import OnFrame, ProgressCounter, Statistics
from foremask.media.frames import Frame
from foremask.media.probe import frame_bytes
from foremask.media.reader import VideoReader
from foremask.types import Alpha, Image, Levels
from foremask.vision.prefetch import do_nothing, prefetch, tee
from foremask.vision.resample import as_alpha


class Stages:
    """Runs a plan up to the refined masks; leaving the block ends all its threads."""

    def __init__(self, plan: MaskingPlan, on_frame: OnFrame) -> None:
        self._plan = plan
        self._stop = threading.Event()
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(self._opened())
        self.cpu_s: dict[str, float] = {}
        self.statistics = Statistics()
        self.progress = ProgressCounter(plan.clip, plan.span, on_frame, self._newest, plan.work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # all stages at once, before each is waited for
        self._stack.close()

    def _newest(self) -> Alpha | None:
        newest = self._plan.work.newest
        return self.statistics.last if newest is None else as_alpha(newest)

    @property
    def warnings(self) -> list[str]:
        """What the reader found; complete when all frames are read."""
        return self._reader.warnings

    @property
    def end_pts(self) -> int | None:
        """Where the last frame of the span ends; known when all frames are read."""
        span = self._plan.span
        return span.end_pts if span and span.end_pts is not None else self._reader.end_pts

    def masked_frames(self) -> Iterator[tuple[Frame, Levels]]:
        """Each frame of the span with its mask, in full size and coded orientation, in order."""
        plan, queue_frames = self._plan, self._plan.queue_frames
        analysed, frames = self._decoded()
        counted = self.progress.counting(analysed)
        shown: Iterable[Image] = map(reduced, counted) if plan.is_huge else counted
        images = self._ahead(shown, queue_frames, "decode for the network")
        alphas = self._ahead(plan.masker(images), 2 * queue_frames, "infer")
        pairs = _paired(frames, alphas, plan.span, self.statistics)
        refined = plan.refiner(pairs)
        return self._ahead(refined, min(2, queue_frames), "refine", self.progress.report)

    def _decoded(self) -> tuple[Iterator[Frame], Iterator[Frame]]:
        """The decoded frames twice: for the network, and to be paired with their masks."""
        analysed = self._around_span(self._reader)
        if self._plan.decodes_once:
            return tee(analysed, self._stop, WINDOW_BYTES // frame_bytes(self._plan.clip))
        again = self._stack.enter_context(self._opened())
        return analysed, self._ahead(self._around_span(again), self._plan.queue_frames, "decode")

    def _opened(self) -> VideoReader:
        return VideoReader(self._plan.source, self._plan.options.excerpt)

    def _around_span(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames of the span and its context on each side; later ones are not decoded."""
        span = self._plan.span
        for frame in frames:
            if span is None or span.shows(frame.pts):
                yield frame
            elif frame.pts > span.first_pts:
                break

    def _ahead[T](
        self, items: Iterable[T], size: int, stage: str, meanwhile: Callable[[], None] = do_nothing
    ) -> Iterator[T]:
        return self._stack.enter_context(
            prefetch(items, size, stage, self.cpu_s, self._stop, meanwhile)
        )


def _paired(
    frames: Iterator[Frame], alphas: Iterable[Alpha], span: Span | None, statistics: Statistics
) -> Iterator[tuple[Frame, Alpha]]:
    """Each frame of the span with its mask.

    The loop is over masks: when the masker fails, its error surfaces here before the frames end.
    """
    for number, alpha in enumerate(alphas):
        frame = next(frames, None)
        if frame is None:
            raise Internal(f"the masker answered mask {number}, and there are {number} frames")
        if span is not None and not span.holds(frame.pts):
            continue
        statistics.note(alpha, frame.time_s)
        yield frame, alpha
    beyond = next(frames, None)
    if beyond is not None:
        raise Internal(f"the masker ended at frame {beyond.index}, before the video")
