"""The steps of a job: ingest, segment, join. Each stores objects and returns facts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog
from msgspec import UNSET

from foremask.errors import BackgroundInvalid, ClipRefused, ObjectLost, ServiceUnavailable, TimedOut
from foremask.facts import SEGMENT_GRID, Clip, Report, SegmentPlan, Span
from foremask.options import (
    REENCODE_ONLY,
    MaskOptions,
    Preset,
    Quality,
    ResultKind,
    form_of,
    is_joinable,
)
from foremask.service.jobs import steps, stored
from foremask.service.jobs.step_facts import (
    IngestDone,
    JobClip,
    JobReport,
    MaskDone,
    PartDone,
    StepArgs,
    StepDone,
)
from foremask.service.jobs.steps import Step
from foremask.service.observability import metrics
from foremask.service.observability.traces import span
from foremask.service.sandbox.operations import (
    Cut,
    CutOut,
    CutOutByMask,
    Join,
    Mask,
    Plan,
    Probe,
    ProbeBackground,
    Recode,
    Request,
)
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.keys import mask_key, network_key, strip_key
from foremask.service.storage.local_directory import check_free
from foremask.service.worker.leases import StepProgress
from foremask.service.worker.reports import joined_report, report_of
from foremask.service.worker.transfers import Transfers, background_transfers
from foremask.service.worker.worker_context import WorkerContext

log = structlog.get_logger(__name__)
EXACT_MASK = Preset.MOV_H265
"""Lossless, with exact times: what is made of it is as if it had never been a file."""
KEPT_MASK_NAME = f"mask{EXACT_MASK.suffix}"
PROBED_ALIKE = ("container", "codec", "width", "height")


Stage = Callable[[WorkerContext, Step, Path, StepProgress], Awaitable[StepDone]]


async def ingest(
    work: WorkerContext, step: Step, scratch: Path, advance: StepProgress
) -> IngestDone:
    """Fetch the clip, check all of it, store it, and cut it where more than one slot is free."""
    by_stored_mask = step.quality == REENCODE_ONLY
    fetched_bytes = 0
    if by_stored_mask and step.options.kind is ResultKind.MASK:
        return IngestDone(step.clip, step.source_key, (StepArgs(whole=True),))
    source = scratch / "source"
    clip_key = step.args.result.clip_key if by_stored_mask else step.source_key
    await _fetch(work, step, clip_key, source, advance)
    advance.move()
    with span("probe"):
        clip = await _run(work, step, Probe(source, work.limits, step.preset, step.options.kind))
    advance.move()
    source_key = clip_key or f"sources/{step.name.job}/{step.attempt}/source"
    async with background_transfers() as transfers:
        if clip_key is None:
            await transfers.begin(_store, work, source_key, source)
            if by_stored_mask:
                fetched_bytes += clip.size_bytes
        background_key = await _background(work, step, scratch, transfers, advance)
        if background_key is not None and background_key != step.args.result.background_key:
            fetched_bytes += (scratch / "background").stat().st_size
        if by_stored_mask:
            whole = StepArgs(whole=True, source_key=source_key, background_key=background_key)
            return IngestDone(step.clip, step.source_key, (whole,), fetched_bytes)
        spans = await _plan(work, step, source, clip)
        advance.move()
        segments: tuple[StepArgs, ...] = (StepArgs(whole=True),)
        if len(spans) > 1:
            with span("cut", segments=len(spans)):
                segments = await _cut(work, step, source, spans, transfers, advance)
    advance.move()
    if step.clip is not None and _changed(step.clip, clip):
        clip = replace(clip, warnings=(*clip.warnings, "the file changed after it was probed"))
    if step.options.kind is not ResultKind.MASK:
        segments = tuple(
            msgspec.structs.replace(
                each, background_key=background_key, clip_start_s=float(clip.start_s)
            )
            for each in segments
        )
    return IngestDone(clip, source_key, segments, fetched_bytes)


async def _fetch(
    work: WorkerContext, step: Step, key: str | None, source: Path, advance: StepProgress
) -> None:
    needed = 2 * (step.clip.size_bytes if step.clip else 0)
    check_free(source.parent, needed)
    work.objects.check_free(needed)
    if key is not None:
        with span("load"):
            await work.objects.get(key, source)
    elif step.video_url is not None:
        await _download(work, step, step.video_url, "video", source, advance)
    else:
        raise ObjectLost("the job's source is no longer known")


async def _plan(
    work: WorkerContext, step: Step, source: Path, clip: Clip
) -> tuple[SegmentPlan, ...]:
    """The spans to cut, on `SEGMENT_GRID`, no more than there are free slots.

    A clip stays whole with fewer than two free slots, where a cut gains no time, and with hints,
    which act on the whole clip.
    """
    if step.args.result.hints:
        return ()
    with span("plan") as plan_span:
        free = await steps.free_slots(work.database)
        plan_span.note(free_slots=free)
        in_matroska = step.options.kind is ResultKind.CUTOUT  # so are parts of VP9 with alpha
        if free < 2 or (in_matroska and clip.start_s < 0):  # it counts from zero
            return ()
        spans = await _run(work, step, Plan(source, free, SEGMENT_GRID))
        left_over = len(spans) % steps.IN_FLIGHT
        if len(spans) > steps.IN_FLIGHT and left_over:  # a round for them alone would take longer
            spans = await _run(work, step, Plan(source, len(spans) - left_over, SEGMENT_GRID))
        return spans


async def _download(
    work: WorkerContext, step: Step, url: str, param: str, target: Path, advance: StepProgress
) -> None:
    with span("fetch"), target.open("wb") as file:
        await work.outbound.download(
            url,
            file.write,
            max_bytes=work.limits.max_bytes,
            deadline_s=min(work.timing.download_s, _left_s(work, step)),
            param=param,
            on_bytes=lambda _done, _total: advance.move(),
            owner=str(step.token),
        )


async def _background(
    work: WorkerContext, step: Step, scratch: Path, transfers: Transfers, advance: StepProgress
) -> str | None:
    asked, target = step.args.result, scratch / "background"
    if asked.has_background_file:
        check_free(scratch, 0)
        work.objects.check_free(0)
    if asked.background_key is not None:
        with span("load"):
            await work.objects.get(asked.background_key, target)
    elif asked.background_url is not None:
        try:
            await _download(work, step, asked.background_url, "background_url", target, advance)
        except ClipRefused as error:
            raise BackgroundInvalid.of(error) from error
    else:
        return None
    advance.move()
    with span("probe"):
        await _run(work, step, ProbeBackground(target, work.limits))
    if asked.background_key is not None:
        return asked.background_key
    key = f"sources/{step.name.job}/{step.attempt}/background"
    await transfers.begin(_store, work, key, target)
    return key


async def _cut(
    work: WorkerContext,
    step: Step,
    source: Path,
    spans: tuple[SegmentPlan, ...],
    transfers: Transfers,
    advance: StepProgress,
) -> tuple[StepArgs, ...]:
    """Cut the spans into files of their own, which are stored in the background."""
    segments = []
    for number, part in enumerate(spans):
        target = source.with_name(f"segment-{number}")
        await _run(work, step, Cut(source, part, target))
        key = f"segments/{step.name.job}/{step.attempt}/{number}"
        await transfers.begin(_store_and_remove, work, key, target)
        advance.move()
        shown = Span(part.first_pts, part.end_pts, part.shown_from_pts, part.shown_until_pts)
        segments.append(StepArgs(span=shown, source_key=key))
    return tuple(segments)


async def segment(
    work: WorkerContext, step: Step, scratch: Path, advance: StepProgress
) -> PartDone | MaskDone:
    """Mask a span, or all of a short clip, whose part is the result."""
    whole, source = step.args.whole, scratch / "source"
    mask = scratch / KEPT_MASK_NAME
    target = scratch / f"{step.options.kind}{step.form.suffix}"
    with span("load"):
        key = step.source_key if whole else step.args.source_key
        await work.objects.get(_known(key), source)
        background = await _loaded_background(work, step.args.background_key, scratch)
    advance.move()
    if step.quality == REENCODE_ONLY:
        return await _of_stored_mask(work, step, source, background, target, advance)
    request = _request(work, step, source, background, target)
    if whole and work.network_bytes:
        request = await _with_network(work, step, request, scratch)
    with span("mask", preset=step.preset, quality=step.quality) as masking_span:
        began = time.monotonic()
        masked = await _run(work, step, request, advance.note_frames)
        masking_span.note(frames=masked.frames_out)
    _count(step.quality, masked, time.monotonic() - began)
    advance.move()
    report = report_of(masked)
    if not whole:
        place = f"parts/{step.name.job}/{step.name.number}/{step.attempt}"
        key, mask_key = f"{place}/part", None
        with span("store"):
            await work.objects.put(key, request.target)
            if request.target != mask and mask.exists():
                mask_key = f"{place}/mask"
                await work.objects.put(mask_key, mask)
        return PartDone(key, report.frames_out, report, mask_key)
    if request.target != target:
        made = await _by_mask(work, step, source, request.target, background, target, advance)
        report = msgspec.structs.replace(
            made, stage_cpu_s=report.stage_cpu_s, runtime=report.runtime
        )
    return await _store_result(work, step, target, report, mask, request.kept)


async def _with_network(
    work: WorkerContext, step: Step, request: Mask | CutOut, scratch: Path
) -> Mask | CutOut:
    """The request with the network cache of an earlier job, where that is still stored."""
    known: Path | None = scratch / "known"
    with span("load"):
        try:
            await work.objects.get(_known(step.args.result.network_key), scratch / "known")
        except (ObjectLost, ServiceUnavailable, OSError):  # it only saves time
            known = None
    return msgspec.structs.replace(request, known=known, kept=scratch / "network.zip")


def _request(
    work: WorkerContext, step: Step, source: Path, background: Path | None, target: Path
) -> Mask | CutOut:
    form, result, whole = step.form, step.options, step.args.whole
    found = MaskOptions(
        quality=Quality(step.quality),
        device=work.device,
        limits=work.limits,
        model=work.model,
        hints=step.args.result.hints,
        cache_bytes=work.network_bytes,
    )
    span = None if whole else step.args.span
    if result.kind is ResultKind.MASK and isinstance(form, Preset):
        return Mask(source, target, replace(found, preset=form, matte=result.matte), span)
    mask = target.with_name(KEPT_MASK_NAME)
    if result.auto_zoom or not (whole or is_joinable(form)):
        return Mask(source, mask, replace(found, preset=EXACT_MASK), span)
    start_s = step.args.clip_start_s
    return CutOut(source, target, step.preset, found, result, background, span, start_s, mask)


async def _of_stored_mask(
    work: WorkerContext,
    step: Step,
    mask: Path,
    background: Path | None,
    target: Path,
    advance: StepProgress,
) -> MaskDone:
    """Encode the stored mask again, or cut the clip out by it."""
    if step.options.kind is ResultKind.MASK:
        memory_bytes = work.limits.memory_bytes
        matte = step.options.matte
        recode = Recode(mask, target, Preset(step.preset), memory_bytes, matte)
        with span("recode", preset=step.preset):
            written = await _run(work, step, recode, advance.note_frames)
        return await _store_result(work, step, target, report_of(written))
    source = mask.with_name("clip")
    with span("load"):
        await work.objects.get(_known(step.args.source_key), source)
    report = await _by_mask(work, step, source, mask, background, target, advance)
    return await _store_result(work, step, target, report, mask)


async def _by_mask(
    work: WorkerContext,
    step: Step,
    source: Path,
    mask: Path,
    background: Path | None,
    target: Path,
    advance: StepProgress,
) -> JobReport:
    request = CutOutByMask(source, mask, target, step.preset, work.limits, step.options, background)
    with span("cut out", preset=step.preset):
        made = await _run(work, step, request, advance.note_frames)
    advance.move()
    return report_of(made)


async def _loaded_background(work: WorkerContext, key: str | None, scratch: Path) -> Path | None:
    if key is None:
        return None
    await work.objects.get(key, scratch / "background")
    return scratch / "background"


async def join(work: WorkerContext, step: Step, scratch: Path, advance: StepProgress) -> MaskDone:
    """Make one result of the segments' parts, with the sound of the source."""
    results = await steps.segment_results(work.database, step.name.job)
    kind, name, mask = step.options.kind, step.preset, scratch / KEPT_MASK_NAME
    target = scratch / f"{kind}{step.form.suffix}"
    in_parts = kind is ResultKind.MASK or (is_joinable(step.form) and not step.options.auto_zoom)
    if not in_parts:
        kind, name = ResultKind.MASK, EXACT_MASK.value
    suffix = form_of(name, kind).suffix
    joined_file = target if in_parts else mask
    source = scratch / "source"
    parts, mask_parts = [], []
    with span("load"):
        async with background_transfers() as transfers:
            await transfers.begin(work.objects.get, _known(step.source_key), source)
            for number, result in enumerate(results):
                parts.append(scratch / f"part-{number}{suffix}")
                await transfers.begin(work.objects.get, result.key, parts[-1])
                if result.mask_key is not None:
                    mask_parts.append(scratch / f"mask-{number}{mask.suffix}")
                    await transfers.begin(work.objects.get, result.mask_key, mask_parts[-1])
                advance.move()
    keep_sound = step.options.keep_sound or not in_parts
    with span("write"):
        request = Join(tuple(parts), source, joined_file, name, kind, keep_sound)
        joined = await _run(work, step, request)
        if len(mask_parts) == len(parts):
            await _run(work, step, Join(tuple(mask_parts), source, mask, EXACT_MASK))
    advance.move()
    report = joined_report([result.report for result in results], joined)
    if not in_parts:
        key = await steps.background_key(work.database, step.name.job)
        background = await _loaded_background(work, key, scratch)
        made = await _by_mask(work, step, source, joined_file, background, target, advance)
        report = msgspec.structs.replace(
            made, segments=len(parts), stage_cpu_s=report.stage_cpu_s, runtime=report.runtime
        )
    return await _store_result(work, step, target, report, mask)


STAGES: dict[str, Stage] = {"ingest": ingest, "segment": segment, "join": join}


async def _run[R](
    work: WorkerContext, step: Step, request: Request[R], on_progress: OnProgress | None = None
) -> R:
    return await work.runner_of(request).run(
        request, on_progress=on_progress, wall_clock_s=_left_s(work, step), owner=str(step.token)
    )


async def _store_result(
    work: WorkerContext,
    step: Step,
    target: Path,
    report: JobReport,
    mask: Path | None = None,
    kept: Path | None = None,
) -> MaskDone:
    # The attempt is in the key: a stale worker never overwrites the result of another attempt.
    attempt = f"{step.name.stage}-{step.attempt}"
    key = f"results/{step.name.job}/{attempt}/{step.name.job}{target.suffix}"
    files = (target, mask, kept)
    size, mask_bytes, kept_bytes = [await asyncio.to_thread(_size_of, each) for each in files]
    has_room = await stored.reserve_result(
        work.database, step, size + mask_bytes, kept_bytes, work.storage_limit
    )
    with span("store"):
        await work.objects.put(key, target)
        if report.strip:
            strip_file = target.with_name("strip.json")
            strip_file.write_bytes(msgspec.json.encode(report.strip))
            await work.objects.put(strip_key(key), strip_file)
        if mask is not None and mask_bytes:
            await work.objects.put(mask_key(key), mask)
            report = msgspec.structs.replace(report, mask_bytes=mask_bytes)
        if kept is not None and kept_bytes and has_room:
            try:
                await work.objects.put(network_key(key), kept)
                report = msgspec.structs.replace(report, network_bytes=kept_bytes)
            except (ObjectLost, ServiceUnavailable) as error:  # too large, or no room on a disk
                log.warning("step.network_results_not_kept", reason=str(error.__cause__))
    warnings = [*(step.clip.warnings if step.clip else ()), *(report.warnings or ())]
    report = msgspec.structs.replace(
        report, strip=UNSET, bytes=size, warnings=tuple(dict.fromkeys(warnings))
    )
    return MaskDone(key, report.frames_out, report)


def _size_of(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0


async def _store(work: WorkerContext, key: str, path: Path) -> None:
    with span("store"):
        await work.objects.put(key, path)


async def _store_and_remove(work: WorkerContext, key: str, path: Path) -> None:
    await work.objects.put(key, path)
    await asyncio.to_thread(path.unlink)


def _count(quality: str, report: Report, seconds: float) -> None:
    metrics.FRAMES.labels(quality).inc(max(0, report.frames_out))
    metrics.MASKING_SECONDS.labels(quality).inc(seconds)


def _known(key: str | None) -> str:
    if key is None:
        raise ObjectLost("the job's source is no longer stored")
    return key


def _left_s(work: WorkerContext, step: Step) -> float:
    used_s = step.used_s + step.seconds
    limit_s = work.timing.wall_clock_s
    if used_s >= limit_s:
        raise TimedOut(
            f"the job was not done after {limit_s:.0f} s, the longest that one may take",
            limit=limit_s,
            actual=used_s,
        )
    return limit_s - used_s


def _changed(probed: JobClip, found: Clip) -> bool:
    """Whether the origin sent another file than the one that was probed before."""
    return any(getattr(probed, name) != getattr(found, name) for name in PROBED_ALIKE)
