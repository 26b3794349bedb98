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
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from foremask.errors import PathUnknown
from foremask.service.api.request_context import ApiRequest, readable

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
_RANGE = re.compile(r"bytes=([0-9]{1,9})-([0-9]{1,9})?")
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
        """The file, or 304 where the caller has it already."""
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": self.policy,
            "Content-Type": self.media_type,
            "Cross-Origin-Opener-Policy": "same-origin",
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
        }
        if self.etag in request.headers.get("if-none-match", ""):
            return ASGIResponse(status_code=304, headers=headers)
        if self.media_type.startswith("video/"):
            return self._part(request, {**headers, "Accept-Ranges": "bytes"})
        if self.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return ASGIResponse(body=self.packed, headers={**headers, "Content-Encoding": "gzip"})
        return ASGIResponse(body=self.content, headers=headers)

    def _part(self, request: ApiRequest, headers: dict[str, str]) -> ASGIResponse:
        """The requested range: browsers seek only in files that are served by ranges."""
        size = len(self.content)
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        same = request.headers.get("if-range", self.etag) == self.etag
        if asked is None or not same or int(asked[1]) >= size:
            return ASGIResponse(body=self.content, headers=headers)
        first = int(asked[1])
        last = min(size - 1, int(asked[2])) if asked[2] else size - 1
        if last < first:
            return ASGIResponse(body=self.content, headers=headers)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return ASGIResponse(body=self.content[first : last + 1], status_code=206, headers=headers)


@cache
def read_pages(folder: str = "static") -> dict[str, Page]:
    """Every file below ``folder`` of this package; none where it is missing."""
    return read_folder(resources.files(__package__) / folder)


def read_folder(root: Traversable) -> dict[str, Page]:
    """Every file below ``root`` by its path there, ready to be sent; none where it is missing."""
    found: dict[str, Page] = {}
    waiting = [(root, PurePosixPath())] if root.is_dir() else []
    styles = root / STYLE_HASHES
    allowed = styles.read_text(encoding="utf-8").split() if styles.is_file() else []
    while waiting:
        folder, path = waiting.pop()
        for each in folder.iterdir():
            here = path / each.name
            if each.is_dir():
                waiting.append((each, here))
            elif here.suffix in TYPES:
                found[str(here)] = page_of(each.read_bytes(), here.suffix, allowed)
    return found


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


@readable("/", "/reference")
async def named(request: ApiRequest) -> ASGIResponse:
    """The playground at ``/`` and the API reference at ``/reference``."""
    name = "reference.html" if request.url.path.startswith("/reference") else "index.html"
    return _find("static", name).answer(request)


@readable("/static/{name:path}")
async def static(request: ApiRequest, name: FromPath[str]) -> ASGIResponse:
    """One file that a page needs."""
    return _find("static", name.lstrip("/")).answer(request)


@readable("/docs")
async def documentation() -> ASGIResponse:
    """Lead to the documentation, or to the API reference where it was not built."""
    return _lead_to("/docs/index.html" if read_pages("site") else "/reference")


@readable("/docs/{name:path}")
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
