"""The pages for people: playground, documentation, and what they need.

Nothing from anybody else's server.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from foremask.service.api.request_context import ApiRequest, readable
from foremask.service.service_errors import PathUnknown

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
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
}


SMALLER_BY_GZIP = frozenset({".html", ".css", ".js", ".svg"})


@dataclass(frozen=True, slots=True)
class Page:
    """One file, as it is and packed; ``packed`` is None where that would not help."""

    content: bytes
    packed: bytes | None
    media_type: str
    etag: str

    def answer(self, request: ApiRequest) -> ASGIResponse:
        """The file, or that the caller has it already: a reload costs next to nothing."""
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Content-Type": self.media_type,
            "Cross-Origin-Opener-Policy": "same-origin",
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
        }
        if self.etag in request.headers.get("if-none-match", ""):
            return ASGIResponse(status_code=304, headers=headers)
        if self.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return ASGIResponse(body=self.packed, headers={**headers, "Content-Encoding": "gzip"})
        return ASGIResponse(body=self.content, headers=headers)


@cache
def read_pages() -> dict[str, Page]:
    """Every file below ``static`` by its path there, ready to be sent."""
    found: dict[str, Page] = {}
    root = resources.files(__package__) / "static"
    waiting = [(root, PurePosixPath())]
    while waiting:
        folder, path = waiting.pop()
        for each in folder.iterdir():
            here = path / each.name
            if each.is_dir():
                waiting.append((each, here))
            elif here.suffix in TYPES:
                found[str(here)] = _page(each.read_bytes(), here.suffix)
    return found


def _page(content: bytes, suffix: str) -> Page:
    packed = gzip.compress(content, mtime=0) if suffix in SMALLER_BY_GZIP else None
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return Page(content, packed, TYPES[suffix], etag)


@readable("/", "/docs")
async def named(request: ApiRequest) -> ASGIResponse:
    """The playground at ``/`` and the documentation at ``/docs``."""
    docs = request.url.path.startswith("/docs")
    return _find("docs.html" if docs else "index.html").answer(request)


@readable("/static/{name:path}")
async def static(request: ApiRequest, name: FromPath[str]) -> ASGIResponse:
    """One file that a page needs."""
    return _find(name.lstrip("/")).answer(request)


def _find(name: str) -> Page:
    try:
        return read_pages()[name]
    except KeyError:
        raise PathUnknown("There is no such page; /docs is the documentation.") from None
