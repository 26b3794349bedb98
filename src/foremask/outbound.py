"""HTTP to addresses that callers choose, and to public ones only; the one home of httpx2 and httpcore2.

One function opens sockets, `_PinnedBackend.connect_tcp`: it resolves a name once, checks every answer,
and connects to a checked address. A redirect is a new connection, so it passes there too. Nothing is
taken from the environment: no proxy, no netrc. Each operation has its own connections.
"""

import asyncio
import functools
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpcore2
import httpx2

from foremask.errors import (
    EmptyFile,
    FileTooLarge,
    NotAVideo,
    UrlForbidden,
    UrlNotAllowed,
    UrlPrivate,
    UrlRefused,
    UrlScheme,
    UrlStatus,
    UrlUnreachable,
    VideoInvalid,
    WebhookInvalid,
)

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host name and a port to its addresses, as text, best first; raises OSError where there is none."""

PORTS = (80, 443)
MAX_URL_BYTES = 8 << 10
MAX_REDIRECTS = 3
RESOLVE_S = 5.0
CONNECT_S = 5.0
IDLE_S = 15.0  # nothing arrives for this long: the origin is gone
MIN_BYTES_PER_S = 16 << 10  # 1 GiB at this pace takes 18 h, but who dribbles bytes holds a slot
SPEED_WINDOW_S = 20.0
BLOCK_BYTES = 64 << 10
MAX_READ_BYTES = 1 << 20
WRITE_BYTES = 1 << 20

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_AUTHORITY = re.compile(r"[^/?#]*//([^/?#]*)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PAGE = re.compile(rb"<(!doctype html|html|head|body|script|title|!--)", re.IGNORECASE)
_JSON = re.compile(rb"[{\[]\s*[\"{}\[\]\d]")
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/json", "text/json"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})

# Public by the book, and still not a place for a caller to send us.
_REFUSED: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments: port control, Oracle's metadata
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's host agent
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is given out; the rest is special
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class OutOfReach(Exception):
    """The probe wants bytes that cannot be had yet: the whole file decides, once it is here."""


def is_public(address: Address) -> bool:
    """Whether ``address`` is on the public internet: no v4-mapped, 6to4 or Teredo form passes.

    NAT64 is what an IPv6-only network sees of the IPv4 one, so the address inside decides.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _UNICAST:
            return False
    special = address.is_multicast or address.is_reserved
    return address.is_global and not special and not any(address in net for net in _REFUSED)


class Sink(Protocol):
    """Where a download goes: a binary file."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What came, and what the origin called it."""

    size: int
    content_type: str
    etag: str


class Outbound:
    """The way out; close it with ``async with``.

    ``allow_private`` names networks that are reached though they are not public, on any port: for
    on-premise origins and for tests. ``resolve`` and ``tls`` replace the system's.
    """

    def __init__(
        self,
        *,
        allow_private: Iterable[Network] = (),
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="resolve")
        self._backend = _PinnedBackend(tuple(allow_private), resolve or self._ask_system)
        self._tls = tls or httpcore2.default_ssl_context(_trust_env=False)

    async def __aenter__(self) -> "Outbound":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check_url(self, url: str, param: str = "video") -> None:
        """Say no as early as possible: the form of the URL, its port, and where its host lies now.

        What passes is checked again at connect time, for a name may move. For ``webhook_url`` every
        refusal is WebhookInvalid.
        """
        try:
            parsed = _parse(url, param)
            if param == "webhook_url" or _port(parsed) not in PORTS:
                await self._backend.checked_addresses(
                    parsed.raw_host.decode("ascii"), _port(parsed)
                )
        except (UrlRefused, VideoInvalid) as refused:
            refused.param = param
            if param == "webhook_url":
                raise WebhookInvalid(refused.details, param=param) from refused
            raise

    @asynccontextmanager
    async def open_range_reader(
        self, url: str, *, max_bytes: int, budget_bytes: int = 16 << 20, param: str = "video"
    ) -> AsyncGenerator["RangeReader"]:
        """Open a remote file for reading in pieces, ``budget_bytes`` of it at most.

        Where the origin ignores Range, only the first MiB can be read. Raises FileTooLarge when the
        origin declares more than ``max_bytes``. Put a deadline around the whole of it.
        """
        parsed = _parse(url, param)
        async with self._connections() as pool:
            reader = RangeReader(pool, parsed, param, budget_bytes)
            await reader.open(max_bytes)
            yield reader

    async def download(
        self,
        url: str,
        sink: Sink,
        *,
        max_bytes: int,
        deadline_s: float,
        param: str = "video",
        on_bytes: Callable[[int, int | None], None] | None = None,
    ) -> Downloaded:
        """Write the file at ``url`` into ``sink``; ``on_bytes(done, total or None)`` may raise to end it.

        Bytes are counted, whatever the origin declares. Raises UrlUnreachable when the origin falls
        silent, dribbles, breaks off, or is not done in ``deadline_s``.
        """
        parsed = _parse(url, param)
        async with (
            _deadline(param, deadline_s),
            self._connections() as pool,
            _get(pool, parsed, param) as answer,
        ):
            return await _pour(answer, sink, max_bytes, param, on_bytes)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout_s: float = 10.0,
        param: str = "webhook_url",
    ) -> int:
        """Send ``body`` and give the status, a 2xx; no redirect is followed and no answer is read.

        Raises UrlForbidden or UrlStatus for any other status, and UrlUnreachable for none.
        """
        parsed = _parse(url, param)
        lines = [(name.encode("ascii"), text.encode("latin-1")) for name, text in headers.items()]
        async with (
            _deadline(param, timeout_s),
            self._connections() as pool,
            _send(pool, "POST", parsed, lines, param, content=body) as answer,
        ):
            _check_status(answer, param)
            return answer.status

    def _connections(self) -> httpcore2.AsyncConnectionPool:
        return httpcore2.AsyncConnectionPool(
            ssl_context=self._tls, max_connections=2, network_backend=self._backend
        )

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        look_up = functools.partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class RangeReader:
    """A remote file, read in blocks that are kept; made by `Outbound.open_range_reader`.

    ``size`` is None where the origin does not say; ``ranged`` is whether it honours Range.
    """

    def __init__(
        self, pool: httpcore2.AsyncConnectionPool, url: httpx2.URL, param: str, budget_bytes: int
    ) -> None:
        self._pool, self._url, self._param = pool, url, param
        self._budget_bytes = budget_bytes
        self._blocks: dict[int, bytes] = {}
        self._head = b""
        self._reach = 0
        self._ahead_bytes = BLOCK_BYTES
        self._version = b""
        self.size: int | None = None
        self.ranged = False
        self.etag = ""
        self.content_type = ""
        self.bytes_read = 0
        self.requests = 0

    async def open(self, max_bytes: int) -> None:
        """Read the first block, and with it what the origin says of the file."""
        self.requests += 1
        first = [(b"Range", b"bytes=0-%d" % (BLOCK_BYTES - 1))]
        async with _get(self._pool, self._url, self._param, first) as answer:
            self._url = answer.url
            self.etag = answer.header("etag")
            self.content_type = answer.header("content-type")
            strong = self.etag if self.etag.startswith('"') else answer.header("last-modified")
            self._version = strong.encode("latin-1")
            self.ranged = answer.status == httpx2.codes.PARTIAL_CONTENT
            self.size = self._whole(answer, 0) if self.ranged else answer.length
            _check_size(self.size, max_bytes, self._param)
            head = await answer.read(BLOCK_BYTES if self.ranged else MAX_READ_BYTES)
        _check_content(head, self._param)
        self.bytes_read += len(head)
        if self.ranged:
            self._blocks[0] = head
            self._reach = BLOCK_BYTES
        else:
            self._head = head
            if len(head) < MAX_READ_BYTES:
                self.size = len(head)

    async def read_at(self, offset: int, n: int) -> bytes:
        """At most ``n`` bytes from ``offset`` on, a MiB at most; fewer, or none, only at the end.

        Raises OutOfReach over the budget or where the origin ignores Range, and UrlStatus when the
        file has changed since it was opened.
        """
        n = min(n, MAX_READ_BYTES)
        if self.size is not None:
            n = min(n, self.size - offset)
        if n <= 0 or offset < 0:
            return b""
        if not self.ranged:
            if self.size != len(self._head) and offset + n > len(self._head):
                raise OutOfReach
            return self._head[offset : offset + n]
        first, last = offset // BLOCK_BYTES, (offset + n - 1) // BLOCK_BYTES
        missing = [index for index in range(first, last + 1) if index not in self._blocks]
        if missing:
            await self._fetch(missing[0] * BLOCK_BYTES, (missing[-1] + 1) * BLOCK_BYTES)
        data = b"".join(self._blocks[index] for index in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return data[start : start + n]

    async def _fetch(self, start: int, stop: int) -> None:
        """Bring the blocks of [start, stop), and twice as many each time when reading straight on."""
        straight_on = start == self._reach
        self._ahead_bytes = (
            min(2 * self._ahead_bytes, MAX_READ_BYTES) if straight_on else BLOCK_BYTES
        )
        if straight_on:
            stop = max(stop, start + self._ahead_bytes)
        self._reach = stop
        if self.size is not None:
            stop = min(stop, self.size)
        if self.bytes_read + stop - start > self._budget_bytes:
            raise OutOfReach
        self.requests += 1
        wanted = [(b"Range", b"bytes=%d-%d" % (start, stop - 1))]
        if self._version:
            wanted.append((b"If-Range", self._version))
        async with _send(self._pool, "GET", self._url, wanted, self._param) as answer:
            _check_status(answer, self._param)
            if answer.status != httpx2.codes.PARTIAL_CONTENT:
                raise self._changed()
            if self._whole(answer, start) != self.size or answer.header("etag") != self.etag:
                raise self._changed()
            data = await answer.read(stop - start)
        self.bytes_read += len(data)
        if len(data) < stop - start:
            raise UrlUnreachable(
                f"The origin sent {len(data)} of {stop - start} bytes from byte {start} on.",
                param=self._param,
            )
        for at in range(0, len(data), BLOCK_BYTES):
            self._blocks[(start + at) // BLOCK_BYTES] = data[at : at + BLOCK_BYTES]

    def _whole(self, answer: "_Answer", start: int) -> int | None:
        """The size that a 206 gives for the whole file."""
        given = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
        if given is None or int(given[1]) != start or given[3] == "*":
            raise UrlStatus(
                "The origin answers a range request with another range than the one asked for.",
                param=self._param,
                actual=answer.status,
            )
        return int(given[3])

    def _changed(self) -> UrlStatus:
        return UrlStatus(
            "The file changed at the origin while it was being read. Send the request again.",
            param=self._param,
        )


def download_file(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    deadline_s: float = 3600.0,
    allow_private: Iterable[Network] = (),
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> Downloaded:
    """`Outbound.download` into the file ``path``, for a caller without an event loop."""

    async def fetch() -> Downloaded:
        async with Outbound(allow_private=allow_private) as outbound:
            return await outbound.download(
                url, sink, max_bytes=max_bytes, deadline_s=deadline_s, on_bytes=on_bytes
            )

    with path.open("wb") as sink:
        return asyncio.run(fetch())


class _PinnedBackend(httpcore2.AnyIOBackend):
    """Opens sockets, to checked addresses only."""

    def __init__(self, allow_private: tuple[Network, ...], resolve: Resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolve

    async def checked_addresses(self, host: str, port: int) -> list[str]:
        """Resolve ``host`` once; all of its addresses must do, or none is given."""
        if port not in PORTS and not self._allow_private:
            raise _port_refused(port)
        try:
            async with asyncio.timeout(RESOLVE_S):
                answers = await self._resolve(host, port)
            addresses = [ipaddress.ip_address(answer) for answer in answers]
        except (
            OSError,
            ValueError,
        ) as error:  # TimeoutError is an OSError, UnicodeError a ValueError
            raise UrlUnreachable("The host name cannot be resolved.") from error
        if not addresses:
            raise UrlUnreachable("The host name has no address.")
        strange = [a for a in addresses if not any(a in net for net in self._allow_private)]
        if strange and port not in PORTS:
            raise _port_refused(port)
        if not all(map(is_public, strange)):
            raise UrlPrivate(
                "The host is not on the public internet. Use a URL that anyone can reach."
            )
        return [str(address) for address in addresses]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers; the resolver's best two are tried."""
        failed: Exception = httpcore2.ConnectError()
        for address in (await self.checked_addresses(host, port))[:2]:
            try:
                return await super().connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Never."""
        raise UrlNotAllowed("No socket but TCP is opened.")


@dataclass(frozen=True, slots=True)
class _Answer:
    """The head of a response, and its body as it comes."""

    url: httpx2.URL
    response: httpcore2.Response
    param: str

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str:
        """The header's text, or an empty one."""
        wanted = name.encode("ascii")
        return next(
            (v.decode("latin-1") for k, v in self.response.headers if k.lower() == wanted), ""
        )

    @property
    def length(self) -> int | None:
        """What the origin declares; it need not be true."""
        declared = self.header("content-length")
        return int(declared) if declared.isdecimal() else None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body in pieces of at most 64 KiB; raises UrlUnreachable when it breaks off."""
        with _telling(self.param):
            async for chunk in self.response.aiter_stream():
                yield chunk

    async def read(self, n: int) -> bytes:
        """The first ``n`` bytes of the body, or all of a shorter one; its end frees the connection."""
        got = bytearray()
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                got += chunk
                if len(got) > n:
                    break
        return bytes(got[:n])


@asynccontextmanager
async def _send(
    pool: httpcore2.AsyncConnectionPool,
    method: str,
    url: httpx2.URL,
    headers: Sequence[tuple[bytes, bytes]],
    param: str,
    content: bytes | None = None,
) -> AsyncGenerator[_Answer]:
    """One request to one address, with nothing added that was not asked for."""
    request = httpcore2.Request(
        method,
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=[
            (b"Host", url.netloc),
            (b"User-Agent", b"foremask"),
            (b"Accept", b"*/*"),
            *([] if content is None else [(b"Content-Length", b"%d" % len(content))]),
            *headers,
        ],
        content=content,
        extensions={
            "timeout": {"connect": CONNECT_S, "read": IDLE_S, "write": IDLE_S, "pool": CONNECT_S},
            "sni_hostname": url.raw_host.decode("ascii").rstrip("."),
        },
    )
    with _telling(param):
        response = await pool.handle_async_request(request)
    try:
        yield _Answer(url, response, param)
    finally:
        await response.aclose()


@asynccontextmanager
async def _get(
    pool: httpcore2.AsyncConnectionPool,
    url: httpx2.URL,
    param: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> AsyncGenerator[_Answer]:
    """What a GET ends at after its redirects: a 2xx that does not call itself a page or data."""
    for _ in range(MAX_REDIRECTS + 1):
        async with _send(pool, "GET", url, headers, param) as answer:
            target = answer.header("location")
            if answer.status not in _REDIRECTS or not target:
                _check_status(answer, param)
                _check_type(answer, param)
                yield answer
                return
            url = _redirected(url, target, param)
    raise UrlUnreachable(
        f"The origin redirects more than {MAX_REDIRECTS} times.", param=param, limit=MAX_REDIRECTS
    )


async def _pour(
    answer: _Answer,
    sink: Sink,
    max_bytes: int,
    param: str,
    on_bytes: Callable[[int, int | None], None] | None,
) -> Downloaded:
    """Write the body into ``sink``, counting bytes and time spent waiting for them."""
    total = answer.length
    _check_size(total, max_bytes, param)
    size, waited_s, window = 0, 0.0, (0.0, 0)
    held = bytearray()
    async with aclosing(answer.chunks()) as chunks:
        asked_s = time.monotonic()
        async for chunk in chunks:
            waited_s += time.monotonic() - asked_s
            size += len(chunk)
            held += chunk
            _check_size(size, max_bytes, param)
            if waited_s - window[0] >= SPEED_WINDOW_S:
                _check_speed(size - window[1], waited_s - window[0], param)
                window = (waited_s, size)
            if len(held) >= WRITE_BYTES:
                await _write(held, sink, size, param)
                if on_bytes is not None:
                    on_bytes(size, total)
            asked_s = time.monotonic()
    await _write(held, sink, size, param)
    if on_bytes is not None:
        on_bytes(size, total)
    return Downloaded(size, answer.header("content-type"), answer.header("etag"))


async def _write(held: bytearray, sink: Sink, size: int, param: str) -> None:
    if size == len(held):  # the first piece
        _check_content(bytes(held[:512]), param)
    await asyncio.to_thread(sink.write, bytes(held))
    held.clear()


def _parse(url: str, param: str) -> httpx2.URL:
    """The one reading of a URL: what is checked is what is connected to."""
    authority = _AUTHORITY.match(url)
    try:
        long = len(url.encode()) > MAX_URL_BYTES
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:  # a lone surrogate is a ValueError
        raise VideoInvalid("This is not a URL.", param=param) from error
    if long:
        raise VideoInvalid(
            "The URL is too long.", param=param, limit=MAX_URL_BYTES, actual=len(url.encode())
        )
    if parsed.scheme and parsed.scheme not in ("http", "https"):
        raise UrlScheme("Only http and https URLs are taken.", param=param)
    host = parsed.raw_host.decode("ascii")
    if not parsed.scheme or not host or authority is None or not 0 < _port(parsed) < 1 << 16:
        raise VideoInvalid(
            "This is not a URL with a scheme, a host and, at most, a port.", param=param
        )
    if "@" in authority[1]:
        raise UrlNotAllowed(
            "A URL with a user name or a password is not taken; use a signed URL.", param=param
        )
    if len(host) > 253 or not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise VideoInvalid("The URL has no valid host name.", param=param)
    return parsed


def _redirected(url: httpx2.URL, target: str, param: str) -> httpx2.URL:
    try:
        return _parse(str(url.join(target)), param)
    except (httpx2.InvalidURL, ValueError, VideoInvalid) as error:
        raise UrlStatus("The origin redirects to what is not a URL.", param=param) from error


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _port(url: httpx2.URL) -> int:
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)


def _port_refused(port: int) -> UrlNotAllowed:
    return UrlNotAllowed("Only the ports 80 and 443 are reached.", actual=port)


@contextmanager
def _telling(param: str) -> Generator[None]:
    """Foreign network errors become ours; none of their text, which has addresses in it."""
    try:
        yield
    except UrlRefused as refused:  # from the backend, which knows no field
        refused.param = param
        raise
    except (httpcore2.ConnectTimeout, httpcore2.ConnectError) as error:
        if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
            told = "No TLS connection could be made; see whether the certificate is for this host."
        else:
            told = "The host does not accept a connection."
        raise UrlUnreachable(told, param=param) from error
    except httpcore2.TimeoutException as error:
        raise UrlUnreachable(
            f"The host fell silent for {IDLE_S:g} s.", param=param, limit=IDLE_S
        ) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise UrlUnreachable("The host broke off, or does not speak HTTP.", param=param) from error


def _causes(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@asynccontextmanager
async def _deadline(param: str, seconds: float) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UrlUnreachable(
            f"The host was not done within {seconds:g} s.", param=param, limit=seconds
        ) from error


def _check_status(answer: _Answer, param: str) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    if status == httpx2.codes.RANGE_NOT_SATISFIABLE and "*/0" in answer.header("content-range"):
        raise EmptyFile("The file has no bytes.", param=param)
    kind = UrlForbidden if status in (401, 403) else UrlStatus
    raise kind(f"The host answered with status {status}.", param=param, actual=status)


def _check_type(answer: _Answer, param: str) -> None:
    media_type = answer.header("content-type").partition(";")[0].strip().lower()
    if media_type in _PAGE_TYPES or media_type.endswith("+json"):
        raise NotAVideo(
            f"The host sent {media_type}. Use the URL of the video file itself.", param=param
        )
    coding = answer.header("content-encoding").strip().lower()
    if coding in _COMPRESSED:
        raise NotAVideo(
            f"The host sent the file compressed ({coding}), though not asked to.", param=param
        )


def _check_content(head: bytes, param: str) -> None:
    if not head:
        raise EmptyFile("The file has no bytes.", param=param)
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if _PAGE.match(text) or _JSON.match(text):
        raise NotAVideo(
            "The host sent a web page or JSON. Use the URL of the video file itself.", param=param
        )


def _check_size(size: int | None, max_bytes: int, param: str) -> None:
    if size is not None and size > max_bytes:
        raise FileTooLarge(
            f"The file has {size} bytes or more; the limit is {max_bytes}.",
            param=param,
            limit=max_bytes,
            actual=size,
        )


def _check_speed(size: int, seconds: float, param: str) -> None:
    if size < MIN_BYTES_PER_S * seconds:
        raise UrlUnreachable(
            f"The host sent {size} bytes in {seconds:.0f} s, fewer than {MIN_BYTES_PER_S} a second.",
            param=param,
            limit=MIN_BYTES_PER_S,
            actual=size / seconds,
        )
