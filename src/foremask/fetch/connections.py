"""Requests over connections to checked addresses; the one place that opens sockets.

One function does, `PinnedBackend.connect_tcp`: it resolves a name once, checks every answer, and
connects to a checked address. A redirect is a new connection, so it passes there too. Nothing is
taken from the environment: no proxy, no netrc.
"""

import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import httpcore2
import httpx2

from foremask.errors import UrlPrivate, UrlUnreachable
from foremask.fetch import responses, urls
from foremask.fetch.addresses import Network, is_public
from foremask.fetch.responses import Answer

type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host name and a port to addresses, best first; raises OSError where there is none."""

MAX_REDIRECTS = 3
RESOLVE_S = 5.0
CONNECT_S = 5.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class PinnedBackend(httpcore2.AnyIOBackend):
    """Opens sockets, to checked addresses only."""

    def __init__(self, allow_private: tuple[Network, ...], resolve: Resolve) -> None:
        self._allow_private = allow_private
        self._resolve = resolve

    async def checked_addresses(self, host: str, port: int) -> list[str]:
        """Resolve ``host`` once; raises unless all of its addresses are allowed."""
        if port not in urls.PORTS and not self._allow_private:
            raise urls.port_refused(port)
        try:
            texts = await self._resolve(host, port)
            addresses = [ipaddress.ip_address(text) for text in texts]
        except (OSError, ValueError) as error:  # a TimeoutError and a UnicodeError, too
            raise UrlUnreachable("The host name cannot be resolved.") from error
        if not addresses:
            raise UrlUnreachable("The host name has no address.")
        not_allowed = [a for a in addresses if not any(a in net for net in self._allow_private)]
        if not_allowed and port not in urls.PORTS:
            raise urls.port_refused(port)
        if not all(map(is_public, not_allowed)):
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
        """Connect to the first of the host's two best addresses that answers."""
        failed: Exception = httpcore2.ConnectError()
        for address in (await self.checked_addresses(host, port))[:2]:
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
    """One request to one address, without any header that was not asked for."""
    idle_s = responses.IDLE_S
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
            "timeout": {"connect": CONNECT_S, "read": idle_s, "write": idle_s, "pool": CONNECT_S},
            "sni_hostname": url.raw_host.decode("ascii").rstrip("."),
        },
    )
    with responses.translated_errors():
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
    """The answer to a GET after its redirects: a 2xx whose type may be a video."""
    for _ in range(MAX_REDIRECTS + 1):
        async with send(pool, "GET", url, headers) as answer:
            target = answer.header("location")
            if answer.status not in _REDIRECTS or not target:
                responses.check_status(answer)
                responses.check_type(answer)
                yield answer
                return
            url = urls.redirected(url, target)
    raise UrlUnreachable(
        f"The origin redirects more than {MAX_REDIRECTS} times.", limit=MAX_REDIRECTS
    )
