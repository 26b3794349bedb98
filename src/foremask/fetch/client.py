"""An HTTP client for range reads, downloads and webhooks, to allowed addresses only.

For each connection, also after a redirect, `_PinnedBackend` resolves the host name once and
connects only to an address that it has checked. Proxies and netrc files of the environment are
ignored.
"""

import asyncio
import functools
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress

import httpcore2

from foremask import errors
from foremask.fetch import connections
from foremask.fetch.connections import RangeReader, named
from foremask.fetch.fairness import FairSemaphore

MIN_BYTES_PER_S = 32 << 10  # a clip of 20 MB in ten minutes
SPEED_WINDOW_S = 10.0
WRITE_BYTES = 1 << 20
MAX_RESOLUTIONS = 32  # look-ups at once; a silent name server blocks a thread for up to 30 s
MAX_RESOLUTIONS_PER_OWNER = 8
SLOT_S = 2.0
PORTS = (80, 443)
RESOLVE_S = 5.0

type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name and port, best first; raises OSError if it finds none."""
type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# IP networks that are refused, even where `is_global` is True.
_REFUSED: tuple[IpNetwork, ...] = (
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


class Outbound:
    """An HTTP client that connects only to allowed addresses; use it with ``async with``.

    Addresses in ``allow_private`` are allowed on any port, although they are not public.
    ``resolve`` and ``tls`` replace the system's resolver and TLS context. ``on_wait`` is called for
    each name look-up that has to wait for others.
    """

    def __init__(
        self,
        *,
        allow_private: Iterable[IpNetwork] = (),
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        on_wait: Callable[[], object] | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(MAX_RESOLUTIONS, thread_name_prefix="resolve")
        self._slots = FairSemaphore(MAX_RESOLUTIONS, MAX_RESOLUTIONS_PER_OWNER, on_wait)
        self._allow_private = tuple(allow_private)
        self._resolve: Resolve = resolve or self._by_system
        self._tls = tls or httpcore2.default_ssl_context(_trust_env=False)

    async def __aenter__(self) -> "Outbound":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check_webhook(self, url: str, owner: str = "") -> None:
        """Raise webhook_invalid if `post` would refuse the URL or its host's current addresses.

        Sends no request. Raises Overloaded if the name look-up does not begin within `SLOT_S`.
        """
        try:
            parsed = connections.parse(url)
            host = parsed.raw_host.decode("ascii")
            port = connections.port_of(parsed)
            await self._backend(owner).checked_addresses(host, port)
        except (errors.UrlRefused, errors.VideoInvalid) as refused:
            raise errors.BadRequest(
                refused.details, reason="webhook_invalid", param="webhook_url"
            ) from refused

    @asynccontextmanager
    async def open_range_reader(
        self, url: str, *, max_bytes: int, param: str = "video", owner: str = ""
    ) -> AsyncGenerator[RangeReader]:
        """Open a remote file. Raises file_too_large if its declared size is over ``max_bytes``."""
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
        ``on_bytes`` cancels the download. Raises file_too_large for more than ``max_bytes``,
        declared or sent; url_too_slow below `MIN_BYTES_PER_S`; url_unreachable if the origin stops
        sending, closes the connection, or takes longer than ``deadline_s``.
        """
        size = 0
        waited_s = 0.0
        window_start_s = 0.0  # of `waited_s`
        window_start_size = 0
        held = bytearray()

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
                seconds = waited_s - window_start_s
                if seconds >= SPEED_WINDOW_S:
                    _check_pace(size - window_start_size, seconds)
                    window_start_s = waited_s
                    window_start_size = size
                if len(held) >= WRITE_BYTES:
                    await write_held()
                asked_s = time.monotonic()
            await write_held()

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> int:
        """POST ``body``, follow no redirect, and return the response's 2xx status.

        Raises url_forbidden or url_status for another status, url_unreachable without a response.
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

    def _backend(self, owner: str) -> "_PinnedBackend":
        return _PinnedBackend(self._allow_private, functools.partial(self._addresses_for, owner))

    async def _addresses_for(self, owner: str, host: str, port: int) -> Sequence[str]:
        with suppress(ValueError):
            return [str(ipaddress.ip_address(host))]  # other spellings of an address are looked up
        try:
            async with asyncio.timeout(SLOT_S):
                await self._slots.acquire(owner)
        except TimeoutError:
            raise errors.Overloaded(
                f"No name could be looked up within {SLOT_S:g} s; send the same request again.",
                limit=MAX_RESOLUTIONS_PER_OWNER,
            ) from None
        resolving = asyncio.ensure_future(self._resolve(host, port))

        def over(done: asyncio.Future[Sequence[str]]) -> None:
            self._slots.release(owner)  # the slot is taken until the thread has ended
            if not done.cancelled():
                done.exception()  # asyncio would log an exception that is never retrieved

        resolving.add_done_callback(over)
        async with asyncio.timeout(RESOLVE_S):
            return await asyncio.shield(resolving)

    async def _by_system(self, host: str, port: int) -> Sequence[str]:
        ask_system = functools.partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask_system)
        return list(dict.fromkeys(str(answer[4][0]) for answer in found))


def _check_pace(came: int, seconds: float) -> None:
    """Raise url_too_slow if ``came`` bytes in ``seconds`` are below `MIN_BYTES_PER_S`."""
    if came < MIN_BYTES_PER_S * seconds:
        raise errors.UrlRefused(
            f"The host sent {came / seconds:.0f} bytes a second over {seconds:.0f} s; at least"
            f" {MIN_BYTES_PER_S} are needed.",
            reason="url_too_slow",
            limit=MIN_BYTES_PER_S,
            actual=round(came / seconds),
        )


@asynccontextmanager
async def _deadline(param: str, seconds: float) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(seconds):
            with named(param):
                yield
    except TimeoutError as error:
        raise errors.UrlRefused(
            f"The host was not done within {seconds:g} s.",
            reason="url_unreachable",
            param=param,
            limit=seconds,
        ) from error


def _port_refused(port: int) -> errors.UrlRefused:
    return errors.UrlRefused(
        f"Port {port} is not 80 or 443; the operator can open addresses of other ports with"
        " FOREMASK_ALLOW_PRIVATE.",
        reason="url_not_allowed",
        actual=port,
    )


class _PinnedBackend(httpcore2.AnyIOBackend):
    def __init__(self, allow_private: tuple[IpNetwork, ...], resolve: Resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolve

    async def checked_addresses(self, host: str, port: int) -> list[str]:
        """Return ``host``'s addresses. Raises url_private, url_not_allowed or url_unreachable."""
        if port not in PORTS and not self._allow_private:
            raise _port_refused(port)
        try:
            texts = await self._resolve(host, port)
            addresses = [ipaddress.ip_address(text) for text in texts]
        except (OSError, ValueError) as error:  # also TimeoutError and UnicodeError
            raise errors.UrlRefused(
                "The host name cannot be resolved.", reason="url_unreachable"
            ) from error
        if not addresses:
            raise errors.UrlRefused("The host name has no address.", reason="url_unreachable")
        not_allowed = [a for a in addresses if not any(a in net for net in self._allow_private)]
        if not_allowed and port not in PORTS:
            raise _port_refused(port)
        if not all(map(is_public, not_allowed)):
            raise errors.UrlRefused(
                "The host is not on the public internet. Use a URL that anyone can reach.",
                reason="url_private",
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
                stream = await super().connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
            else:
                return connections.MeasuredStream(stream)
        raise failed
