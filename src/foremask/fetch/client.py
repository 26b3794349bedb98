"""The guarded HTTP client: ranged reads, downloads, webhooks."""

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager

import httpcore2

from foremask import errors
from foremask.fetch import connections, urls
from foremask.fetch.connections import Answer, PinnedBackend, Resolve, named
from foremask.fetch.fairness import FairSemaphore
from foremask.fetch.range_reader import RangeReader
from foremask.fetch.urls import Network

MIN_BYTES_PER_S = 32 << 10  # 20 MB in ten minutes; a slower origin would only occupy a place
SPEED_WINDOW_S = 10.0
WRITE_BYTES = 1 << 20
MAX_RESOLUTIONS = 32  # a name server that keeps silent holds a thread for up to half a minute
MAX_RESOLUTIONS_PER_OWNER = 8
PLACE_S = 2.0


class Outbound:
    """The guarded client; close it with ``async with``.

    ``allow_private`` names networks that are reached though they are not public, on any port: for
    on-premise origins and for tests. ``resolve`` and ``tls`` replace the system's. ``on_wait`` is
    called for each name look-up that has to wait for others.
    """

    def __init__(
        self,
        *,
        allow_private: Iterable[Network] = (),
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(MAX_RESOLUTIONS, thread_name_prefix="resolve")
        self._places = FairSemaphore(MAX_RESOLUTIONS, MAX_RESOLUTIONS_PER_OWNER, on_wait)
        self._allow_private = tuple(allow_private)
        self._resolve: Resolve = resolve or self._by_system
        self._tls = tls or httpcore2.default_ssl_context(_trust_env=False)

    async def __aenter__(self) -> "Outbound":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check_url(self, url: str, param: str = "video", owner: str = "") -> None:
        """Refuse a URL early: by its form, its port, and the addresses of its host.

        It is checked again when it is connected to, since a name may change its addresses. For
        ``webhook_url`` every refusal is WebhookInvalid. Look-ups are shared fairly between owners:
        raises Overloaded when this one gets no place in time, which says nothing of the URL.
        """
        try:
            with named(param):
                parsed = urls.parse(url)
                if param == "webhook_url" or urls.port_of(parsed) not in urls.PORTS:
                    await self._backend(owner).checked_addresses(
                        parsed.raw_host.decode("ascii"), urls.port_of(parsed)
                    )
        except (errors.UrlRefused, errors.VideoInvalid) as refused:
            if param == "webhook_url":
                raise errors.WebhookInvalid(refused.details, param=param) from refused
            raise

    @asynccontextmanager
    async def open_range_reader(
        self,
        url: str,
        *,
        max_bytes: int,
        param: str = "video",
        owner: str = "",
    ) -> AsyncGenerator["RangeReader"]:
        """Open a remote file for reading in pieces, `BUDGET_BYTES` of it at most.

        Where the origin ignores Range, only the first MiB can be read. Raises FileTooLarge when the
        origin declares more than ``max_bytes``. Put a deadline around the whole of it.
        """
        async with self._connections(owner) as pool:
            with named(param):
                reader = RangeReader(pool, urls.parse(url), param)
                await reader.open(max_bytes)
            yield reader

    async def download(
        self,
        url: str,
        write: Callable[[bytes], object],
        *,
        max_bytes: int,
        deadline_s: float,
        param: str = "video",
        on_bytes: Callable[[int, int | None], None] | None = None,
        owner: str = "",
    ) -> None:
        """Call ``write`` with the file at ``url``, piece by piece, in other threads.

        ``on_bytes(done, total or None)`` may raise.

        Bytes are counted, whatever the origin declares. Raises UrlTooSlow when the origin is slower
        than the least speed, and UrlUnreachable when it falls silent, breaks off, or is not done in
        ``deadline_s``.
        """
        async with (
            deadline(param, deadline_s),
            self._connections(owner) as pool,
            connections.get(pool, urls.parse(url)) as answer,
        ):
            await _write_body(answer, write, max_bytes, on_bytes)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout_s: float = 10.0,
    ) -> int:
        """Send ``body`` and give the status, a 2xx; no redirect is followed and no answer is read.

        Raises UrlForbidden or UrlStatus for any other status, and UrlUnreachable for none.
        """
        lines = [(name.encode("ascii"), text.encode("latin-1")) for name, text in headers.items()]
        async with (
            deadline("webhook_url", timeout_s),
            self._connections("") as pool,
            connections.send(pool, "POST", urls.parse(url), lines, content=body) as answer,
        ):
            connections.check_status(answer)
            return answer.status

    def _connections(self, owner: str) -> httpcore2.AsyncConnectionPool:
        return httpcore2.AsyncConnectionPool(
            ssl_context=self._tls, max_connections=2, network_backend=self._backend(owner)
        )

    def _backend(self, owner: str) -> PinnedBackend:
        return PinnedBackend(self._allow_private, functools.partial(self._addresses_for, owner))

    async def _addresses_for(self, owner: str, host: str, port: int) -> Sequence[str]:
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire(owner)
        except TimeoutError:
            raise errors.Overloaded(
                f"No name could be looked up within {PLACE_S:g} s; send the same request again.",
                limit=MAX_RESOLUTIONS_PER_OWNER,
            ) from None
        resolving = asyncio.ensure_future(self._resolve(host, port))

        def over(done: asyncio.Future[Sequence[str]]) -> None:
            self._places.release(owner)  # only now: a thread cannot be cancelled
            if not done.cancelled():
                done.exception()  # retrieved after the timeout too, else asyncio would log it

        resolving.add_done_callback(over)
        async with asyncio.timeout(connections.RESOLVE_S):
            return await asyncio.shield(resolving)

    async def _by_system(self, host: str, port: int) -> Sequence[str]:
        ask_system = functools.partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask_system)
        return list(dict.fromkeys(str(answer[4][0]) for answer in found))


async def _write_body(
    answer: Answer,
    write: Callable[[bytes], object],
    max_bytes: int,
    on_bytes: Callable[[int, int | None], None] | None,
) -> None:
    connections.check_size(answer.length, max_bytes)
    size, waited_s, window = 0, 0.0, (0.0, 0)
    held = bytearray()

    async def write_held() -> None:
        if size == len(held):  # the first piece
            connections.check_content(bytes(held[:512]))
        await asyncio.to_thread(write, bytes(held))
        held.clear()
        if on_bytes is not None:
            on_bytes(size, answer.length)

    async with aclosing(answer.chunks()) as chunks:
        asked_s = time.monotonic()
        async for chunk in chunks:
            waited_s += time.monotonic() - asked_s
            size += len(chunk)
            held += chunk
            connections.check_size(size, max_bytes)
            seconds, came = waited_s - window[0], size - window[1]
            if seconds >= SPEED_WINDOW_S:
                if came < MIN_BYTES_PER_S * seconds:
                    raise errors.UrlTooSlow(
                        f"The host sent {came / seconds:.0f} bytes a second over {seconds:.0f} s; "
                        f"at least {MIN_BYTES_PER_S} are needed.",
                        limit=MIN_BYTES_PER_S,
                        actual=round(came / seconds),
                    )
                window = (waited_s, size)
            if len(held) >= WRITE_BYTES:
                await write_held()
            asked_s = time.monotonic()
    await write_held()


@asynccontextmanager
async def deadline(param: str, seconds: float) -> AsyncGenerator[None]:
    """As `named`, and raise UrlUnreachable where the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            with named(param):
                yield
    except TimeoutError as error:
        raise errors.UrlUnreachable(
            f"The host was not done within {seconds:g} s.", param=param, limit=seconds
        ) from error
