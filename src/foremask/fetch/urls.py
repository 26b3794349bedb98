"""The one parser of URLs, and which addresses are public: the only ones that they may lead to."""

import ipaddress
import re

import httpx2

from foremask.errors import UrlNotAllowed, UrlScheme, UrlStatus, VideoInvalid

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Registered as public, and still refused to callers.
_REFUSED: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments: port control, Oracle's metadata
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's host agent
    ipaddress.IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all assigned addresses; the rest is special
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether ``address`` is on the public internet; no v4-mapped, 6to4 or Teredo form is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _UNICAST:
            return False
    special = address.is_multicast or address.is_reserved
    return address.is_global and not special and not any(address in net for net in _REFUSED)


PORTS = (80, 443)
MAX_URL_BYTES = 8 << 10

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")
_AUTHORITY = re.compile(r"[^/?#]*//([^/?#]*)")


def parse(url: str) -> httpx2.URL:
    """The URL in its parts; raises VideoInvalid, UrlScheme or UrlNotAllowed."""
    authority = _AUTHORITY.match(url)
    try:
        long = len(url.encode()) > MAX_URL_BYTES
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:  # a lone surrogate is a ValueError
        raise VideoInvalid("This is not a URL.") from error
    if long:
        raise VideoInvalid("The URL is too long.", limit=MAX_URL_BYTES, actual=len(url.encode()))
    if parsed.scheme and parsed.scheme not in ("http", "https"):
        raise UrlScheme("Only http and https URLs are taken.")
    host = parsed.raw_host.decode("ascii")
    if not parsed.scheme or not host or authority is None or not 0 < port_of(parsed) < 1 << 16:
        raise VideoInvalid("This is not a URL with a scheme, a host and, at most, a port.")
    if "@" in authority[1]:
        raise UrlNotAllowed("A URL with a user name or a password is not taken; use a signed URL.")
    if len(host) > 253 or not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise VideoInvalid("The URL has no valid host name.")
    return parsed


def redirected(url: httpx2.URL, target: str) -> httpx2.URL:
    """The target of a redirect; raises UrlStatus where it is no URL, and the errors of `parse`."""
    try:
        return parse(str(url.join(target)))
    except (httpx2.InvalidURL, ValueError, VideoInvalid) as error:
        raise UrlStatus("The origin redirects to what is not a URL.") from error


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def port_of(url: httpx2.URL) -> int:
    """The port to connect to: the URL's, or its scheme's usual one."""
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)


def port_refused(port: int) -> UrlNotAllowed:
    """The error for a port that is not allowed."""
    return UrlNotAllowed(
        f"Port {port} is not 80 or 443; the operator can open addresses of other ports with"
        " FOREMASK_ALLOW_PRIVATE.",
        actual=port,
    )
