"""Makes the report of a masking."""

from collections.abc import Iterable, Iterator

from foremask.facts import Clip, Report, StageCost, Written
from foremask.options import ResultKind
from foremask.pipeline.progress import Statistics


def report_of(
    clip: Clip,
    runtime: str,
    statistics: Statistics,
    written: Written,
    warnings: Iterable[str],
    cpu_s: dict[str, float],
    kind: ResultKind,
    pipeline: tuple[StageCost, ...] = (),
) -> Report:
    frames = len(statistics.strip)
    all_warnings = (*clip.warnings, *warnings, *written.sound_warnings, *_hdr_warning(clip, kind))
    return Report(
        frames_in=frames,
        frames_out=written.frames_out,
        duration_s=written.duration_s,
        fps=clip.fps,
        duration_drift_ms=written.duration_drift_ms,
        audio=written.audio,
        warnings=tuple(dict.fromkeys(all_warnings)),
        coverage=sum(coverage for _, coverage, _ in statistics.strip) / max(1, frames),
        flicker=sum(change for _, _, change in statistics.strip) / max(1, frames - 1),
        strip=tuple((round(t, 4), round(c, 4), round(d, 4)) for t, c, d in statistics.strip),
        runtime=runtime,
        stage_cpu_s={stage: round(cost, 3) for stage, cost in cpu_s.items()},
        sha256=written.sha256,
        bytes=written.bytes,
        kind=kind.value,
        pipeline=pipeline,
    )


def _hdr_warning(clip: Clip, kind: ResultKind) -> Iterator[str]:
    if clip.hdr:
        done = f"the {kind} is tone-mapped to BT.709"
        if kind is ResultKind.MASK:
            done = "it was tone-mapped for the network only"
        yield f"the source is HDR ({clip.hdr}); {done}"
