"""Runs the pipeline of a clip into writers."""

from collections.abc import Sequence

from foremask.facts import Report
from foremask.machine import stopwatch
from foremask.masking.report import report_of
from foremask.options import NO_MATTE, Matte
from foremask.pipeline.build import Masking
from foremask.pipeline.progress import OnProgress, ProgressCounter
from foremask.pipeline.stages.encode import Encode, FrameWriter


def write_masked(
    masking: Masking,
    writers: Sequence[FrameWriter],
    on_progress: OnProgress,
    matte: Matte = NO_MATTE,
) -> Report:
    """Mask the clip; pass each mask, changed by ``matte``, to all writers.

    Report the first writer's file; coverage and flicker are those of the masks as they were.
    """
    statistics = masking.pair.statistics
    progress = ProgressCounter(masking.clip, on_progress, masking.work, masking.decode, statistics)
    pipeline = masking.pipeline.at_end(Encode(writers, matte, masking.check_limits))
    with stopwatch.counting() as watch, pipeline.running(progress.report) as written_frames:
        for _ in written_frames:
            progress.wrote()
        masking.clip_file.check()
        with stopwatch.stage(Encode.name, is_of_pipeline=True):
            written, *_ = [writer.finish(masking.end) for writer in writers]
            cpu_s = watch.total()
    return report_of(
        masking.clip,
        masking.runtime,
        statistics,
        written,
        (*masking.reader.warnings, *masking.remarks),
        cpu_s,
        masking.spec.kind,
        pipeline.costs(watch.of_pipeline()),
    )
