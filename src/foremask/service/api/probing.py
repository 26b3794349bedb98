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
from foremask.hints.kinds import Hint
from foremask.options import Form, Limits, MaskOptions, Quality, ResultKind
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.steps import JobResult
from foremask.service.observability import metrics
from foremask.service.observability.traces import span
from foremask.service.sandbox import messages
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.service.storage.objects import Objects

BUDGET_S = 8.0
PROBES_AT_ONCE = 4  # a few suffice: a probe mostly waits for the network
PROBES_PER_OWNER = 2
SHOWS_AT_ONCE, SHOWS_PER_OWNER = 64, 4  # calls of `show`; each holds 1 MiB in memory
PLACE_S = 3.0
PREVIEW_PLACE_S = 45.0  # one picture is masked at a time, so others wait
PREVIEWS_WAITING = 16  # per token; each holds 1 MiB and a connection
WALL_CLOCK_S = 30.0

log = structlog.get_logger(__name__)


class Previewer:
    def __init__(self, pool: MediaPool, find_model: Callable[[], Path], memory_bytes: int) -> None:
        self._pool, self._find_model, self._memory_bytes = pool, find_model, memory_bytes
        self._places = FairSemaphore(1, 1, metrics.HELD_BACK.labels("preview").inc)

    async def mask(
        self, picture: bytes, quality: Quality, hints: Sequence[Hint], owner: str
    ) -> messages.Preview:
        limits = Limits(memory_bytes=self._memory_bytes)
        options = MaskOptions(
            quality=quality, hints=tuple(hints), model=self._find_model(), limits=limits
        )
        request = messages.MaskPicture(picture, options)
        if self._places.waiting(owner) >= PREVIEWS_WAITING:
            raise errors.Overloaded(
                f"{PREVIEWS_WAITING} pictures of this token wait already. Send it again.",
                limit=PREVIEWS_WAITING,
            )
        async with self._places.place(owner, PREVIEW_PLACE_S, "masked"):
            try:
                return await self._pool.run(request, wall_clock_s=WALL_CLOCK_S, owner=owner)
            except (ChildDied, errors.TimedOut):
                raise errors.Overloaded(
                    "The picture could not be masked in time; send it again."
                ) from None


@dataclass(frozen=True, slots=True)
class Source:
    """A clip or a background, at a URL or in our object store. At least one field is None."""

    url: str | None = None
    key: str | None = None


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
        self._outbound, self._objects, self._pool, self._limits = outbound, objects, pool, limits
        held_back = metrics.HELD_BACK.labels("probe").inc
        self._places = FairSemaphore(PROBES_AT_ONCE, PROBES_PER_OWNER, held_back)
        self._shows = FairSemaphore(SHOWS_AT_ONCE, SHOWS_PER_OWNER)

    async def probe(self, job: NewJob, *, now: bool = False) -> NewJob:
        """Return ``job`` with the results of probing its clip and its background.

        ``clip`` is None if the probe has no result in `BUDGET_S`, or if too many probes run. If
        ``now``, UrlUnreachable or Overloaded is raised instead. ``fetched_bytes`` is the
        background's size, or 0 if the background is in our store or its size is unknown. If the
        clip is in our store, ``source_key`` is set instead of ``video_url``. Raises errors of
        hints, clip or background.
        """
        owner, key = str(job.token_id), job.source_key
        source = self._locate(job.video_url or "", "video") if key is None else Source(key=key)
        job.result.check_hints()
        request = messages.Probe(None, self._limits, job.preset, job.result.options.kind)
        clip = None
        try:
            _, clip = await self._ask(source, "video", owner, request)
        except errors.Overloaded:
            if now:
                raise
        except _Undecided as undecided:
            if now:
                raise errors.UrlUnreachable(
                    f"{undecided} A job would be accepted.", param="video", limit=undecided.limit
                ) from None
        result, fetched_bytes = await self._background(job.result, owner)
        result.check_hints(clip)
        job = replace(job, video_url=source.url, source_key=source.key)
        return replace(job, clip=clip, result=result, fetched_bytes=fetched_bytes)

    def _locate(self, url: str, param: str) -> Source:
        """Return the source at ``url``. Raises UrlForbidden for an invalid link to this service."""
        try:
            key = self._objects.signer.key_of(url)
        except errors.LinkInvalid as error:
            raise errors.UrlForbidden(
                f"{error.details} An upload's file_url is good for one day.", param=param
            ) from None
        return Source(url=url) if key is None else Source(key=key)

    async def _background(self, asked: JobResult, owner: str) -> tuple[JobResult, int]:
        if asked.background_url is None:
            return asked, 0
        source, size = self._locate(asked.background_url, "background_url"), 0
        request = messages.ProbeBackground(None, self._limits)
        try:
            with span("probe background"):
                size, _ = await self._ask(source, "background_url", owner, request)
        except (errors.ClipRefused, errors.VideoInvalid) as error:
            raise errors.BackgroundInvalid.of(error) from error
        except (errors.Overloaded, _Undecided):
            pass  # a worker probes the background later
        result = replace(asked, background_url=source.url, background_key=source.key)
        return result, size if source.key is None else 0

    @asynccontextmanager
    async def show(
        self, url: str, form: Form, kind: ResultKind, owner: str, max_bytes: int
    ) -> AsyncGenerator[OpenedFile]:
        """Probe and open a clip of up to ``max_bytes``. Raises UrlUnreachable after `BUDGET_S`."""
        source = self._locate(url, "video")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._shows.place(owner, PLACE_S, "shown"))
            try:
                async with asyncio.timeout(BUDGET_S):
                    opened = self._opened(source, "video", owner, max_bytes)
                    file = await stack.enter_async_context(opened)
                    await self._run(messages.Probe(None, self._limits, form, kind), file, owner)
            except RangeUnavailable as unavailable:
                raise errors.UrlUnreachable(
                    f"{unavailable} A job would be accepted.", param="video"
                ) from None
            except (TimeoutError, ChildDied):
                raise errors.UrlUnreachable(
                    f"The clip could not be read in {BUDGET_S:.0f} s. A job would be accepted.",
                    param="video",
                ) from None
            await stack.enter_async_context(aclosing(file.blocks))
            yield file

    async def _ask[R](
        self, source: Source, param: str, owner: str, request: messages.Request[R]
    ) -> tuple[int, R]:
        try:
            async with (
                asyncio.timeout(BUDGET_S),
                self._opened(source, param, owner, self._limits.max_bytes) as file,
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
        self, source: Source, param: str, owner: str, max_bytes: int
    ) -> AsyncGenerator[OpenedFile]:
        if (key := source.key) is None:
            async with self._outbound.open_range_reader(
                source.url or "", max_bytes=max_bytes, param=param, owner=owner
            ) as reader:
                size = await reader.read_whole() if reader.size is None else reader.size
                yield OpenedFile(size, reader.read_at, reader.stream())
            return
        try:
            size = (await self._objects.head(key))["size"]
        except errors.ObjectLost:
            raise errors.UrlStatus(
                "Nothing is stored at this URL, or no longer; upload it again.",
                param=param,
            ) from None
        check_size(size, max_bytes)

        async def read_at(offset: int, length: int) -> bytes:
            length = min(length, MAX_READ_BYTES, size - offset)
            return await self._objects.read(key, offset, length) if length > 0 <= offset else b""

        yield OpenedFile(size, read_at, self._objects.stream(key))

    async def _run[R](self, request: messages.Request[R], file: OpenedFile, owner: str) -> R:
        async with self._places.place(owner, PLACE_S, "probed"):
            return await self._pool.run(
                replace(request, size=file.size),
                read_at=file.read_at,
                wall_clock_s=2 * BUDGET_S,
                owner=owner,
            )
