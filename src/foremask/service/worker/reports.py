"""The report of a job: of one masking, of one encoding, or of all the parts that were joined."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from foremask.facts import Report, Written
from foremask.service.jobs.step_facts import JobReport


def report_of(done: Report | Written) -> JobReport:
    """What a child has reported, field by field."""
    return msgspec.convert(done, JobReport, from_attributes=True)


def joined_report(parts: Sequence[JobReport], joined: Written) -> JobReport:
    """Sums and means over the parts' frames, and what was written."""
    frames = sum(part.frames_out for part in parts)

    def mean(values: Sequence[float | UnsetType]) -> float | UnsetType:
        known = [value for value in values if value is not UNSET]
        if len(known) < len(parts):
            return UNSET
        weights = (part.frames_out for part in parts)
        return sum(value * n for value, n in zip(known, weights, strict=True)) / max(1, frames)

    warnings = [each for part in parts for each in part.warnings or ()]
    return msgspec.structs.replace(
        parts[0],
        frames_in=sum(part.frames_in or 0 for part in parts),
        coverage=mean([part.coverage for part in parts]),
        flicker=mean([part.flicker for part in parts]),
        stage_cpu_s=_summed_cpu_s(parts),
        strip=tuple(row for part in parts for row in part.strip or ()),
        warnings=tuple(dict.fromkeys(warnings)),
        segments=len(parts),
        frames_out=joined.frames_out,
        duration_s=joined.duration_s,
        duration_drift_ms=joined.duration_drift_ms,
        audio=joined.audio,
        sound_warnings=joined.sound_warnings,
        sha256=joined.sha256,
        bytes=joined.bytes,
    )


def _summed_cpu_s(parts: Sequence[JobReport]) -> dict[str, float] | UnsetType:
    known = [part.stage_cpu_s for part in parts if part.stage_cpu_s is not UNSET]
    if len(known) < len(parts):
        return UNSET
    stages = sorted({stage for costs in known for stage in costs})
    return {stage: sum(costs.get(stage, 0.0) for costs in known) for stage in stages}
