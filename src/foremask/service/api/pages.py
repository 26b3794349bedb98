"""The pages for people: playground, API reference, documentation, and the files they need.

Nothing comes from another server. ``make site`` builds the documentation into ``site``; where it
was not built, its address leads to the API reference.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from litestar import HttpMethod, route
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from foremask.errors import PathUnknown
from foremask.service.api.conditions import select_bytes
from foremask.service.api.request_context import ApiRequest

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'{hashes}",
        "style-src 'self'{styles}",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
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
STYLE_HASHES = "style-hashes.txt"
"""Names the styles that the documentation's own script adds to a page: SHA-256 in base64."""
_STARTED_AT = datetime.now(UTC)
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """One file, plain and compressed; ``packed`` is None where that would not help.

    ``policy`` allows our own files, and the scripts that the file itself contains.
    """

    content: bytes
    packed: bytes | None
    media_type: str
    etag: str
    policy: str

    def answer(self, request: ApiRequest) -> ASGIResponse:
        """The file, or a range of it: browsers seek only in files that are served by ranges."""
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": self.policy,
            "Content-Type": self.media_type,
            "Cross-Origin-Opener-Policy": "same-origin",
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
        }
        size = len(self.content)
        status, start, stop = select_bytes(request.headers, size, self.etag, _STARTED_AT)
        body = self.content[start:stop]
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        elif status == 200 and self.packed and "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = self.packed, "gzip"
        return ASGIResponse(body=body, status_code=status, headers=headers)


@cache
def read_pages(folder: str = "static") -> dict[str, Page]:
    """Every file below ``folder`` of this package; none where it is missing."""
    return read_folder(Path(__file__).with_name(folder))


def read_folder(root: Path) -> dict[str, Page]:
    """Every file below ``root`` by its path there, ready to be sent; none where it is missing."""
    styles = root / STYLE_HASHES
    allowed = styles.read_text(encoding="utf-8").split() if styles.is_file() else []
    return {
        path.relative_to(root).as_posix(): page_of(path.read_bytes(), path.suffix, allowed)
        for path in root.rglob("*")
        if path.suffix in TYPES
    }


def page_of(content: bytes, suffix: str, styles: Iterable[str] = ()) -> Page:
    """The file with this suffix, whose scripts may add these styles, by their hashes."""
    packed = gzip.compress(content, mtime=0) if suffix in SMALLER_BY_GZIP else None
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    scripts = _INLINE_SCRIPT.findall(content) if suffix == ".html" else []
    digests = [base64.b64encode(hashlib.sha256(each).digest()).decode() for each in scripts]
    policy = POLICY.format(hashes=_allow(digests), styles=_allow(styles))
    return Page(content, packed, TYPES[suffix], etag, policy)


def _allow(digests: Iterable[str]) -> str:
    return "".join(f" 'sha256-{each}'" for each in dict.fromkeys(digests))


def _for_people(*paths: str) -> route:
    """A route for GET and HEAD that the API's document does not have."""
    methods = [HttpMethod.GET, HttpMethod.HEAD]
    return route(list(paths), http_method=methods, status_code=200)


@_for_people("/", "/reference")
async def named(request: ApiRequest) -> ASGIResponse:
    """The playground at ``/`` and the API reference at ``/reference``."""
    name = "reference.html" if request.url.path.startswith("/reference") else "index.html"
    return _find("static", name).answer(request)


@_for_people("/static/{name:path}")
async def static(request: ApiRequest, name: FromPath[str]) -> ASGIResponse:
    """One file that a page needs."""
    return _find("static", name.lstrip("/")).answer(request)


@_for_people("/docs")
async def documentation() -> ASGIResponse:
    """Lead to the documentation, or to the API reference where it was not built."""
    return _lead_to("/docs/index.html" if read_pages("site") else "/reference")


@_for_people("/docs/{name:path}")
async def documentation_page(request: ApiRequest, name: FromPath[str]) -> ASGIResponse:
    """One page of the documentation, or a file that it needs."""
    if not read_pages("site"):
        return _lead_to("/reference")
    return _find("site", name.strip("/")).answer(request)


def _lead_to(place: str) -> ASGIResponse:
    return ASGIResponse(status_code=302, headers={"Location": place, "Cache-Control": "no-cache"})


def _find(folder: str, name: str) -> Page:
    try:
        return read_pages(folder)[name]
    except KeyError:
        raise PathUnknown("There is no such page; /reference lists the API.") from None
