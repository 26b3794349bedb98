"""Runs one step of a job: ingest, segment or join."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
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
from foremask.hints.decoding import hints_as_sent
from foremask.media.presets import KEPT_MASK
from foremask.options import Files, Form, JobSpec, Limits, Resources, ResultKind, unfinished_cache
from foremask.service.jobs import admission, steps
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import IN_FLIGHT
from foremask.service.jobs.process_totals import Fleet
from foremask.service.observability import metrics
from foremask.service.observability.traces import span
from foremask.service.sandbox import messages
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import MASK, NETWORK, STRIP, Objects, check_free, sibling_key

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_NEWEST_BYTES = 32 << 10
KEEP_S = 3.0  # a worker that is stopped waits so long for the store
# Network results of a job, up to `cache_bytes`, are stored for a day: `/refine` reuses them.
SERVICE_RESOURCES = Resources(limits=Limits(), cache_bytes=256 << 20)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    lease_s: float = steps.LEASE_S
    renew_s: float = steps.RENEW_S
    stall_s: float = 360.0  # an attempt without progress fails after this time
    wall_clock_s: float = 4 * 3600.0  # 1 min of 4K in best quality takes two cores 1 to 2 hours
    download_s: float = 600.0
    unavailable_retry_s: float = 5.0
    unreachable_retry_s: float = 2.0
    recover_every_s: float = 1.0
    sweep_every_s: float = 5.0


class MediaRunner(Protocol):
    """Executes requests outside this process: a `MediaPool`, or a stand-in in tests."""

    async def run[R](
        self,
        request: messages.Request[R],
        *,
        on_progress: OnProgress | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> R: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a step works with. No database is among it, so a step can run where none is reached."""

    objects: Objects
    outbound: Outbound
    masks: MediaRunner  # executes requests that run the neural network
    files: MediaRunner  # executes all other requests, so that ingesting does not wait for masking
    scratch: Path
    resources: Resources = SERVICE_RESOURCES
    networks: Mapping[str, Path] = field(default_factory=dict)  # that a job may name
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext(StepContext):
    database: Database
    worker: str
    result_ttl_s: float
    storage_limit: int = admission.NO_LIMIT
    # The API token of each queue's last claimed step, whose child process can be used again.
    last_served: dict[str, UUID] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)


@dataclass(frozen=True, slots=True)
class Given:
    """What the database knows that a step needs, read before the step begins."""

    free_slots: int = 0  # of an ingest: segments that can be masked at once
    results: Sequence[steps.PartDone] = ()  # of a join


type Reserve = Callable[[int, int], Awaitable[bool]]
"""Reserves bytes for the result, and then optional bytes; returns whether the latter fit."""


@dataclass(slots=True)
class StepProgress:
    """The progress of a step. An attempt without progress for `Timing.stall_s` fails."""

    frames_done: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    newest_png: bytes | None = None
    ends_at: float | None = None  # the child's estimate, on the monotonic clock

    def move(self) -> None:
        self.moved_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the last progress, without the time that the machine was suspended."""
        return time.monotonic() - self.moved_at

    async def note_frames(self, progress: messages.ChildProgress) -> None:
        if progress.frames_done != self.frames_done:
            self.frames_done = progress.frames_done
            self.move()
            if progress.left_s is not None:
                self.ends_at = time.monotonic() + progress.left_s
        png = progress.newest_png
        if png.startswith(PNG_HEAD) and len(png) <= MAX_NEWEST_BYTES:
            self.newest_png = png

    @property
    def left_s(self) -> float | None:
        if self.ends_at is None:
            return None
        return max(0.0, self.ends_at - time.monotonic())

    def take_newest(self) -> bytes | None:
        png = self.newest_png
        self.newest_png = None
        return png


class RunningStep:
    def __init__(
        self,
        work: StepContext,
        step: steps.Step,
        scratch: Path,
        progress: StepProgress,
        reserve: Reserve,
    ) -> None:
        self.work = work
        self.step = step
        self.reserve = reserve
        self.scratch = scratch
        self.progress = progress
        self.limits = work.resources.limits
        self.source = scratch / "source"
        self.background = scratch / "background"
        self.mask = scratch / f"beside{KEPT_MASK.suffix}"  # stored with a cut-out or a composite
        self.target = scratch / f"{step.spec.kind}{step.spec.form.suffix}"
        self.network = scratch / NETWORK

    async def run(self, given: Given) -> steps.StepDone:
        # Make the directory here, so that a full disk is recorded as the error of this attempt.
        await asyncio.to_thread(self.scratch.mkdir, 0o700)
        match self.step.stage:
            case "ingest":
                return await self.ingest(given.free_slots)
            case "segment":
                return await self.segment()
            case _:
                return await self.join(given.results)

    async def ingest(self, free_slots: int) -> steps.IngestDone:
        step = self.step
        spec = step.spec
        by_stored_mask = step.mask_key is not None
        if by_stored_mask and spec.kind is ResultKind.MASK:
            return steps.IngestDone(step.clip, None, steps.WHOLE_CLIP)
        fetched_bytes = 0
        size_bytes = step.clip.size_bytes if step.clip else 0
        await self._fetch(step.source_key, step.video_url, "video", self.source, 2 * size_bytes)
        probe = messages.Probe(self.source, self.limits, spec.form, spec.kind, spec.excerpt)
        clip = await self._run(probe)
        source_key = step.source_key
        if source_key is None:
            source_key = f"sources/{step.job}/{step.attempt}/source"
            await self.work.objects.put(source_key, self.source)
            if by_stored_mask:
                fetched_bytes += clip.size_bytes
        background_key = await self._fetch_background()
        if background_key != step.background_key:
            fetched_bytes += self.background.stat().st_size
        if by_stored_mask:
            return steps.IngestDone(
                step.clip, source_key, steps.WHOLE_CLIP, background_key, fetched_bytes
            )
        segments = await self._cut(await self._plan(clip, free_slots))
        self.progress.move()
        return steps.IngestDone(clip, source_key, segments, background_key, fetched_bytes)

    async def _fetch(
        self, key: str | None, url: str | None, param: str, target: Path, needed_bytes: int = 0
    ) -> None:
        check_free(self.scratch, needed_bytes)
        self.work.objects.check_free(needed_bytes)
        if key is not None or url is None:
            await self._load(key, target)
        else:
            with span("fetch"), target.open("wb") as file:
                await self.work.outbound.download(
                    url,
                    file.write,
                    max_bytes=self.limits.max_bytes,
                    deadline_s=min(self.work.timing.download_s, self._left_s()),
                    param=param,
                    on_bytes=lambda _done, _total: self.progress.move(),
                    owner=str(self.step.token),
                )
        self.progress.move()

    async def _load(self, key: str | None, target: Path) -> Path:
        if key is None:
            raise errors.ObjectLost("the job's source is no longer stored")
        await self.work.objects.get(key, target)
        return target

    async def _fetch_background(self) -> str | None:
        """Check and store the background file; return its key, or None if the job has none."""
        key = self.step.background_key
        url = self.step.background_url
        if url is None and key is None:
            return None
        try:
            await self._fetch(key, url, "background_url", self.background)
        except errors.ClipRefused as error:
            raise errors.BackgroundInvalid.of(error) from error
        await self._run(messages.ProbeBackground(self.background, self.limits))
        if key is None:
            key = f"sources/{self.step.job}/{self.step.attempt}/background"
            await self.work.objects.put(key, self.background)
        return key

    async def _plan(self, clip: Clip, free: int) -> tuple[SegmentPlan, ...]:
        """Plan at most one segment per free slot. Fewer than two mean that the clip is not cut.

        With fewer than two free slots, cutting saves no time. Matroska cannot store parts of a
        cut-out that starts before time 0.
        """
        spec = self.step.spec
        if (
            free < 2
            or not may_be_cut(spec)
            or (spec.kind is ResultKind.CUTOUT and clip.start_s < 0)
        ):
            return ()
        spans = await self._run(messages.Plan(self.source, free, SEGMENT_GRID))
        left_over = len(spans) % IN_FLIGHT  # segments beyond a multiple of IN_FLIGHT
        if len(spans) > IN_FLIGHT and left_over:
            most = len(spans) - left_over
            spans = await self._run(messages.Plan(self.source, most, SEGMENT_GRID))
        return spans

    async def _cut(self, spans: tuple[SegmentPlan, ...]) -> tuple[steps.StoredSegment, ...]:
        if len(spans) < 2:
            return steps.WHOLE_CLIP
        segments = []
        for number, part in enumerate(spans):
            target = self.scratch / f"segment-{number}"
            await self._run(messages.Cut(self.source, part, target))
            key = f"segments/{self.step.job}/{self.step.attempt}/{number}"
            await self.work.objects.put(key, target)
            await asyncio.to_thread(target.unlink)
            segments.append(steps.StoredSegment(part, key))
        return tuple(segments)

    async def segment(self) -> steps.PartDone | steps.MaskDone:
        step = self.step
        if step.mask_key is not None:
            return await self._of_stored_mask(step.mask_key)
        if step.args.span is None:
            await self._load(step.source_key, self.source)
            request = messages.Make(step.spec, await self._files(), self._resources())
            request = await self._with_network(request)
        else:
            await self._load(step.args.key, self.source)
            request = messages.Make(
                step.spec,
                await self._files(),
                self._resources(),
                step.args.span,
                step.clip.start_s if step.clip else 0.0,
            )
        began = time.monotonic()
        with hints_as_sent(step.key_points):
            made = await self._run(request, self.work.masks)
        metrics.FRAMES.labels(step.spec.quality).inc(max(0, made.frames_out))
        metrics.MASKING_SECONDS.labels(step.spec.quality).inc(time.monotonic() - began)
        if step.args.span is not None:
            return await self._store_part(made)
        return await self._store_result(made, self.mask, request.files.cache)

    def _resources(self) -> Resources:
        """Return the worker's resources, with the network that the job names."""
        name = self.step.spec.network
        if name is None:
            return self.work.resources
        if name not in self.work.networks:
            raise errors.ModelUnavailable(
                f"the job names the network {name}, and this worker has no such network: set"
                " FOREMASK_NETWORKS the same for the API and the workers"
            )
        return replace(self.work.resources, model=self.work.networks[name])

    async def _files(self) -> Files:
        """Load the background, if there is one, and name the files of a run."""
        background = None
        if self.step.background_key is not None:
            background = await self._load(self.step.background_key, self.background)
        self.progress.move()
        mask_target = None
        if self.step.spec.kind is not ResultKind.MASK:
            mask_target = self.mask
        return Files(
            source=self.source, target=self.target, background=background, mask_target=mask_target
        )

    async def _with_network(self, request: messages.Make) -> messages.Make:
        """Let the request store network results, and reuse those of before if available.

        These are the results of an attempt that was stopped, else those of an earlier job.
        """
        files = structs.replace(request.files, cache=self.network)
        request = structs.replace(request, files=files)
        stopped = self.scratch / "stopped"
        known = await self._known(self._stopped_key(self.network), stopped)
        if known is None:
            known = await self._known(self.step.network_key, self.scratch / "known")
            return structs.replace(request, known=known)
        unfinished = unfinished_cache(stopped)
        unfinished_key = self._stopped_key(unfinished_cache(self.network))
        return structs.replace(
            request, known=known, known_unfinished=await self._known(unfinished_key, unfinished)
        )

    async def _known(self, key: str | None, target: Path) -> Path | None:
        with suppress(errors.ObjectLost, errors.ServiceUnavailable, OSError):
            return await self._load(key, target)
        return None

    def _stopped_key(self, cache: Path) -> str:
        return f"parts/{self.step.job}/{cache.name}"

    async def keep_network(self) -> None:
        """Store the network's results of a run that was stopped, for the next attempt."""
        try:
            async with asyncio.timeout(KEEP_S):
                for path in (self.network, unfinished_cache(self.network)):
                    if await asyncio.to_thread(path.exists):
                        await self.work.objects.put(self._stopped_key(path), path)
        except (errors.ObjectLost, errors.ServiceUnavailable, OSError) as error:
            log.warning("step.network_results_not_kept", reason=repr(error))

    async def _of_stored_mask(self, mask_key: str) -> steps.MaskDone:
        spec = self.step.spec
        mask = await self._load(mask_key, self.scratch / "mask")
        files = structs.replace(
            await self._files(), mask=mask, mask_is_excerpt=True, mask_target=None
        )
        sibling = None
        if spec.kind is ResultKind.MASK:
            files = structs.replace(files, source=mask)  # its clip may be deleted
        else:
            await self._load(self.step.source_key, self.source)
            sibling = mask
        made = await self._run(messages.Make(spec, files, self.work.resources))
        return await self._store_result(made, sibling)

    async def join(self, results: Sequence[steps.PartDone]) -> steps.MaskDone:
        step = self.step
        spec = step.spec
        parts: list[Path] = []
        masks: list[Path] = []
        source = await self._load(step.source_key, self.source)
        for number, result in enumerate(results):
            part = self.scratch / f"part-{number}{self.target.suffix}"
            parts.append(await self._load(result.key, part))
            if result.mask_key is not None:
                mask = self.scratch / f"mask-{number}{self.mask.suffix}"
                masks.append(await self._load(result.mask_key, mask))
            self.progress.move()
        joined = await self._run(
            messages.Join(tuple(parts), source, self.target, spec.form, spec.kind, spec.keep_sound)
        )
        if len(masks) == len(parts):
            await self._run(messages.Join(tuple(masks), source, self.mask, KEPT_MASK))
        report = joined_report([result.report for result in results], joined)
        return await self._store_result(report, self.mask)

    async def _run[R](self, request: messages.Request[R], runner: MediaRunner | None = None) -> R:
        with span(type(request).__name__.lower()):
            done = await (runner or self.work.files).run(
                request,
                on_progress=self.progress.note_frames,
                wall_clock_s=self._left_s(),
                owner=str(self.step.token),
            )
        self.progress.move()
        return done

    async def _store_part(self, report: Report) -> steps.PartDone:
        prefix = f"parts/{self.step.job}/{self.step.number}/{self.step.attempt}"
        key = f"{prefix}/part"
        mask_key = None
        await self.work.objects.put(key, self.target)
        if self.mask.exists():
            mask_key = f"{prefix}/mask"
            await self.work.objects.put(mask_key, self.mask)
        return steps.PartDone(key, report, mask_key)

    async def _store_result(
        self, report: Report, mask: Path | None = None, kept: Path | None = None
    ) -> steps.MaskDone:
        # The key names the attempt, so that attempts do not overwrite each other's results.
        step = self.step
        objects = self.work.objects
        target = self.target
        attempt = f"{step.stage}-{step.attempt}"
        key = f"results/{step.job}/{attempt}/{step.job}{target.suffix}"
        files = (target, mask, kept)
        size, mask_bytes, kept_bytes = [await asyncio.to_thread(_size_of, each) for each in files]
        has_room = await self.reserve(size + mask_bytes, kept_bytes)
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
            except (errors.ObjectLost, errors.ServiceUnavailable) as error:  # e.g. a full disk
                log.warning("step.network_results_not_kept", reason=str(error.__cause__))
        warnings = [*(step.clip.warnings if step.clip else ()), *report.warnings]
        report = structs.replace(
            report, strip=(), bytes=size, warnings=tuple(dict.fromkeys(warnings))
        )
        return steps.MaskDone(key, report)

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


def may_be_cut(spec: JobSpec) -> bool:
    """Whether the job's clip may be masked in segments.

    Hints and auto zoom need the whole clip. An excerpt is made in one piece. Parts of GIFs and
    PNGs cannot be joined.
    """
    if spec.hints or spec.auto_zoom or spec.excerpt is not None:
        return False
    return spec.form not in (Form.GIF, Form.PNG_ZIP)


def _size_of(path: Path | None) -> int:
    if path is None or not path.exists():
        return 0
    return path.stat().st_size


def joined_report(parts: Sequence[Report], joined: Written) -> Report:
    """Combine the reports of the parts and the joined file; means are weighted by frames."""
    frames = max(1, sum(part.frames_out for part in parts))
    cpu_s = Counter[str]()
    for part in parts:
        cpu_s.update(part.stage_cpu_s)
    warnings = [each for part in parts for each in part.warnings]
    return structs.replace(
        parts[0],
        frames_in=sum(part.frames_in for part in parts),
        frames_out=joined.frames_out,
        duration_s=joined.duration_s,
        duration_drift_ms=joined.duration_drift_ms,
        audio=joined.audio,
        warnings=tuple(dict.fromkeys([*warnings, *joined.sound_warnings])),
        coverage=sum(part.coverage * part.frames_out for part in parts) / frames,
        flicker=sum(part.flicker * part.frames_out for part in parts) / frames,
        strip=tuple(row for part in parts for row in part.strip),
        stage_cpu_s=dict(sorted(cpu_s.items())),
        sha256=joined.sha256,
        bytes=joined.bytes,
        segments=len(parts),
    )
