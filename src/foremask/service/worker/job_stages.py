"""What is done in each step of a job: ingest, segment, join; each leaves objects and returns facts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from foremask.errors import ObjectLost, TimedOut
from foremask.options import REENCODE_ONLY, Preset
from foremask.service.jobs import steps
from foremask.service.jobs.steps import Step
from foremask.service.observability import metrics
from foremask.service.observability.traces import span
from foremask.service.sandbox.messages import Progress
from foremask.service.storage.objects import check_free, strip_key
from foremask.service.worker.transfers import background_transfers
from foremask.service.worker.worker_context import WorkerContext

PROBED_ALIKE = ("container", "codec", "width", "height")


@dataclass(slots=True)
class StepProgress:
    """How far a step is; a lease is renewed only while it moves."""

    frames_done: int = 0
    moved_at: float = field(default_factory=time.monotonic)

    def move(self) -> None:
        """Something got done."""
        self.moved_at = time.monotonic()

    async def note_frames(self, progress: Progress) -> None:
        """The media process has done so many frames."""
        if progress.frames_done != self.frames_done:
            self.frames_done = progress.frames_done
            self.move()


Stage = Callable[[WorkerContext, Step, Path, StepProgress], Awaitable[dict[str, object]]]


async def ingest(
    work: WorkerContext, step: Step, scratch: Path, advance: StepProgress
) -> dict[str, object]:
    """Fetch the clip, judge all of it, store it, and cut it where it is long."""
    if step.quality == REENCODE_ONLY:
        return {"clip": step.clip, "source_key": step.source_key, "segments": [{"whole": True}]}
    source = scratch / "source"
    size = (step.clip or {}).get("size_bytes", 0)
    check_free(scratch, 2 * size, work.free_reserve)
    work.objects.check_free(2 * size, work.free_reserve)
    if step.source_key is not None:
        with span("load"):
            await work.objects.get(step.source_key, source)
    elif step.video_url is not None:
        with span("fetch"), source.open("wb") as file:
            await work.outbound.download(
                step.video_url,
                file,
                max_bytes=work.limits.max_bytes,
                deadline_s=min(work.timing.download_s, _left_s(work, step)),
                on_bytes=lambda _done, _total: advance.move(),
                owner=str(step.token),
            )
    else:
        raise ObjectLost("the job's source is no longer known")
    advance.move()
    media = work.media.for_step(scratch, str(step.token))
    with span("probe"):
        clip = await media.probe(source, step.preset, _left_s(work, step))
    advance.move()
    prefix = f"{step.name.job}/{step.attempt}"
    source_key = step.source_key or f"sources/{prefix}/source"
    async with background_transfers() as transfers:
        if step.source_key is None:
            await transfers.begin(_stored, work, source_key, source)
        with span("plan"):
            spans = await media.plan(source, _left_s(work, step))
        advance.move()
        segments: list[dict[str, object]] = [{"whole": True}]
        if len(spans) > 1:
            segments = []
            with span("cut", segments=len(spans)):
                for number, part in enumerate(spans):
                    target = scratch / f"segment-{number}"
                    await media.cut(source, part, target, _left_s(work, step))
                    key = f"segments/{prefix}/{number}"
                    await transfers.begin(_stored_and_removed, work, key, target)
                    advance.move()
                    segments.append({"span": part, "source_key": key})
    advance.move()
    if _changed(step.clip, clip):
        clip["warnings"] = [*clip.get("warnings", ()), "the file changed after it was probed"]
    return {"clip": clip, "source_key": source_key, "segments": segments}


async def segment(
    work: WorkerContext, step: Step, scratch: Path, advance: StepProgress
) -> dict[str, object]:
    """Mask a span, or all of a short clip, in which case the mask is the result."""
    whole = bool(step.args.get("whole"))
    source, target = scratch / "source", scratch / f"mask{Preset(step.preset).suffix}"
    with span("load"):
        await work.objects.get(_source_key(step) if whole else step.args["source_key"], source)
    advance.move()
    if step.quality == REENCODE_ONLY:
        media = work.media.for_step(scratch, str(step.token))
        with span("recode", preset=step.preset):
            report = await media.recode(
                source, target, step.preset, _left_s(work, step), advance.note_frames
            )
        return await _store_result(work, step, target, report)
    with span("mask", preset=step.preset, quality=step.quality) as masking_span:
        began = time.monotonic()
        report = await work.media.for_step(scratch, str(step.token)).mask(
            source,
            target,
            preset=step.preset,
            quality=step.quality,
            span=None if whole else step.args["span"],
            wall_clock_s=_left_s(work, step),
            on_progress=advance.note_frames,
        )
        masking_span.note(frames=report["frames_out"])
    _count(step.quality, report, time.monotonic() - began)
    advance.move()
    if whole:
        return await _store_result(work, step, target, report)
    key = f"parts/{step.name.job}/{step.name.number}/{step.attempt}"
    with span("store"):
        await work.objects.put(key, target)
    return {"key": key, "frames": report["frames_out"], "report": report}


async def join(
    work: WorkerContext, step: Step, scratch: Path, advance: StepProgress
) -> dict[str, object]:
    """Make one mask of every segment's, with the sound of the source."""
    results = await steps.segment_results(work.database, step.name.job)
    suffix = Preset(step.preset).suffix
    source, target = scratch / "source", scratch / f"mask{suffix}"
    parts = []
    with span("load"):
        async with background_transfers() as transfers:
            await transfers.begin(work.objects.get, _source_key(step), source)
            for number, result in enumerate(results):
                parts.append(scratch / f"part-{number}{suffix}")
                await transfers.begin(work.objects.get, result["key"], parts[-1])
                advance.move()
    media = work.media.for_step(scratch, str(step.token))
    with span("write"):
        joined = await media.join(parts, source, target, step.preset, _left_s(work, step))
    advance.move()
    reports = [result["report"] for result in results]
    return await _store_result(work, step, target, _summed(reports) | joined)


STAGES: dict[str, Stage] = {"ingest": ingest, "segment": segment, "join": join}


async def _store_result(
    work: WorkerContext, step: Step, target: Path, report: dict[str, Any]
) -> dict[str, object]:
    # The attempt is in the key: a stale worker that wakes up late writes beside, not over.
    attempt = f"{step.name.stage}-{step.attempt}"
    key = f"results/{step.name.job}/{attempt}/{step.name.job}{target.suffix}"
    strip = report.pop("strip", None)
    with span("store"):
        report["bytes"] = (await work.objects.put(key, target)).size
        if strip:
            strip_file = target.with_name("strip.json")
            strip_file.write_bytes(msgspec.json.encode(strip))
            await work.objects.put(strip_key(key), strip_file)
    warnings = [*(step.clip or {}).get("warnings", ()), *report.get("warnings", ())]
    report["warnings"] = list(dict.fromkeys(warnings))
    return {"result_key": key, "report": report, "frames": report["frames_out"]}


async def _stored(work: WorkerContext, key: str, path: Path) -> None:
    with span("store"):
        await work.objects.put(key, path)


async def _stored_and_removed(work: WorkerContext, key: str, path: Path) -> None:
    """Store the file, and make room for the next."""
    await work.objects.put(key, path)
    await asyncio.to_thread(path.unlink)


def _count(quality: str, report: dict[str, Any], seconds: float) -> None:
    """Add a masking to the metrics; the report is a child's, so its words are looked up first."""
    metrics.FRAMES.labels(quality).inc(max(0, int(report["frames_out"])))
    metrics.MASKING_SECONDS.labels(quality).inc(seconds)
    for part, cost_s in report.get("stage_cpu_s", {}).items():
        if part in metrics.CPU_PARTS:
            metrics.MASKING_CPU_SECONDS.labels(part).inc(max(0.0, float(cost_s)))


def _summed(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """What the parts' reports say together: sums, and means over frames."""
    frames = sum(report["frames_out"] for report in reports)
    summed: dict[str, Any] = dict(reports[0])
    for name in ("frames_in", "frames_out"):
        summed[name] = sum(report[name] for report in reports)
    for name in ("coverage", "flicker"):
        if all(name in report for report in reports):
            weighed = sum(report[name] * report["frames_out"] for report in reports)
            summed[name] = weighed / max(1, frames)
    if all("stage_cpu_s" in report for report in reports):
        stages = {stage for report in reports for stage in report["stage_cpu_s"]}
        summed["stage_cpu_s"] = {
            stage: sum(report["stage_cpu_s"].get(stage, 0.0) for report in reports)
            for stage in sorted(stages)
        }
    summed["strip"] = [row for report in reports for row in report.get("strip", ())]
    warnings = [each for report in reports for each in report.get("warnings", ())]
    summed["warnings"] = list(dict.fromkeys(warnings))
    summed["segments"] = len(reports)
    return summed


def _source_key(step: Step) -> str:
    if step.source_key is None:
        raise ObjectLost("the job's source is no longer stored")
    return step.source_key


def _left_s(work: WorkerContext, step: Step) -> float:
    """What is left of the job's time. Raises TimedOut when that is nothing."""
    used_s = (datetime.now(UTC) - step.deadline_from).total_seconds()
    if used_s >= work.timing.wall_clock_s:
        raise TimedOut(
            f"the job was not done after {work.timing.wall_clock_s:.0f} s, the longest that one may take",
            limit=work.timing.wall_clock_s,
            actual=used_s,
        )
    return work.timing.wall_clock_s - used_s


def _changed(probed: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    """Whether the origin sent another file than the one that was probed at POST."""
    return probed is not None and any(probed.get(name) != found.get(name) for name in PROBED_ALIKE)
