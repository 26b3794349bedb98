"""Runs one step of a job: ingest, segment or join."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec
import structlog
from msgspec import structs

from foremask import errors
from foremask.facts import SEGMENT_GRID, Clip, Report, SegmentPlan, Written
from foremask.fetch.client import Outbound
from foremask.media.colour_presets import KEPT_MASK
from foremask.options import (
    REENCODE_ONLY,
    Device,
    Limits,
    MaskOptions,
    Preset,
    Quality,
    ResultKind,
)
from foremask.service.jobs import admission, steps
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import Fleet
from foremask.service.observability import metrics
from foremask.service.observability.traces import span
from foremask.service.sandbox import messages
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import MASK, NETWORK, STRIP, Objects, check_free, sibling_key

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_NEWEST_BYTES = 32 << 10
NETWORK_BYTES = 256 << 20  # limit of the network cache, stored for a day to make `refine` fast
STALL_S = 360.0  # for transfers too, and longer than the media pool waits for a frame
WALL_CLOCK_S = 4 * 3600.0  # for a job: a minute of 4K in best quality takes two cores 1 to 2 hours

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The worker's leases, deadlines and intervals in seconds; tests use short ones."""

    lease_s: float = steps.LEASE_S
    renew_s: float = steps.RENEW_S
    stall_s: float = STALL_S
    wall_clock_s: float = WALL_CLOCK_S
    download_s: float = 600.0
    unavailable_retry_s: float = 5.0
    unreachable_retry_s: float = 2.0
    recover_every_s: float = 1.0
    sweep_every_s: float = 5.0


class MediaRunner(Protocol):
    """Executes requests outside of this process: a `MediaPool`, or a stand-in in tests."""

    async def run[R](
        self,
        request: messages.Request[R],
        *,
        on_progress: OnProgress | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> R:
        """Execute the request and return its result; its output files exist then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """What the steps of one worker process use.

    ``masks`` executes requests that need the neural network, whose file is ``model``; ``files``
    executes all others, so that ingesting does not wait for masking.
    """

    database: Database
    objects: Objects
    outbound: Outbound
    masks: MediaRunner
    files: MediaRunner
    scratch: Path
    worker: str
    result_ttl_s: float
    model: Path | None = None
    device: Device = field(default_factory=Device)
    storage_limit: int = admission.NO_LIMIT
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    last_served: dict[str, UUID] = field(default_factory=dict)
    """By queue, the token of the last claimed step: a child process may still be kept for it."""
    fleet: Fleet = field(default_factory=Fleet)


@dataclass(slots=True)
class StepProgress:
    """The progress of a step; without any for `Timing.stall_s` the attempt fails."""

    frames_done: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    newest_png: bytes | None = None
    ends_at: float | None = None  # as the child estimates

    def move(self) -> None:
        self.moved_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last progress, without time in which the machine was suspended."""
        return time.monotonic() - self.moved_at

    async def note_frames(self, progress: messages.Progress) -> None:
        if progress.frames_done != self.frames_done:
            self.frames_done = progress.frames_done
            self.move()
            left_s = progress.left_s
            self.ends_at = None if left_s is None else time.monotonic() + left_s
        png = progress.newest_png
        if png.startswith(PNG_HEAD) and len(png) <= MAX_NEWEST_BYTES:
            self.newest_png = png

    @property
    def left_s(self) -> float | None:
        """The estimated seconds left, at least 0; None if unknown."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def take_newest(self) -> bytes | None:
        png, self.newest_png = self.newest_png, None
        return png


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that this worker holds; its files are in ``scratch``."""

    work: WorkerContext
    step: steps.Step
    scratch: Path
    progress: StepProgress

    async def run(self) -> steps.StepDone:
        # Made here, so that a full disk is recorded as the error of this attempt.
        await asyncio.to_thread(self.scratch.mkdir, 0o700)
        stages = {"ingest": self.ingest, "segment": self.segment, "join": self.join}
        return await stages[self.step.stage]()

    @property
    def source(self) -> Path:
        return self.scratch / "source"

    @property
    def background(self) -> Path:
        return self.scratch / "background"

    @property
    def mask(self) -> Path:
        """The mask that is stored beside a cut-out or a composite."""
        return self.scratch / f"beside{KEPT_MASK.suffix}"

    @property
    def target(self) -> Path:
        return self.scratch / f"{self.step.options.kind}{self.step.form.suffix}"

    async def ingest(self) -> steps.IngestDone:
        """Fetch, check and store the clip and background; cut the clip if slots are free."""
        step, asked, options = self.step, self.step.args.result, self.step.options
        by_stored_mask = step.quality == REENCODE_ONLY
        fetched_bytes = 0
        if by_stored_mask and options.kind is ResultKind.MASK:
            return steps.IngestDone(step.clip, step.source_key, (steps.StepArgs(),))
        clip_key = asked.clip_key if by_stored_mask else step.source_key
        await self._fetch(clip_key)
        clip = await self._run(
            messages.Probe(self.source, self.work.limits, step.preset, options.kind)
        )
        source_key = clip_key or f"sources/{step.job}/{step.attempt}/source"
        if clip_key is None:
            await self.work.objects.put(source_key, self.source)
            if by_stored_mask:
                fetched_bytes += clip.size_bytes
        background_key = await self._fetch_background()
        if background_key is not None and background_key != asked.background_key:
            fetched_bytes += self.background.stat().st_size
        if by_stored_mask:
            whole = steps.StepArgs(source_key=source_key, background_key=background_key)
            return steps.IngestDone(step.clip, step.source_key, (whole,), fetched_bytes)
        segments = await self._cut(await self._plan(clip))
        self.progress.move()
        if options.kind is not ResultKind.MASK:
            start_s = float(clip.start_s)
            segments = tuple(
                structs.replace(each, background_key=background_key, clip_start_s=start_s)
                for each in segments
            )
        return steps.IngestDone(clip, source_key, segments, fetched_bytes)

    async def _fetch(self, key: str | None) -> None:
        self._check_free(2 * (self.step.clip.size_bytes if self.step.clip else 0))
        if key is not None:
            await self.work.objects.get(key, self.source)
        elif self.step.video_url is not None:
            await self._download(self.step.video_url, "video", self.source)
        else:
            raise errors.ObjectLost("the job's source is no longer known")
        self.progress.move()

    def _check_free(self, needed_bytes: int) -> None:
        check_free(self.scratch, needed_bytes)
        self.work.objects.check_free(needed_bytes)

    async def _download(self, url: str, param: str, target: Path) -> None:
        with span("fetch"), target.open("wb") as file:
            await self.work.outbound.download(
                url,
                file.write,
                max_bytes=self.work.limits.max_bytes,
                deadline_s=min(self.work.timing.download_s, self._left_s()),
                param=param,
                on_bytes=lambda _done, _total: self.progress.move(),
                owner=str(self.step.token),
            )

    async def _fetch_background(self) -> str | None:
        """Fetch, check and store the background; return its key, None if the job has no file."""
        asked = self.step.args.result
        if asked.background_url is None and asked.background_key is None:
            return None
        self._check_free(0)
        if asked.background_key is not None:
            await self.work.objects.get(asked.background_key, self.background)
        elif asked.background_url is not None:
            try:
                await self._download(asked.background_url, "background_url", self.background)
            except errors.ClipRefused as error:
                raise errors.BackgroundInvalid.of(error) from error
        self.progress.move()
        await self._run(messages.ProbeBackground(self.background, self.work.limits))
        if asked.background_key is not None:
            return asked.background_key
        key = f"sources/{self.step.job}/{self.step.attempt}/background"
        await self.work.objects.put(key, self.background)
        return key

    async def _plan(self, clip: Clip) -> tuple[SegmentPlan, ...]:
        """Return the spans to cut, at most one for each free slot; none keeps the clip whole.

        A clip stays whole with fewer than two free slots, since cutting it saves no time; with
        hints or auto zoom, which need all of it; for GIF, whose muxer mistimes joined parts; for
        PNGs; and for a cut-out that starts before time 0, which Matroska cannot store in parts.
        """
        options, form = self.step.options, self.step.form
        if self.step.args.result.hints or options.auto_zoom or form.suffix in (".gif", ".zip"):
            return ()
        free = await steps.free_slots(self.work.database)
        if free < 2 or (options.kind is ResultKind.CUTOUT and clip.start_s < 0):
            return ()
        spans = await self._run(messages.Plan(self.source, free, SEGMENT_GRID))
        left_over = len(spans) % steps.IN_FLIGHT
        if len(spans) > steps.IN_FLIGHT and left_over:  # a round for these few takes longer
            spans = await self._run(
                messages.Plan(self.source, len(spans) - left_over, SEGMENT_GRID)
            )
        return spans

    async def _cut(self, spans: tuple[SegmentPlan, ...]) -> tuple[steps.StepArgs, ...]:
        """Cut each span into a file and store it; return the arguments of the segment steps."""
        if len(spans) < 2:
            return (steps.StepArgs(),)
        segments = []
        for number, part in enumerate(spans):
            target = self.scratch / f"segment-{number}"
            await self._run(messages.Cut(self.source, part, target))
            key = f"segments/{self.step.job}/{self.step.attempt}/{number}"
            await self.work.objects.put(key, target)
            await asyncio.to_thread(target.unlink)
            segments.append(steps.StepArgs(span=part, source_key=key))
        return tuple(segments)

    async def segment(self) -> steps.PartDone | steps.MaskDone:
        """Mask a span, or the whole clip, whose mask is then the result of the job."""
        step, mask, whole = self.step, self.mask, self.step.args.span is None
        key = step.source_key if whole else step.args.source_key
        await self.work.objects.get(_known(key), self.source)
        background = await self._load_background(step.args.background_key)
        self.progress.move()
        if step.quality == REENCODE_ONLY:
            return await self._of_stored_mask(background)
        request = self._masking(background)
        if whole:
            request = await self._with_network(request)
        began = time.monotonic()
        with step.args.result.hints_as_sent():
            masked = await self._run(request)
        metrics.FRAMES.labels(step.quality).inc(max(0, masked.frames_out))
        metrics.MASKING_SECONDS.labels(step.quality).inc(time.monotonic() - began)
        report = report_of(masked)
        if not whole:
            return await self._store_part(report)
        if step.options.auto_zoom:
            made = await self._by_mask(self.source, mask, background)
            report = structs.replace(made, stage_cpu_s=report.stage_cpu_s, runtime=report.runtime)
        return await self._store_result(report, mask, request.kept)

    async def _with_network(
        self, request: messages.Mask | messages.CutOut
    ) -> messages.Mask | messages.CutOut:
        """Add the network cache of an earlier job to the request, if it is still stored."""
        known: Path | None = self.scratch / "known"
        try:
            key = _known(self.step.args.result.network_key)
            await self.work.objects.get(key, self.scratch / "known")
        except (errors.ObjectLost, errors.ServiceUnavailable, OSError):  # the cache only saves time
            known = None
        return structs.replace(request, known=known, kept=self.scratch / "network.zip")

    def _masking(self, background: Path | None) -> messages.Mask | messages.CutOut:
        step, form, result = self.step, self.step.form, self.step.options
        found = MaskOptions(
            quality=Quality(step.quality),
            device=self.work.device,
            limits=self.work.limits,
            model=self.work.model,
            hints=step.args.result.hints,
            cache_bytes=NETWORK_BYTES,
        )
        if result.kind is ResultKind.MASK and isinstance(form, Preset):
            options = replace(found, preset=form, matte=result.matte)
            return messages.Mask(self.source, self.target, options, step.args.span)
        if result.auto_zoom:  # the crop is computed from the whole mask
            return messages.Mask(self.source, self.mask, replace(found, preset=KEPT_MASK))
        return messages.CutOut(
            self.source,
            self.target,
            step.preset,
            found,
            result,
            background,
            step.args.span,
            step.args.clip_start_s,
            self.mask,
        )

    async def _of_stored_mask(self, background: Path | None) -> steps.MaskDone:
        """Encode the stored mask again, or cut the subject out of the clip with it."""
        step, mask = self.step, self.source
        if step.options.kind is ResultKind.MASK:
            preset, memory_bytes = Preset(step.preset), self.work.limits.memory_bytes
            recode = messages.Recode(mask, self.target, preset, memory_bytes, step.options.matte)
            return await self._store_result(report_of(await self._run(recode)))
        clip = self.scratch / "clip"
        await self.work.objects.get(_known(step.args.source_key), clip)
        return await self._store_result(await self._by_mask(clip, mask, background), mask)

    async def _by_mask(self, source: Path, mask: Path, background: Path | None) -> steps.JobReport:
        preset, limits, options = self.step.preset, self.work.limits, self.step.options
        request = messages.CutOutByMask(
            source, mask, self.target, preset, limits, options, background
        )
        return report_of(await self._run(request))

    async def _load_background(self, key: str | None) -> Path | None:
        if key is None:
            return None
        await self.work.objects.get(key, self.background)
        return self.background

    async def join(self) -> steps.MaskDone:
        """Join the segments' parts into the result, with the sound of the source."""
        step, options, load = self.step, self.step.options, self.work.objects.get
        parts, masks = [], []
        results = await steps.segment_results(self.work.database, step.job)
        await load(_known(step.source_key), self.source)
        for number, result in enumerate(results):
            parts.append(self.scratch / f"part-{number}{self.target.suffix}")
            await load(result.key, parts[-1])
            if result.mask_key is not None:
                masks.append(self.scratch / f"mask-{number}{self.mask.suffix}")
                await load(result.mask_key, masks[-1])
            self.progress.move()
        source, target, made = self.source, self.target, tuple(parts)
        joined = await self._run(
            messages.Join(made, source, target, step.preset, options.kind, options.keep_sound)
        )
        if len(masks) == len(parts):
            await self._run(messages.Join(tuple(masks), source, self.mask, KEPT_MASK))
        report = joined_report([result.report for result in results], joined)
        return await self._store_result(report, self.mask)

    async def _run[R](self, request: messages.Request[R]) -> R:
        runner = self.work.masks if request.needs_network else self.work.files
        with span(type(request).__name__.lower()):
            done = await runner.run(
                request,
                on_progress=self.progress.note_frames,
                wall_clock_s=self._left_s(),
                owner=str(self.step.token),
            )
        self.progress.move()
        return done

    async def _store_part(self, report: steps.JobReport) -> steps.PartDone:
        place = f"parts/{self.step.job}/{self.step.number}/{self.step.attempt}"
        key, mask_key = f"{place}/part", None
        await self.work.objects.put(key, self.target)
        if self.mask.exists():
            mask_key = f"{place}/mask"
            await self.work.objects.put(mask_key, self.mask)
        return steps.PartDone(key, report.frames_out, report, mask_key)

    async def _store_result(
        self, report: steps.JobReport, mask: Path | None = None, kept: Path | None = None
    ) -> steps.MaskDone:
        # The attempt is in the key: a stale worker never overwrites the result of another attempt.
        step, objects, target = self.step, self.work.objects, self.target
        attempt = f"{step.stage}-{step.attempt}"
        key = f"results/{step.job}/{attempt}/{step.job}{target.suffix}"
        files = (target, mask, kept)
        size, mask_bytes, kept_bytes = [await asyncio.to_thread(_size_of, each) for each in files]
        has_room = await admission.reserve_result(
            self.work.database, step, size + mask_bytes, kept_bytes, self.work.storage_limit
        )
        await objects.put(key, target)
        if report.strip:
            strip_file = target.with_name("strip.json")
            strip_file.write_bytes(msgspec.json.encode(report.strip))
            await objects.put(sibling_key(key, STRIP), strip_file)
        if mask is not None and mask_bytes:
            await objects.put(sibling_key(key, MASK), mask)
            report = structs.replace(report, mask_bytes=mask_bytes)
        if kept is not None and kept_bytes and has_room:
            try:
                await objects.put(sibling_key(key, NETWORK), kept)
                report = structs.replace(report, network_bytes=kept_bytes)
            except (
                errors.ObjectLost,
                errors.ServiceUnavailable,
            ) as error:  # too large, or no room on a disk
                log.warning("step.network_results_not_kept", reason=str(error.__cause__))
        warnings = [*(step.clip.warnings if step.clip else ()), *(report.warnings or ())]
        report = structs.replace(
            report, strip=None, bytes=size, warnings=tuple(dict.fromkeys(warnings))
        )
        return steps.MaskDone(key, report.frames_out, report)

    def _left_s(self) -> float:
        used_s = self.step.used_s + self.step.seconds
        limit_s = self.work.timing.wall_clock_s
        if used_s >= limit_s:
            raise errors.TimedOut(
                f"the job was not done after {limit_s:.0f} s, the longest that one may take",
                limit=limit_s,
                actual=used_s,
            )
        return limit_s - used_s


def _size_of(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0


def _known(key: str | None) -> str:
    if key is None:
        raise errors.ObjectLost("the job's source is no longer stored")
    return key


def report_of(done: Report | Written) -> steps.JobReport:
    """Convert the report of a child process."""
    return msgspec.convert(done, steps.JobReport, from_attributes=True)


def joined_report(parts: Sequence[steps.JobReport], joined: Written) -> steps.JobReport:
    """Combine the parts' reports, by sums and means over their frames, with the joined file's."""
    frames = max(1, sum(part.frames_out for part in parts))
    cpu_s = Counter[str]()
    for part in parts:
        cpu_s.update(part.stage_cpu_s or {})
    warnings = [each for part in parts for each in part.warnings or ()]
    written = structs.asdict(report_of(joined))
    changes = {name: value for name, value in written.items() if value is not None} | {
        "frames_in": sum(part.frames_in or 0 for part in parts),
        "coverage": sum((part.coverage or 0.0) * part.frames_out for part in parts) / frames,
        "flicker": sum((part.flicker or 0.0) * part.frames_out for part in parts) / frames,
        "stage_cpu_s": dict(sorted(cpu_s.items())),
        "strip": tuple(row for part in parts for row in part.strip or ()),
        "warnings": tuple(dict.fromkeys(warnings)),
        "segments": len(parts),
    }
    return structs.replace(parts[0], **changes)
