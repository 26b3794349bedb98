"""An HTTP client that connects only to allowed addresses: range reads, downloads, webhooks."""

import asyncio
import functools
import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager

import httpcore2
import httpx2

from foremask import errors
from foremask.fetch import connections
from foremask.fetch.connections import Answer, Network, PinnedBackend, Resolve, named
from foremask.fetch.fairness import FairSemaphore

MIN_BYTES_PER_S = 32 << 10  # a clip of 20 MB in ten minutes
SPEED_WINDOW_S = 10.0
WRITE_BYTES = 1 << 20
MAX_RESOLUTIONS = 32  # look-ups at once; a silent name server blocks a thread for up to 30 s
MAX_RESOLUTIONS_PER_OWNER = 8
PLACE_S = 2.0
BLOCK_BYTES = 64 << 10
MAX_READ_BYTES = 1 << 20
BUDGET_BYTES = 16 << 20

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Outbound:
    """An HTTP client that connects only to allowed addresses; use it with ``async with``.

    Addresses in ``allow_private`` are allowed on any port, although they are not public.
    ``resolve`` and ``tls`` replace the system's resolver and TLS context. ``on_wait`` is called for
    each name look-up that has to wait for others.
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

    async def check_webhook(self, url: str, owner: str = "") -> None:
        """Raise WebhookInvalid if `post` would refuse the URL or its host's current addresses.

        Sends no request. Raises Overloaded if the name look-up does not begin within `PLACE_S`.
        """
        try:
            parsed = connections.parse(url)
            host, port = parsed.raw_host.decode("ascii"), connections.port_of(parsed)
            await self._backend(owner).checked_addresses(host, port)
        except (errors.UrlRefused, errors.VideoInvalid) as refused:
            raise errors.WebhookInvalid(refused.details, param="webhook_url") from refused

    @asynccontextmanager
    async def open_range_reader(
        self, url: str, *, max_bytes: int, param: str = "video", owner: str = ""
    ) -> AsyncGenerator["RangeReader"]:
        """Open a remote file. Raises FileTooLarge if its declared size is over ``max_bytes``."""
        async with self._connections(owner) as pool:
            with named(param):
                reader = RangeReader(pool, connections.parse(url), param)
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
        """Download ``url``, and call ``write`` with each piece, in another thread.

        ``on_bytes(done, total)`` gets byte counts; ``total`` is None if unknown. An exception in
        ``on_bytes`` cancels the download. Raises FileTooLarge for more than ``max_bytes``, declared
        or sent; UrlTooSlow below `MIN_BYTES_PER_S`; UrlUnreachable if the origin stops sending,
        closes the connection, or takes longer than ``deadline_s``.
        """
        size, waited_s, window, held = 0, 0.0, (0.0, 0), bytearray()

        async def write_held() -> None:
            if size == len(held):  # the first piece
                connections.check_content(bytes(held[:512]))
            await asyncio.to_thread(write, bytes(held))
            held.clear()
            if on_bytes is not None:
                on_bytes(size, answer.length)

        async with (
            _deadline(param, deadline_s),
            self._connections(owner) as pool,
            connections.get(pool, connections.parse(url)) as answer,
            aclosing(answer.chunks()) as chunks,
        ):
            connections.check_size(answer.length, max_bytes)
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
                            f"The host sent {came / seconds:.0f} bytes a second over {seconds:.0f}"
                            f" s; at least {MIN_BYTES_PER_S} are needed.",
                            limit=MIN_BYTES_PER_S,
                            actual=round(came / seconds),
                        )
                    window = (waited_s, size)
                if len(held) >= WRITE_BYTES:
                    await write_held()
                asked_s = time.monotonic()
            await write_held()

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> int:
        """POST ``body``, follow no redirect, and return the response's 2xx status.

        Raises UrlForbidden or UrlStatus for another status, and UrlUnreachable without a response.
        """
        lines = [(name.encode("ascii"), text.encode("latin-1")) for name, text in headers.items()]
        async with (
            _deadline("webhook_url", timeout_s),
            self._connections("") as pool,
            connections.send(pool, "POST", connections.parse(url), lines, content=body) as answer,
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
            self._places.release(owner)  # when the thread has ended: it cannot be cancelled
            if not done.cancelled():
                done.exception()  # asyncio would log an exception that is never retrieved

        resolving.add_done_callback(over)
        async with asyncio.timeout(connections.RESOLVE_S):
            return await asyncio.shield(resolving)

    async def _by_system(self, host: str, port: int) -> Sequence[str]:
        ask_system = functools.partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask_system)
        return list(dict.fromkeys(str(answer[4][0]) for answer in found))


@asynccontextmanager
async def _deadline(param: str, seconds: float) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(seconds):
            with named(param):
                yield
    except TimeoutError as error:
        raise errors.UrlUnreachable(
            f"The host was not done within {seconds:g} s.", param=param, limit=seconds
        ) from error


class RangeUnavailable(Exception):
    """The bytes cannot be read by range requests, but the file may still be downloaded."""


class RangeReader:
    def __init__(self, pool: httpcore2.AsyncConnectionPool, url: httpx2.URL, param: str) -> None:
        self._pool, self._url, self._param = pool, url, param
        self._blocks: dict[int, bytes] = {}
        self._read_until = self._ahead_bytes = BLOCK_BYTES
        self._version = b""
        self.size: int | None = None  # None if the origin does not declare it
        self.ranged = False  # if the origin ignores Range, only 1 MiB is read
        self.etag = ""
        self.bytes_read = 0

    async def open(self, max_bytes: int) -> None:
        first = [(b"Range", b"bytes=0-%d" % (BLOCK_BYTES - 1))]
        async with connections.get(self._pool, self._url, first) as answer:
            self._url = answer.url
            self.etag = answer.header("etag")
            strong = self.etag if self.etag.startswith('"') else answer.header("last-modified")
            self._version = strong.encode("latin-1")
            self.ranged = answer.status == httpx2.codes.PARTIAL_CONTENT
            self.size = _whole(answer, 0) if self.ranged else answer.length
            connections.check_size(self.size, max_bytes)
            head = await answer.read(BLOCK_BYTES if self.ranged else MAX_READ_BYTES)
        connections.check_content(head)
        self._keep(0, head)
        if not self.ranged and len(head) < MAX_READ_BYTES:
            self.size = len(head)

    async def read_at(self, offset: int, n: int) -> bytes:
        """Read ``n`` bytes at ``offset``; fewer at the end of the file, and at most 1 MiB.

        Raises RangeUnavailable if all reads together exceed `BUDGET_BYTES`, or past the first MiB
        if the origin ignores Range. Raises UrlStatus if the file has changed.
        """
        n = min(n, MAX_READ_BYTES)
        if self.size is not None:
            n = min(n, self.size - offset)
        if n <= 0 or offset < 0:
            return b""
        first, last = offset // BLOCK_BYTES, (offset + n - 1) // BLOCK_BYTES
        missing = [index for index in range(first, last + 1) if index not in self._blocks]
        if missing:
            await self._fetch(missing[0] * BLOCK_BYTES, (missing[-1] + 1) * BLOCK_BYTES)
        data = b"".join(self._blocks[index] for index in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return data[start : start + n]

    async def stream(self) -> AsyncGenerator[bytes]:
        if self.size is None or not self.ranged:
            if self.size != self.bytes_read:
                raise RangeUnavailable
            yield b"".join(self._blocks.values())
            return
        self._blocks.clear()
        for start in range(0, self.size, MAX_READ_BYTES):
            yield await self._range(start, min(start + MAX_READ_BYTES, self.size))

    async def _fetch(self, start: int, stop: int) -> None:
        """Fetch the bytes [start, stop) into the cache; sequential reads double the read-ahead."""
        if self.size is None or not self.ranged:
            raise RangeUnavailable
        if start == self._read_until:
            self._ahead_bytes = min(2 * self._ahead_bytes, MAX_READ_BYTES)
            stop = max(stop, start + self._ahead_bytes)
        else:
            self._ahead_bytes = BLOCK_BYTES
        self._read_until = stop
        stop = min(stop, self.size)
        if self.bytes_read + stop - start > BUDGET_BYTES:
            raise RangeUnavailable
        self._keep(start, await self._range(start, stop))

    def _keep(self, start: int, data: bytes) -> None:
        self.bytes_read += len(data)
        for at in range(0, len(data), BLOCK_BYTES):
            self._blocks[(start + at) // BLOCK_BYTES] = data[at : at + BLOCK_BYTES]

    async def _range(self, start: int, stop: int) -> bytes:
        wanted = [(b"Range", b"bytes=%d-%d" % (start, stop - 1))]
        if self._version:
            wanted.append((b"If-Range", self._version))
        with named(self._param):
            async with connections.send(self._pool, "GET", self._url, wanted) as answer:
                connections.check_status(answer)
                is_range = answer.status == httpx2.codes.PARTIAL_CONTENT
                whole = _whole(answer, start) if is_range else None
                if whole != self.size or answer.header("etag") != self.etag:
                    raise errors.UrlStatus(
                        "The file changed while it was read; send the request again."
                    )
                data = await answer.read(stop - start)
            if len(data) < stop - start:
                raise errors.UrlUnreachable(
                    f"The origin sent {len(data)} of {stop - start} bytes from byte {start} on."
                )
        return data


def _whole(answer: Answer, start: int) -> int:
    given = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
    if given is None or int(given[1]) != start or given[3] == "*":
        raise errors.UrlStatus(
            "The origin answers a range request with another range than the one asked for.",
            actual=answer.status,
        )
    return int(given[3])
