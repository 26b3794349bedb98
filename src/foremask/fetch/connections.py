"""Checks URLs and their addresses, and sends requests to them.

`PinnedBackend` resolves each host name once and connects only to an address that it has checked,
also after a redirect. Proxies and netrc files of the environment are ignored.
"""

import ipaddress
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpcore2
import httpx2

from foremask import errors

PORTS = (80, 443)
MAX_URL_BYTES = 8 << 10
MAX_REDIRECTS = 3
RESOLVE_S = 5.0
CONNECT_S = 5.0
IDLE_S = 15.0  # an origin that sends nothing for this long counts as unreachable

type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name and port, best first; raises OSError if it finds none."""
type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IP networks that are registered as public, and refused nevertheless.
_REFUSED: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # IETF protocols, and Oracle Cloud's metadata
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's host agent
    ipaddress.IPv6Network("2001::/23"),  # IETF protocols, such as Teredo
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # IANA assigns public addresses from this range only
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Return whether ``address`` is public; IPv4-mapped, 6to4 and Teredo addresses are not."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _UNICAST:
            return False
    special = address.is_multicast or address.is_reserved
    return address.is_global and not special and not any(address in net for net in _REFUSED)


_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_AUTHORITY = re.compile(r"[^/?#]*//([^/?#]*)")


def parse(url: str) -> httpx2.URL:
    """Parse an absolute URL. Raises VideoInvalid, UrlScheme or UrlNotAllowed."""
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
        raise errors.UrlScheme("Only http and https URLs are taken.")
    host = parsed.raw_host.decode("ascii")
    if not parsed.scheme or not host or authority is None or not 0 < port_of(parsed) < 1 << 16:
        raise errors.VideoInvalid("This is not a URL with a scheme, a host and, at most, a port.")
    if "@" in authority[1]:
        raise errors.UrlNotAllowed(
            "A URL with a user name or a password is not taken; use a signed URL."
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
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)


def _port_refused(port: int) -> errors.UrlNotAllowed:
    return errors.UrlNotAllowed(
        f"Port {port} is not 80 or 443; the operator can open addresses of other ports with"
        " FOREMASK_ALLOW_PRIVATE.",
        actual=port,
    )


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PAGE = re.compile(rb"<(!doctype html|html|head|body|script|title|!--)", re.IGNORECASE)
_JSON = re.compile(rb"[{\[]\s*[\"{}\[\]\d]")
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/json", "text/json"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})


@dataclass(frozen=True, slots=True)
class Answer:
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
        with translated_errors():
            async for chunk in self.response.aiter_stream():
                yield chunk

    async def read(self, n: int) -> bytes:
        got = bytearray()
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                got += chunk
                if len(got) > n:  # not >=: after the body's end, the connection is reused
                    break
        return bytes(got[:n])


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise network errors as UrlUnreachable, without their texts, which contain addresses."""
    try:
        yield
    except (httpcore2.ConnectTimeout, httpcore2.ConnectError) as error:
        if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
            raise errors.UrlUnreachable(
                "No TLS connection could be made; see whether the certificate is for this host."
            ) from error
        raise errors.UrlUnreachable("The host does not accept a connection.") from error
    except httpcore2.TimeoutException as error:
        raise errors.UrlUnreachable(
            f"The host fell silent for {IDLE_S:g} s.", limit=IDLE_S
        ) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise errors.UrlUnreachable("The host broke off, or does not speak HTTP.") from error


@contextmanager
def named(param: str) -> Generator[None]:
    """Set ``param`` of errors that the block raises: the request's field that has the URL."""
    try:
        yield
    except (errors.ClipRefused, errors.UrlRefused, errors.VideoInvalid) as refused:
        refused.param = param
        raise


def _causes(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_status(answer: Answer) -> None:
    """Raise UrlForbidden, UrlStatus or EmptyFile unless the status is 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status == httpx2.codes.RANGE_NOT_SATISFIABLE and "*/0" in answer.header("content-range"):
        raise errors.EmptyFile("The file has no bytes.")
    kind = errors.UrlForbidden if status in (401, 403) else errors.UrlStatus
    raise kind(f"The host answered with status {status}.", actual=status)


def check_type(answer: Answer) -> None:
    """Raise NotAVideo if the headers declare a web page, JSON or a compressed body."""
    media_type = answer.header("content-type").partition(";")[0].strip().lower()
    if media_type in _PAGE_TYPES or media_type.endswith("+json"):
        raise errors.NotAVideo(f"The host sent {media_type}. Use the URL of the video file itself.")
    coding = answer.header("content-encoding").strip().lower()
    if coding in _COMPRESSED:
        raise errors.NotAVideo(
            f"The host sent the file compressed ({coding}), though not asked to."
        )


def check_content(head: bytes) -> None:
    """Raise NotAVideo if the first bytes are HTML or JSON, EmptyFile if there are none."""
    if not head:
        raise errors.EmptyFile("The file has no bytes.")
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if _PAGE.match(text) or _JSON.match(text):
        raise errors.NotAVideo(
            "The host sent a web page or JSON. Use the URL of the video file itself."
        )


def check_size(size: int | None, max_bytes: int) -> None:
    if size is not None and size > max_bytes:
        raise errors.FileTooLarge(
            f"The file has {size} bytes or more; the limit is {max_bytes}.",
            limit=max_bytes,
            actual=size,
        )


class PinnedBackend(httpcore2.AnyIOBackend):
    def __init__(self, allow_private: tuple[Network, ...], resolve: Resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolve

    async def checked_addresses(self, host: str, port: int) -> list[str]:
        """Resolve ``host`` once. Raises UrlPrivate, UrlNotAllowed or UrlUnreachable."""
        if port not in PORTS and not self._allow_private:
            raise _port_refused(port)
        try:
            texts = await self._resolve(host, port)
            addresses = [ipaddress.ip_address(text) for text in texts]
        except (OSError, ValueError) as error:  # also TimeoutError and UnicodeError
            raise errors.UrlUnreachable("The host name cannot be resolved.") from error
        if not addresses:
            raise errors.UrlUnreachable("The host name has no address.")
        not_allowed = [a for a in addresses if not any(a in net for net in self._allow_private)]
        if not_allowed and port not in PORTS:
            raise _port_refused(port)
        if not all(map(is_public, not_allowed)):
            raise errors.UrlPrivate(
                "The host is not on the public internet. Use a URL that anyone can reach."
            )
        return [str(address) for address in addresses]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # an argument of the interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        failed: Exception = httpcore2.ConnectError()
        for address in (await self.checked_addresses(host, port))[:2]:  # the best two
            try:
                return await super().connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed


@asynccontextmanager
async def send(
    pool: httpcore2.AsyncConnectionPool,
    method: str,
    url: httpx2.URL,
    headers: Sequence[tuple[bytes, bytes]],
    content: bytes | None = None,
) -> AsyncGenerator[Answer]:
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
        yield Answer(url, response)
    finally:
        await response.aclose()


@asynccontextmanager
async def get(
    pool: httpcore2.AsyncConnectionPool,
    url: httpx2.URL,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> AsyncGenerator[Answer]:
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
                raise errors.UrlStatus("The origin redirects to what is not a URL.") from error
    raise errors.UrlUnreachable(
        f"The origin redirects more than {MAX_REDIRECTS} times.", limit=MAX_REDIRECTS
    )
