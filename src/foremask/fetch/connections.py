"""Parses URLs, sends requests, checks the responses, and reads remote files by ranges."""

import asyncio
import ipaddress
import re
import ssl
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore2
import httpx2

from foremask import errors

MAX_URL_BYTES = 8 << 10
MAX_REDIRECTS = 3
CONNECT_S = 5.0
BLOCK_BYTES = 64 << 10
MAX_READ_BYTES = 1 << 20
BUDGET_BYTES = 16 << 20
# What an origin may send beside the content: heads, chunk sizes and the like.
FRAMING_BYTES = 64 << 10
FRAMING_PER_CONTENT_BYTE = 1 / 8
READ_BYTES = 64 << 10
HEAD_READ_BYTES = 8 << 10  # httpcore2 parses what one read brings without a pause
CHUNKS = 256  # each costs the event loop some 13 µs, however small it is
LEAST_CHUNK_BYTES = 512  # mean size of all further chunks
CHUNKS_AT_ONCE = 32
IDLE_S = 15.0  # an origin that sends nothing for this long counts as unreachable

_CHANGED = "The file changed while it was read; send the request again."
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_AUTHORITY = re.compile(r"[^/?#]*//([^/?#]*)")


def parse(url: str) -> httpx2.URL:
    """Parse an absolute URL. Raises VideoInvalid, url_scheme or url_not_allowed."""
    authority = _AUTHORITY.match(url)
    try:
        long = len(url.encode()) > MAX_URL_BYTES
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:  # a lone surrogate raises ValueError
        raise errors.VideoInvalid("This is not a URL.") from error
    if long:
        raise errors.VideoInvalid(
            "The URL is too long.", limit=MAX_URL_BYTES, actual=len(url.encode())
        )
    if parsed.scheme and parsed.scheme not in ("http", "https"):
        raise errors.UrlRefused("Only http and https URLs are taken.", reason="url_scheme")
    host = parsed.raw_host.decode("ascii")
    if not parsed.scheme or not host or authority is None or not 0 < port_of(parsed) < 1 << 16:
        raise errors.VideoInvalid("This is not a URL with a scheme, a host and, at most, a port.")
    if "@" in authority[1]:
        raise errors.UrlRefused(
            "A URL with a user name or a password is not taken; use a signed URL.",
            reason="url_not_allowed",
        )
    if len(host) > 253 or not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise errors.VideoInvalid("The URL has no valid host name.")
    return parsed


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def port_of(url: httpx2.URL) -> int:
    if url.port is not None:
        return url.port
    return {"http": 80, "https": 443}[url.scheme]


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAGE = re.compile(rb"<(!doctype html|html|head|body|script|title|!--)", re.IGNORECASE)
_JSON = re.compile(rb"[{\[]\s*[\"{}\[\]\d]")
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/json", "text/json"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})


class MeasuredStream(httpcore2.AsyncNetworkStream):
    """A connection whose peer may send little beside content. `credit` counts the content."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left_bytes = FRAMING_BYTES + READ_BYTES
        self._at_once_bytes = HEAD_READ_BYTES

    def credit(self, content_bytes: int) -> None:
        self._left_bytes += content_bytes + int(content_bytes * FRAMING_PER_CONTENT_BYTE)
        self._at_once_bytes = READ_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._left_bytes <= 0:
            raise errors.UrlRefused(
                f"The host sent over {FRAMING_BYTES} bytes of headers and chunk sizes, and hardly"
                " any content.",
                reason="url_status",
                limit=FRAMING_BYTES,
            )
        data = await self._stream.read(min(max_bytes, self._at_once_bytes), timeout)
        self._left_bytes -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return MeasuredStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # as the interface
        return self._stream.get_extra_info(info)


@dataclass(frozen=True, slots=True)
class Reply:
    url: httpx2.URL
    response: httpcore2.Response

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str:
        wanted = name.encode("ascii")
        return next(
            (v.decode("latin-1") for k, v in self.response.headers if k.lower() == wanted), ""
        )

    @property
    def length(self) -> int | None:
        declared = self.header("content-length")
        return int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body. Raises url_status if it comes in tiny chunks."""
        count = size = 0
        stream: MeasuredStream = self.response.extensions["network_stream"]
        with translated_errors():
            async for chunk in self.response.aiter_stream():
                yield chunk
                count += 1
                size += len(chunk)
                stream.credit(len(chunk))
                if count > CHUNKS + size / LEAST_CHUNK_BYTES:
                    raise errors.UrlRefused(
                        f"The host sends the file in chunks of {size / count:.0f} bytes;"
                        f" at least {LEAST_CHUNK_BYTES} are needed.",
                        reason="url_status",
                        limit=LEAST_CHUNK_BYTES,
                    )
                if count % CHUNKS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # chunks that one read brought come without a pause

    async def read(self, n: int) -> bytes:
        got = bytearray()
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                got += chunk
                if len(got) > n:  # not >=: reading to the end lets the connection be reused
                    break
        return bytes(got[:n])


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise network errors as url_unreachable, without their texts, which contain addresses."""
    try:
        yield
    except (httpcore2.ConnectTimeout, httpcore2.ConnectError) as error:
        if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
            raise errors.UrlRefused(
                "No TLS connection could be made; see whether the certificate is for this host.",
                reason="url_unreachable",
            ) from error
        raise errors.UrlRefused(
            "The host does not accept a connection.", reason="url_unreachable"
        ) from error
    except httpcore2.TimeoutException as error:
        raise errors.UrlRefused(
            f"The host fell silent for {IDLE_S:g} s.", reason="url_unreachable", limit=IDLE_S
        ) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise errors.UrlRefused(
            "The host broke off, or does not speak HTTP.", reason="url_unreachable"
        ) from error


@contextmanager
def named(param: str) -> Generator[None]:
    """Set ``param``, the request's field that has the URL, on errors that the block raises."""
    try:
        yield
    except (errors.ClipRefused, errors.UrlRefused, errors.VideoInvalid) as refused:
        refused.param = param
        raise


def _causes(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_status(answer: Reply) -> None:
    """Raise url_forbidden, url_status or empty_file unless the status is 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status == httpx2.codes.RANGE_NOT_SATISFIABLE and "*/0" in answer.header("content-range"):
        raise errors.ClipRefused("The file has no bytes.", reason="empty_file")
    reason = "url_forbidden" if status in (401, 403) else "url_status"
    raise errors.UrlRefused(
        f"The host answered with status {status}.", reason=reason, actual=status
    )


def check_type(answer: Reply) -> None:
    """Raise not_a_video if the headers declare a web page, JSON or a compressed body."""
    media_type = answer.header("content-type").partition(";")[0].strip().lower()
    if media_type in _PAGE_TYPES or media_type.endswith("+json"):
        raise errors.ClipRefused(
            f"The host sent {media_type}. Use the URL of the video file itself.",
            reason="not_a_video",
        )
    coding = answer.header("content-encoding").strip().lower()
    if coding in _COMPRESSED:
        raise errors.ClipRefused(
            f"The host sent the file compressed ({coding}), though not asked to.",
            reason="not_a_video",
        )


def check_content(head: bytes) -> None:
    """Raise not_a_video if the first bytes are HTML or JSON, empty_file if there are none."""
    if not head:
        raise errors.ClipRefused("The file has no bytes.", reason="empty_file")
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if _PAGE.match(text) or _JSON.match(text):
        raise errors.ClipRefused(
            "The host sent a web page or JSON. Use the URL of the video file itself.",
            reason="not_a_video",
        )


def check_size(size: int | None, max_bytes: int) -> None:
    if size is not None and size > max_bytes:
        raise errors.ClipRefused(
            f"The file has {size} bytes or more; the limit is {max_bytes}.",
            reason="file_too_large",
            limit=max_bytes,
            actual=size,
        )


@asynccontextmanager
async def send(
    pool: httpcore2.AsyncConnectionPool,
    method: str,
    url: httpx2.URL,
    headers: Sequence[tuple[bytes, bytes]],
    content: bytes | None = None,
) -> AsyncGenerator[Reply]:
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
    with translated_errors():
        response = await pool.handle_async_request(request)
    try:
        yield Reply(url, response)
    finally:
        await response.aclose()


@asynccontextmanager
async def get(
    pool: httpcore2.AsyncConnectionPool,
    url: httpx2.URL,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> AsyncGenerator[Reply]:
    """GET a URL, follow redirects, and check the final response's status and type."""
    for _ in range(MAX_REDIRECTS + 1):
        async with send(pool, "GET", url, headers) as answer:
            target = answer.header("location")
            if answer.status not in _REDIRECTS or not target:
                check_status(answer)
                check_type(answer)
                yield answer
                return
            try:
                url = parse(str(url.join(target)))
            except (httpx2.InvalidURL, ValueError, errors.VideoInvalid) as error:
                raise errors.UrlRefused(
                    "The origin redirects to what is not a URL.", reason="url_status"
                ) from error
    raise errors.UrlRefused(
        f"The origin redirects more than {MAX_REDIRECTS} times.",
        reason="url_unreachable",
        limit=MAX_REDIRECTS,
    )


class RangeUnavailable(Exception):
    """A sentence says why the bytes cannot be read now; the file may still be downloaded."""


_BUDGET = f"{BUDGET_BYTES >> 20} MiB"


class RangeReader:
    """Reads parts of a remote file, and at most `BUDGET_BYTES`.

    If the origin ignores Range, `open` reads the first MiB; any other part needs the whole file.
    """

    def __init__(self, pool: httpcore2.AsyncConnectionPool, url: httpx2.URL, param: str) -> None:
        self._pool = pool
        self._url = url
        self._param = param
        self._blocks: dict[int, bytes] = {}
        self._read_until = self._ahead_bytes = BLOCK_BYTES
        self._version = b""
        self.size: int | None = None  # None if the origin does not declare it
        self.ranged = False  # False if the origin ignores Range
        self.etag = ""
        self.bytes_read = 0

    async def open(self, max_bytes: int) -> None:
        first = [(b"Range", b"bytes=0-%d" % (BLOCK_BYTES - 1))]
        async with get(self._pool, self._url, first) as answer:
            self._url = answer.url
            self.etag = answer.header("etag")
            strong = self.etag if self.etag.startswith('"') else answer.header("last-modified")
            self._version = strong.encode("latin-1")
            self.ranged = answer.status == httpx2.codes.PARTIAL_CONTENT
            self.size = _whole(answer, 0) if self.ranged else answer.length
            check_size(self.size, max_bytes)
            head = await answer.read(BLOCK_BYTES if self.ranged else MAX_READ_BYTES)
        check_content(head)
        self._keep(0, head)
        if not self.ranged and len(head) < MAX_READ_BYTES:
            self.size = len(head)

    async def read_at(self, offset: int, n: int) -> bytes:
        """Read ``n`` bytes at ``offset``; fewer at the end of the file, and at most 1 MiB.

        Raises RangeUnavailable if all reads together exceed `BUDGET_BYTES`, or if the origin
        ignores Range and the whole file does. Raises url_status if the file changed.
        """
        n = min(n, MAX_READ_BYTES)
        if self.size is not None:
            n = min(n, self.size - offset)
        if n <= 0 or offset < 0:
            return b""
        first = offset // BLOCK_BYTES
        last = (offset + n - 1) // BLOCK_BYTES
        missing = [index for index in range(first, last + 1) if index not in self._blocks]
        if missing:
            await self._fetch(missing[0] * BLOCK_BYTES, (missing[-1] + 1) * BLOCK_BYTES)
        data = b"".join(self._blocks[index] for index in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return data[start : start + n]

    async def stream(self) -> AsyncGenerator[bytes]:
        size = await self.read_whole() if self.size is None else self.size
        if size == self.bytes_read and not self.ranged:
            yield b"".join(self._blocks.values())
            return
        if not self.ranged:
            async with self._whole_file() as answer, aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        self._blocks.clear()
        for start in range(0, size, MAX_READ_BYTES):
            yield await self._range(start, min(start + MAX_READ_BYTES, size))

    async def _fetch(self, start: int, stop: int) -> None:
        """Fetch the bytes [start, stop) into the cache; sequential reads double the read-ahead."""
        if self.size is None or not self.ranged:
            await self.read_whole()
            return
        if start == self._read_until:
            self._ahead_bytes = min(2 * self._ahead_bytes, MAX_READ_BYTES)
            stop = max(stop, start + self._ahead_bytes)
        else:
            self._ahead_bytes = BLOCK_BYTES
        self._read_until = stop
        stop = min(stop, self.size)
        if self.bytes_read + stop - start > BUDGET_BYTES:
            raise RangeUnavailable(f"Over {_BUDGET} would have to be read to know the clip.")
        self._keep(start, await self._range(start, stop))

    async def read_whole(self) -> int:
        """Read a file from an origin that ignores Range, or declares no size; return its size."""
        too_large = f"The host serves no ranges of the file, and the file has over {_BUDGET}."
        if (self.size or 0) > BUDGET_BYTES:
            raise RangeUnavailable(too_large)
        async with self._whole_file() as answer:
            data = await answer.read(BUDGET_BYTES + 1)
        if len(data) > BUDGET_BYTES:
            raise RangeUnavailable(too_large)
        if self.size not in (None, len(data)):
            raise errors.UrlRefused(
                f"The origin sent {len(data)} of {self.size} bytes.", reason="url_unreachable"
            )
        self.size = len(data)
        self.bytes_read = 0
        self._keep(0, data)
        return self.size

    @asynccontextmanager
    async def _whole_file(self) -> AsyncGenerator[Reply]:
        with named(self._param):
            async with send(self._pool, "GET", self._url, ()) as answer:
                check_status(answer)
                if self.size not in (None, answer.length) or answer.header("etag") != self.etag:
                    raise errors.UrlRefused(_CHANGED, reason="url_status")
                yield answer

    def _keep(self, start: int, data: bytes) -> None:
        self.bytes_read += len(data)
        for at in range(0, len(data), BLOCK_BYTES):
            self._blocks[(start + at) // BLOCK_BYTES] = data[at : at + BLOCK_BYTES]

    async def _range(self, start: int, stop: int) -> bytes:
        wanted = [(b"Range", b"bytes=%d-%d" % (start, stop - 1))]
        if self._version:
            wanted.append((b"If-Range", self._version))
        with named(self._param):
            async with send(self._pool, "GET", self._url, wanted) as answer:
                check_status(answer)
                is_range = answer.status == httpx2.codes.PARTIAL_CONTENT
                whole = _whole(answer, start) if is_range else None
                if whole != self.size or answer.header("etag") != self.etag:
                    raise errors.UrlRefused(_CHANGED, reason="url_status")
                data = await answer.read(stop - start)
            if len(data) < stop - start:
                raise errors.UrlRefused(
                    f"The origin sent {len(data)} of {stop - start} bytes from byte {start} on.",
                    reason="url_unreachable",
                )
        return data


def _whole(answer: Reply, start: int) -> int:
    given = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
    if given is None or int(given[1]) != start or given[3] == "*":
        raise errors.UrlRefused(
            "The origin answers a range request with another range than the one asked for.",
            reason="url_status",
            actual=answer.status,
        )
    return int(given[3])
