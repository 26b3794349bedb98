"""The pages for people: documentation, and whatever lies in ``static``; nothing from anybody else's server."""

import hashlib
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from litestar import get
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from foremask.api.answers import Ask
from foremask.errors import PathUnknown

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob: http: https:",  # a result may lie in a cloud's store
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
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


@cache
def read_pages() -> dict[str, ASGIResponse]:
    """Every file below ``static`` by its path there, ready to be sent."""
    found: dict[str, ASGIResponse] = {}
    root = resources.files(__package__) / "static"
    waiting = [(root, PurePosixPath())]
    while waiting:
        folder, path = waiting.pop()
        for each in folder.iterdir():
            here = path / each.name
            if each.is_dir():
                waiting.append((each, here))
            elif here.suffix in TYPES:
                found[str(here)] = _page(each.read_bytes(), TYPES[here.suffix])
    return found


def _page(content: bytes, media_type: str) -> ASGIResponse:
    return ASGIResponse(
        body=content,
        headers={
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Content-Type": media_type,
            "Cross-Origin-Opener-Policy": "same-origin",
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"',
        },
    )


@get(["/", "/docs"])
async def named(request: Ask) -> ASGIResponse:
    """The playground at ``/`` and the documentation at ``/docs``."""
    return _find("docs.html" if request.url.path.startswith("/docs") else "index.html")


@get("/static/{name:path}")
async def static(name: FromPath[str]) -> ASGIResponse:
    """One file that a page needs."""
    return _find(name.lstrip("/"))


def _find(name: str) -> ASGIResponse:
    try:
        return read_pages()[name]
    except KeyError:
        raise PathUnknown("There is no such page; /docs is the documentation.") from None
