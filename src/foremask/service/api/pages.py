"""Serves the playground, the API reference, the documentation, and the files of these pages.

``make site`` builds the documentation into ``site``. Until then, ``/docs`` redirects to the API
reference.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.responses import Response

from foremask.errors import BadRequest
from foremask.service.api.context import ApiRequest
from foremask.service.api.openapi import Handler

POLICY = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self'{styles};"
    " img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".png": "image/png",
    ".gif": "image/gif",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
    ".woff2": "font/woff2",
}
SMALLER_BY_GZIP = frozenset({".html", ".css", ".js", ".svg", ".json", ".md", ".txt", ".xml"})
STYLE_HASHES = "style-hashes.txt"  # hashes of styles that the site's JavaScript adds
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
STATIC = Path(__file__).with_name("static")
SITE = Path(__file__).with_name("site")
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


def select_bytes(
    request_headers: Mapping[str, str], size: int, etag: str, response_headers: dict[str, str]
) -> tuple[int, int, int]:
    """Return the status (200, 206 or 304), and start and stop of the bytes to send (RFC 9110).

    The function adds headers to ``response_headers``. It selects the whole file if the request has
    several ranges, another unit than bytes, or an If-Range other than ``etag``. Raises
    range_invalid if the range begins after the file's end.
    """
    response_headers |= {"Accept-Ranges": "bytes", "ETag": etag}
    known = request_headers.get("if-none-match", "").split(",")
    if not {"*", etag}.isdisjoint(tag.strip().removeprefix("W/") for tag in known):
        return 304, 0, 0
    wanted = _RANGE.fullmatch(request_headers.get("range", ""))
    if wanted is None or request_headers.get("if-range", etag) != etag:
        return 200, 0, size
    first, last, suffix = wanted.groups()
    stop = size
    start = max(0, size - int(suffix or 0))
    if first is not None:
        start = int(first)
    if last:
        if int(last) < start:
            return 200, 0, size  # RFC 9110 ignores an invalid range
        stop = min(int(last) + 1, size)
    if start >= stop:
        raise BadRequest(
            f"The file has {size} bytes, and the range begins behind them.",
            reason="range_invalid",
            param="Range",
            limit=size,
            actual=start,
        )
    response_headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return 206, start, stop


@dataclass(frozen=True, slots=True)
class Page:
    content: bytes
    gzipped: bytes | None  # None if the media type is compressed
    media_type: str
    etag: str
    policy: str

    def answer(self, request: ApiRequest) -> Response:
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": self.policy,
            "Content-Type": self.media_type,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Vary": "Accept-Encoding",
        }
        asked = request.headers
        status, start, stop = select_bytes(asked, len(self.content), self.etag, headers)
        body = self.content[start:stop]
        if status == 200 and self.gzipped and "gzip" in asked.get("accept-encoding", ""):
            body = self.gzipped
            headers["Content-Encoding"] = "gzip"
        return Response(body, status, headers)


@cache
def read_folder(root: Path) -> dict[str, Page]:
    styles = root / STYLE_HASHES
    allowed: list[str] = []
    if styles.is_file():
        allowed = styles.read_text(encoding="utf-8").split()
    return {
        path.relative_to(root).as_posix(): page_of(path.read_bytes(), path.suffix, allowed)
        for path in root.rglob("*")
        if path.suffix in TYPES
    }


def page_of(content: bytes, suffix: str, styles: Iterable[str] = ()) -> Page:
    """Return a page whose policy allows its inline scripts and the style hashes ``styles``."""
    packed = None
    if suffix in SMALLER_BY_GZIP:
        packed = gzip.compress(content, mtime=0)
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    scripts: list[bytes] = []
    if suffix == ".html":
        scripts = _INLINE_SCRIPT.findall(content)
    digests = [base64.b64encode(hashlib.sha256(each).digest()).decode() for each in scripts]
    policy = POLICY.format(hashes=_allow(digests), styles=_allow(styles))
    return Page(content, packed, TYPES[suffix], etag, policy)


def _allow(digests: Iterable[str]) -> str:
    return "".join(f" 'sha256-{each}'" for each in dict.fromkeys(digests))


async def answer_page(request: ApiRequest, name: str = "") -> Response:
    pages = read_folder(STATIC)
    match request.facts.route:
        case "/":
            name = "index.html"
        case "/reference":
            name = "reference.html"
        case "/docs" | "/docs/{name}":
            pages = read_folder(SITE)
            if not pages:
                return _moved("/reference")
            if not name:
                return _moved("/docs/index.html")
        case _:  # a file of /static
            pass
    found = pages.get(name)
    if found is None:
        raise BadRequest("There is no such page; /reference lists the API.", reason="path_unknown")
    return found.answer(request)


def _moved(location: str) -> Response:
    headers = {"Location": location, "Cache-Control": "no-cache"}
    return Response(status_code=302, headers=headers)


PATHS = ("/", "/reference", "/static/{name:path}", "/docs", "/docs/{name:path}")
HANDLER = Handler(answer_page, "GET", PATHS, 200, operation=None)
