"""The one parser of URLs: what is checked is what is connected to."""

import ipaddress
import re

import httpx2

from foremask.errors import UrlNotAllowed, UrlScheme, UrlStatus, VideoInvalid

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
        "Only the ports 80 and 443 are reached, and others only at addresses that the operator"
        " opens by FOREMASK_ALLOW_PRIVATE.",
        actual=port,
    )
