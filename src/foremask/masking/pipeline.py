"""The one entry to masking: a clip goes in, a mask video comes out."""

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from foremask.facts import Report, Span, Written
from foremask.masking.outputs import check_output, written_whole
from foremask.masking.plan import ImageMasker, MaskingPlan, Refiner, checked_clip, opened_plan
from foremask.masking.report import OnFrame, Progress, report_of
from foremask.masking.stages import Stages
from foremask.media.frames import Frame
from foremask.media.writer import MaskWriter
from foremask.options import MaskOptions
from foremask.types import Levels
from foremask.vision.matting.matte import adjusted


class FrameWriter(Protocol):
    """Takes frames with masks of their size and coded orientation, then the last one's end."""

    def write(self, mask: Levels, frame: Frame) -> None: ...
    def finish(self, end_pts: int | None, time_base: Fraction) -> Written: ...


def no_progress(_: Progress) -> None:
    """Show no progress."""


def mask_video(
    source: Path,
    target: Path,
    options: MaskOptions = MaskOptions(),  # noqa: B008  (frozen)
    on_frame: OnFrame = no_progress,
    span: Span | None = None,
    masker: ImageMasker | None = None,
    refiner: Refiner | None = None,
    *,
    replace: bool = False,
) -> Report:
    """Write to ``target`` a video in which white is the foreground of ``source``.

    ``on_frame`` is called whenever there is progress, in this thread, and cancels by raising. With
    a ``span``, ``source`` is what `segments.cut` made for it, and ``target`` becomes a part for
    `segments.join`. ``masker`` and ``refiner`` replace the network and the refinement of edges.

    Raises the errors of `probe` before anything is written, PresetUnsuitable where the preset
    cannot carry the clip, ModelUnavailable without weights, CorruptVideo where the source breaks
    later, OutputFailed where ``target`` is ``source``, or exists and ``replace`` is not set.
    ``target`` appears when it is complete: until then, and after any error, it is unchanged.
    """
    check_output(target, source, replace=replace)
    clip = checked_clip(source, options)
    with (
        written_whole(target, replace=replace) as part,
        opened_plan(source, clip, options, span, masker, refiner) as plan,
    ):
        excerpt, is_part = options.excerpt, span is not None
        writer = MaskWriter(part, options.preset, plan.clip, source, part=is_part, excerpt=excerpt)
        with writer:
            return run_plan(plan, [writer], on_frame)


def run_plan(plan: MaskingPlan, writers: Sequence[FrameWriter], on_frame: OnFrame) -> Report:
    """Mask the clip of ``plan`` into all ``writers``; the report is of the first."""
    with Stages(plan, on_frame) as stages:
        masked_frames = stages.masked_frames()
        started = time.thread_time()
        for frame, levels in masked_frames:
            mask = adjusted(levels, plan.options.matte)
            for writer in writers:
                writer.write(mask, frame)
            plan.check_limits(frame)
            stages.progress.wrote()
        written, *_ = [writer.finish(stages.end_pts, plan.time_base) for writer in writers]
        stages.cpu_s["encode"] = time.thread_time() - started
    return report_of(
        plan.clip, plan.runtime, stages.statistics, written, stages.warnings, stages.cpu_s
    )
