"""Stored files over HTTP for holders of a signed link: whole, a range, or the header only."""

from email.utils import format_datetime
from typing import Annotated
from urllib.parse import quote

from litestar import HttpMethod
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import ASGIApp
from msgspec import UNSET, Meta, Struct, UnsetType

from foremask.errors import (
    LinkInvalid,
    ObjectLost,
    PreconditionFailed,
    RangeInvalid,
    RequestUnknown,
)
from foremask.service.api.conditions import select_bytes
from foremask.service.api.endpoints import ALWAYS, Json, Operation
from foremask.service.api.request_context import ApiRequest
from foremask.service.storage.keys import media_type
from foremask.service.storage.signing import FILES_PATH

MAX_NAME_LENGTH = 200
_FILE: Json = {
    "video/*": {},
    "image/gif": {},
    "image/apng": {},
    "image/webp": {},
    "application/zip": {},
    "application/octet-stream": {},
}


class FileQuery(Struct):
    """A signed link."""

    expires: str
    signature: str
    name: (
        Annotated[
            str,
            Meta(
                description="What a browser saves the file as; its suffix must be the file's own."
            ),
        ]
        | UnsetType
    ) = UNSET


@Operation(
    "jobs",
    "The whole file.",
    _FILE,
    (LinkInvalid, RequestUnknown, PreconditionFailed, RangeInvalid, *ALWAYS),
    others={206: ("The bytes of the range.", _FILE), 304: ("The caller's copy is current.", {})},
    query=FileQuery,
    parameters=tuple(
        {"name": name, "in": "header", "schema": {"type": "string"}}
        for name in ("Range", "If-Match", "If-None-Match", "If-Range")
    ),
    needs_token=False,
).reads(FILES_PATH + "{key:path}")
async def get_file(request: ApiRequest, key: FromPath[str]) -> ASGIApp:
    """Fetch a result by its signed link."""
    service = request.service
    key = key.lstrip("/")
    query = request.query_params
    service.objects.signer.check_link(key, query.get("expires", ""), query.get("signature", ""))
    try:
        stored = await service.objects.head(key)
    except ObjectLost:
        raise RequestUnknown(
            "This file is not stored, or no longer: results and uploads are kept for a time."
        ) from None
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": _disposition(key.rpartition("/")[2], query.getall("name", [])),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": stored.etag,
        "Last-Modified": format_datetime(stored.modified_at, usegmt=True),
    }
    status, start, stop = select_bytes(
        request.headers, stored.size, stored.etag, stored.modified_at
    )
    if status == 304:
        return ASGIResponse(status_code=304, headers=headers)
    headers["Content-Type"] = media_type(key)
    headers["Content-Length"] = str(stop - start)
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    return ASGIStreamingResponse(
        iterator=service.objects.stream(key, start, stop - start),
        status_code=status,
        headers=headers,
        is_head_response=request.method == HttpMethod.HEAD,
    )


def _disposition(stored: str, names: list[str]) -> str:
    """The Content-Disposition.

    The last valid one of ``names``, with the stored file's suffix, else the stored name. The plain
    form is for old clients, which know ASCII alone; RFC 6266 has both.
    """
    suffix = stored[stored.rfind(".") :]
    good = [each for each in names if _is_name(each) and each.endswith(suffix)]
    if not good:
        return f'attachment; filename="{stored}"'
    wanted = good[-1]
    plain = wanted.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(wanted, safe='')}"


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME_LENGTH and text.isprintable() and not set(text) & set('/\\"')
