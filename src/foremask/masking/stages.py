"""Runs a plan in stages, which run in threads: decode, infer, refine and write."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from typing import Protocol, Self

import numpy as np

from foremask.errors import Internal
from foremask.facts import Report, Span, Written
from foremask.machine import stopwatch
from foremask.machine.stopwatch import DECODE, ENCODE
from foremask.masking.hinting import shown
from foremask.masking.plan import WINDOW_BYTES, MaskingPlan, RoughMask, queue_frames
from foremask.masking.report import OnProgress, ProgressCounter, Statistics, report_of
from foremask.media.frames import Frame
from foremask.media.probe import frame_bytes
from foremask.media.reader import VideoReader
from foremask.options import NO_MATTE, Matte
from foremask.types import Alpha, Levels
from foremask.vision.matting.matte import adjusted
from foremask.vision.prefetch import do_nothing, prefetch, tee
from foremask.vision.resample import as_alpha


class FrameWriter(Protocol):
    """Writes masks of coded orientation; ``end`` is the last frame's end in seconds."""

    def write(self, mask: Levels, frame: Frame) -> None: ...
    def finish(self, end: Fraction | None) -> Written: ...


def run_plan(
    plan: MaskingPlan,
    writers: Sequence[FrameWriter],
    on_progress: OnProgress,
    matte: Matte = NO_MATTE,
) -> Report:
    """Mask the clip; pass each mask, changed by ``matte``, to all writers.

    Report the first writer's file; coverage and flicker are those of the masks as they were.
    """
    with (
        stopwatch.counting() as watch,
        stopwatch.stage(ENCODE),
        _Stages(plan, on_progress) as stages,
    ):
        for frame, mask in stages.masked_frames():
            adjusted_mask = adjusted(mask, matte)
            for writer in writers:
                writer.write(adjusted_mask, frame)
            plan.check_limits(frame)
            stages.progress.wrote()
        written, *_ = [writer.finish(stages.end) for writer in writers]
        cpu_s = watch.total()
    return report_of(
        plan.clip,
        plan.runtime,
        stages.statistics,
        written,
        (*stages.reader.warnings, *plan.remarks),
        cpu_s,
        plan.spec.kind,
    )


class _Stages:
    """Runs decoding, inference and refinement in threads; leaving the block ends them."""

    def __init__(self, plan: MaskingPlan, on_progress: OnProgress) -> None:
        self._plan = plan
        self._stop = threading.Event()
        self._stack = ExitStack()
        self.reader = self._stack.enter_context(self._opened())
        self.statistics = Statistics()
        self.progress = ProgressCounter(plan.clip, plan.span, on_progress, self._newest, plan.work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # stops all threads; `close` then joins them
        self._stack.close()

    def _newest(self) -> Alpha | None:
        newest = self._plan.work.newest
        if newest is not None:
            return as_alpha(newest)
        last = self.statistics.last
        if last is None or last.dtype == np.float32:
            return last
        return as_alpha(last[::8, ::8])

    @property
    def end(self) -> Fraction | None:
        """The last written frame's end in seconds, known after all frames are read."""
        span = self._plan.span
        if span is None or span.end_pts is None:
            return self.reader.end
        return span.end_pts * self.reader.time_base

    def masked_frames(self) -> Iterator[tuple[Frame, Levels]]:
        plan = self._plan
        ahead = queue_frames(plan.clip)
        analysed, frames = self._decoded()
        counted = self.progress.counting(analysed)
        images = self._ahead(map(shown, counted), ahead, DECODE)
        masks = self._ahead(plan.masker(images), 2 * ahead, "decide")
        pairs = _paired(frames, masks, plan.span, self.statistics)
        refined = plan.refiner(pairs)
        return self._ahead(refined, min(2, ahead), "edges", self.progress.report)

    def _decoded(self) -> tuple[Iterator[Frame], Iterator[Frame]]:
        analysed = self._around_span(self.reader)
        if self._plan.decodes_once:
            size = max(1, WINDOW_BYTES // frame_bytes(self._plan.clip))
            return tee(analysed, self._stop, size)
        again = self._stack.enter_context(self._opened())
        return analysed, self._ahead(
            self._around_span(again), queue_frames(self._plan.clip), f"{DECODE} again"
        )

    def _opened(self) -> VideoReader:
        return VideoReader(self._plan.source, self._plan.spec.excerpt)

    def _around_span(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames of the span and its context; decode no later frames."""
        span = self._plan.span
        for frame in frames:
            if span is None or span.shows(frame.pts):
                yield frame
            elif frame.pts > span.first_pts:
                break

    def _ahead[T](
        self, items: Iterable[T], size: int, stage: str, meanwhile: Callable[[], None] = do_nothing
    ) -> Iterator[T]:
        return self._stack.enter_context(prefetch(items, size, stage, self._stop, meanwhile))


def _paired(
    frames: Iterator[Frame], masks: Iterable[RoughMask], span: Span | None, statistics: Statistics
) -> Iterator[tuple[Frame, RoughMask]]:
    """Pair masks with frames, and skip pairs outside ``span``."""
    # Take the mask before the frame, so that an error of the masker is raised first.
    for number, mask in enumerate(masks):
        frame = next(frames, None)
        if frame is None:
            raise Internal(f"the masker answered mask {number}, and there are {number} frames")
        if span is not None and not span.holds(frame.pts):
            continue
        statistics.note(mask, frame.time_s)
        yield frame, mask
    beyond = next(frames, None)
    if beyond is not None:
        raise Internal(f"the masker ended at frame {beyond.index}, before the video")
