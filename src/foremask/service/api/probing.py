"""Probes clips, and masks single pictures, in sandboxed child processes; creates no job."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from msgspec.structs import replace

from foremask import errors
from foremask.fetch.client import Outbound
from foremask.fetch.connections import BUDGET_BYTES, MAX_READ_BYTES, RangeUnavailable, check_size
from foremask.fetch.fairness import FairSemaphore
from foremask.hints.decoding import hints_as_sent
from foremask.hints.kinds import Hint, check_hints
from foremask.options import JobSpec, Limits, Quality, Resources
from foremask.service.jobs.admission import NewJob
from foremask.service.observability import metrics
from foremask.service.observability.traces import span
from foremask.service.sandbox import messages
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.service.storage.objects import Objects

BUDGET_S = 8.0
PROBES_AT_ONCE = 4  # a few suffice: a probe mostly waits for the network
PROBES_PER_OWNER = 2
SHOWS_AT_ONCE = 64  # calls of `show`; each holds 1 MiB in memory
SHOWS_PER_OWNER = 4
SLOT_S = 3.0
PREVIEW_SLOT_S = 45.0  # one picture is masked at a time, so others wait
PREVIEWS_WAITING = 16  # per token; each holds 1 MiB and a connection
PREVIEW_PROCESSOR_S = 60.0  # a machine that does other work too takes longer, and is not at fault
PREVIEW_WALL_CLOCK_S = 300.0

log = structlog.get_logger(__name__)


class Previewer:
    def __init__(self, pool: MediaPool, find_model: Callable[[], Path], memory_bytes: int) -> None:
        self._pool = pool
        self._find_model = find_model
        self._memory_bytes = memory_bytes
        self._slots = FairSemaphore(1, 1, metrics.HELD_BACK.labels("preview").inc)

    async def mask(
        self,
        picture: bytes,
        quality: Quality,
        hints: Sequence[Hint],
        owner: str,
        mask: bytes | None = None,
    ) -> messages.Preview:
        limits = Limits(memory_bytes=self._memory_bytes)
        resources = Resources(model=self._find_model(), limits=limits)
        spec = JobSpec(quality=quality, hints=tuple(hints))
        request = messages.MaskPicture(picture, spec, resources, mask)
        if self._slots.waiting(owner) >= PREVIEWS_WAITING:
            raise errors.Overloaded(
                f"{PREVIEWS_WAITING} pictures of this token wait already. Send it again.",
                limit=PREVIEWS_WAITING,
            )
        async with self._slots.slot(owner, PREVIEW_SLOT_S, "masked"):
            try:
                return await self._pool.run(
                    request,
                    wall_clock_s=PREVIEW_WALL_CLOCK_S,
                    processor_s=PREVIEW_PROCESSOR_S,
                    owner=owner,
                )
            except errors.TimedOut as error:
                raise errors.Overloaded(
                    f"{error.details} Send a smaller picture, or ask for fast.", limit=error.limit
                ) from None
            except ChildDied:
                raise errors.Overloaded(
                    "The process that masks pictures broke off; send it again."
                ) from None


@dataclass(frozen=True, slots=True)
class OpenedFile:
    size: int
    read_at: Callable[[int, int], Awaitable[bytes]]  # (offset, length)
    blocks: AsyncGenerator[bytes]  # of the whole file


class _Undecided(Exception):
    """A sentence says why a probe has no result; a job would be accepted."""

    def __init__(self, why: object, limit: float | None = None) -> None:
        super().__init__(why)
        self.limit = limit


class Prober:
    """Probes clips and backgrounds before a job is accepted. A worker repeats the probes."""

    def __init__(
        self, outbound: Outbound, objects: Objects, pool: MediaPool, limits: Limits
    ) -> None:
        self._outbound = outbound
        self._objects = objects
        self._pool = pool
        self._limits = limits
        held_back = metrics.HELD_BACK.labels("probe").inc
        self._slots = FairSemaphore(PROBES_AT_ONCE, PROBES_PER_OWNER, held_back)
        self._shows = FairSemaphore(SHOWS_AT_ONCE, SHOWS_PER_OWNER)

    async def probe(self, job: NewJob, *, now: bool = False) -> NewJob:
        """Return ``job`` with the results of probing its clip and its background.

        ``clip`` is None if the probe has no result in `BUDGET_S`, or if too many probes run. If
        ``now``, url_unreachable or Overloaded is raised instead. ``fetched_bytes`` is the
        background's size, or 0 if the background is in our store or its size is unknown. If the
        clip is in our store, ``source_key`` is set instead of ``video_url``. Raises errors of
        hints, clip or background.
        """
        with hints_as_sent(job.key_points):
            return await self._probed(job, now=now)

    async def _probed(self, job: NewJob, *, now: bool) -> NewJob:
        owner = str(job.token_id)
        url = job.video_url
        key = job.source_key or self._key_of(url or "", "video")
        if key is not None:
            url = None
        check_hints(job.spec.hints)
        request = self._probe_of(job.spec)
        clip = None
        try:
            _, clip = await self._ask(url, key, "video", owner, request)
        except errors.Overloaded:
            if now:
                raise
        except _Undecided as undecided:
            if now:
                raise errors.UrlRefused(
                    f"{undecided} A job would be accepted.",
                    reason="url_unreachable",
                    param="video",
                    limit=undecided.limit,
                ) from None
        if job.background_url is not None:
            job = await self._with_background(job, job.background_url)
        check_hints(job.spec.hints, clip)
        return replace(job, video_url=url, source_key=key, clip=clip)

    def _probe_of(self, spec: JobSpec) -> messages.Probe:
        return messages.Probe(None, self._limits, spec.form, spec.kind, spec.excerpt)

    def _key_of(self, url: str, param: str) -> str | None:
        """Return the key of our file at ``url``, or None for another URL.

        Raises url_forbidden for an invalid link to our files.
        """
        try:
            return self._objects.signer.key_of(url)
        except errors.LinkInvalid as error:
            raise errors.UrlRefused(
                f"{error.details} An upload's file_url is good for one day.",
                reason="url_forbidden",
                param=param,
            ) from None

    async def _with_background(self, job: NewJob, url: str) -> NewJob:
        key = self._key_of(url, "background_url")
        size = 0
        request = messages.ProbeBackground(None, self._limits)
        try:
            with span("probe background"):
                size, _ = await self._ask(url, key, "background_url", str(job.token_id), request)
        except (errors.ClipRefused, errors.VideoInvalid) as error:
            raise errors.BackgroundInvalid.of(error) from error
        except (errors.Overloaded, _Undecided):
            pass  # a worker probes the background later
        if key is not None:
            return replace(job, background_url=None, background_key=key, fetched_bytes=0)
        return replace(job, background_url=url, background_key=None, fetched_bytes=size)

    @asynccontextmanager
    async def show(
        self, url: str, spec: JobSpec, owner: str, max_bytes: int
    ) -> AsyncGenerator[OpenedFile]:
        """Probe and open a clip of up to ``max_bytes``. Raises url_unreachable after `BUDGET_S`."""
        key = self._key_of(url, "video")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._shows.slot(owner, SLOT_S, "shown"))
            try:
                async with asyncio.timeout(BUDGET_S):
                    opened = self._opened(url, key, "video", owner, max_bytes)
                    file = await stack.enter_async_context(opened)
                    await self._run(self._probe_of(spec), file, owner)
            except RangeUnavailable as unavailable:
                raise errors.UrlRefused(
                    f"{unavailable} A job would be accepted.",
                    reason="url_unreachable",
                    param="video",
                ) from None
            except (TimeoutError, ChildDied):
                raise errors.UrlRefused(
                    f"The clip could not be read in {BUDGET_S:.0f} s. A job would be accepted.",
                    reason="url_unreachable",
                    param="video",
                ) from None
            await stack.enter_async_context(aclosing(file.blocks))
            yield file

    async def _ask[R](
        self,
        url: str | None,
        key: str | None,
        param: str,
        owner: str,
        request: messages.Request[R],
    ) -> tuple[int, R]:
        try:
            async with (
                asyncio.timeout(BUDGET_S),
                self._opened(url, key, param, owner, self._limits.max_bytes) as file,
            ):
                return file.size, await self._run(request, file, owner)
        except TimeoutError:
            too_slow = f"The origin gave too little of the file in {BUDGET_S:.0f} s."
            raise _Undecided(too_slow, BUDGET_S) from None
        except RangeUnavailable as unavailable:
            raise _Undecided(unavailable, BUDGET_BYTES) from None
        except ChildDied as died:
            log.warning("probe.died", notes=getattr(died, "__notes__", []))
            raise _Undecided("The process that reads the file broke off.") from None

    @asynccontextmanager
    async def _opened(
        self, url: str | None, key: str | None, param: str, owner: str, max_bytes: int
    ) -> AsyncGenerator[OpenedFile]:
        """Open our file ``key`` or, if that is None, the file at ``url``."""
        if key is None:
            async with self._outbound.open_range_reader(
                url or "", max_bytes=max_bytes, param=param, owner=owner
            ) as reader:
                size = await reader.read_whole() if reader.size is None else reader.size
                yield OpenedFile(size, reader.read_at, reader.stream())
            return
        try:
            size = (await self._objects.head(key))["size"]
        except errors.ObjectLost:
            raise errors.UrlRefused(
                "Nothing is stored at this URL, or no longer; upload it again.",
                reason="url_status",
                param=param,
            ) from None
        check_size(size, max_bytes)

        async def read_at(offset: int, length: int) -> bytes:
            length = min(length, MAX_READ_BYTES, size - offset)
            if offset < 0 or length <= 0:
                return b""
            return await self._objects.read(key, offset, length)

        yield OpenedFile(size, read_at, self._objects.stream(key))

    async def _run[R](self, request: messages.Request[R], file: OpenedFile, owner: str) -> R:
        async with self._slots.slot(owner, SLOT_S, "probed"):
            return await self._pool.run(
                replace(request, size=file.size),
                read_at=file.read_at,
                wall_clock_s=2 * BUDGET_S,
                owner=owner,
            )
