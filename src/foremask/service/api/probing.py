"""Probes a clip before its job is accepted: ranged reads here, the parser in a confined child."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from foremask.errors import (
    BackgroundInvalid,
    ClipRefused,
    LinkInvalid,
    ObjectLost,
    Overloaded,
    UrlForbidden,
    UrlStatus,
    UrlUnreachable,
)
from foremask.facts import Clip
from foremask.fetch.client import Outbound
from foremask.fetch.fairness import FairSemaphore
from foremask.fetch.range_reader import MAX_READ_BYTES, RangeUnavailable
from foremask.fetch.responses import check_size
from foremask.options import Form, Limits, ResultKind
from foremask.service.observability import metrics
from foremask.service.sandbox.operations import Probe, ProbeBackground, Request
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.service.storage.objects import Objects

BUDGET_S = 8.0
PROBES_AT_ONCE = 4  # most of a probe is waiting for the origin; the child takes milliseconds
PROBES_PER_OWNER = 2
SHOWS_AT_ONCE, SHOWS_PER_OWNER = 64, 4  # each holds a MiB
PLACE_S = 3.0

type ReadAt = Callable[[int, int], Awaitable[bytes]]
type Ask[T] = Callable[[int, ReadAt], Awaitable[T]]
"""Asks a child of a file of that size, whose bytes the other reads."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """The place of a clip: a caller's URL, or a key of our own store."""

    url: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A clip that was probed: how long it is, and its bytes."""

    size: int
    blocks: AsyncGenerator[bytes]


@dataclass(frozen=True, slots=True)
class Prober:
    """Probes clips and backgrounds, in a confined child.

    What it cannot find out within ``budget_s``, the worker reports later in the same words.
    """

    outbound: Outbound
    objects: Objects
    pool: MediaPool
    limits: Limits
    budget_s: float = BUDGET_S
    places: FairSemaphore = field(
        default_factory=lambda: FairSemaphore(
            PROBES_AT_ONCE, PROBES_PER_OWNER, metrics.HELD_BACK.labels("probe").inc
        )
    )
    shows: FairSemaphore = field(
        default_factory=lambda: FairSemaphore(SHOWS_AT_ONCE, SHOWS_PER_OWNER)
    )

    async def probe(self, source: Source, form: Form, kind: ResultKind, owner: str) -> Clip | None:
        """The clip's facts; None where the time does not suffice.

        Raises the error that refuses it.
        """
        try:
            return await self.probe_now(source, form, kind, owner)
        except Overloaded:
            return None  # a worker probes it later

    async def probe_now(
        self, source: Source, form: Form, kind: ResultKind, owner: str
    ) -> Clip | None:
        async def ask(size: int, read_at: ReadAt) -> Clip:
            return await self._ask(size, read_at, form, kind, owner)

        return await self._in_time(source, "video", owner, ask)

    async def probe_background(self, source: Source, owner: str) -> int | None:
        """The bytes of a background; None where the time does not suffice.

        Raises the error that refuses it.
        """

        async def ask(size: int, read_at: ReadAt) -> int:
            request = ProbeBackground(None, self.limits, size)
            await self._run(request, read_at, owner)
            return size

        try:
            return await self._in_time(source, "background_url", owner, ask)
        except ClipRefused as error:
            raise BackgroundInvalid.of(error) from error
        except Overloaded:
            return None  # a worker probes it later

    @asynccontextmanager
    async def show(
        self, source: Source, form: Form, kind: ResultKind, owner: str, max_bytes: int
    ) -> AsyncGenerator[Shown]:
        async with AsyncExitStack() as stack:
            await _place(self.shows, owner, "shown")
            stack.callback(self.shows.release, owner)
            try:
                async with asyncio.timeout(self.budget_s):
                    size, read_at, blocks = await self._opened(stack, source, owner, max_bytes)
                    await self._ask(size, read_at, form, kind, owner)
            except (TimeoutError, RangeUnavailable, ChildDied):
                raise UrlUnreachable(
                    "The clip could not be read here in time, or its host gives no ranges of it;"
                    " a job would be accepted.",
                    param="video",
                ) from None
            await stack.enter_async_context(aclosing(blocks))
            yield Shown(size, blocks)

    async def _opened(
        self, stack: AsyncExitStack, source: Source, owner: str, max_bytes: int
    ) -> tuple[int, ReadAt, AsyncGenerator[bytes]]:
        if source.key is not None:
            size = (await self.objects.head(source.key)).size
            check_size(size, max_bytes)
            return size, self._reading(source.key, size), self.objects.stream(source.key)
        reader = await stack.enter_async_context(
            self.outbound.open_range_reader(source.url or "", max_bytes=max_bytes, owner=owner)
        )
        if reader.size is None:
            raise RangeUnavailable
        return reader.size, reader.read_at, reader.stream()

    async def _in_time[T](self, source: Source, param: str, owner: str, ask: Ask[T]) -> T | None:
        """The result of ``ask``; None where the time does not suffice."""
        try:
            async with asyncio.timeout(self.budget_s):
                if source.key is not None:
                    return await self._stored(source.key, ask)
                return await self._remote(source.url or "", param, owner, ask)
        except (TimeoutError, RangeUnavailable):
            return None
        except ChildDied as died:
            log.warning("probe.died", notes=getattr(died, "__notes__", []))
            return None

    async def _remote[T](self, url: str, param: str, owner: str, ask: Ask[T]) -> T | None:
        async with self.outbound.open_range_reader(
            url, max_bytes=self.limits.max_bytes, param=param, owner=owner
        ) as reader:
            if reader.size is None:
                return None
            return await ask(reader.size, reader.read_at)

    async def _stored[T](self, key: str, ask: Ask[T]) -> T:
        size = (await self.objects.head(key)).size
        return await ask(size, self._reading(key, size))

    def _reading(self, key: str, size: int) -> ReadAt:
        async def read_at(offset: int, length: int) -> bytes:
            length = min(length, MAX_READ_BYTES, size - offset)
            return await self.objects.read(key, offset, length) if length > 0 <= offset else b""

        return read_at

    async def _ask(
        self, size: int, read_at: ReadAt, form: Form, kind: ResultKind, owner: str
    ) -> Clip:
        request = Probe(None, self.limits, form, kind, size)
        return await self._run(request, read_at, owner)

    async def _run[R](self, request: Request[R], read_at: ReadAt, owner: str) -> R:
        await _place(self.places, owner, "probed")
        try:
            return await self.pool.run(
                request, read_at=read_at, wall_clock_s=2 * self.budget_s, owner=owner
            )
        finally:
            self.places.release(owner)


async def _place(places: FairSemaphore, owner: str, done: str) -> None:
    """Wait for a place, which the caller gives back. Raises Overloaded."""
    try:
        async with asyncio.timeout(PLACE_S):
            await places.acquire(owner)
    except TimeoutError:
        raise Overloaded(
            f"The clip could not be {done} within {PLACE_S:g} s: your other clips, or others',"
            f" are being {done}. Send the same request again.",
            limit=places.per_owner,
        ) from None


async def locate(
    url: str, objects: Objects, outbound: Outbound, owner: str, param: str = "video"
) -> Source:
    """The source behind ``url``, whose form, port and scheme are checked.

    Raises VideoInvalid, UrlRefused or Overloaded.
    """
    try:
        key = objects.signer.key_of(url)
    except LinkInvalid as error:
        raise UrlForbidden(
            f"{error.details} An upload's file_url is good for one day.", param=param
        ) from None
    if key is None:
        await outbound.check_url(url, param, owner)
        return Source(url=url)
    try:
        await objects.head(key)
    except ObjectLost:
        raise UrlStatus(
            "Nothing has been uploaded to this URL, or it has been deleted since; upload it again.",
            param=param,
        ) from None
    return Source(key=key)
