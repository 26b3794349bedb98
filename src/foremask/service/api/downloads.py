"""Stored files over HTTP for holders of a signed link: whole, a range, or the header only."""

import re
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from litestar import HttpMethod
from litestar.params import FromPath
from litestar.types import ASGIApp

from foremask.errors import (
    LinkInvalid,
    ObjectLost,
    PreconditionFailed,
    RangeInvalid,
    RequestUnknown,
)
from foremask.service.api.operation_docs import ALWAYS, Json, documented, in_query
from foremask.service.api.request_context import (
    ApiRequest,
    ServiceDependency,
    StreamAnswer,
    readable,
)
from foremask.service.storage.keys import media_type
from foremask.service.storage.objects import Stored
from foremask.service.storage.signing import FILES_PATH

MAX_NAME_LENGTH = 200
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


_FILE: Json = {
    each: {}
    for each in (
        *("video/*", "image/gif", "image/apng", "image/webp"),
        *("application/zip", "application/octet-stream"),
    )
}


@readable(
    FILES_PATH + "{key:path}",
    opt=documented(
        "jobs",
        "The whole file.",
        content=_FILE,
        others={
            206: ("The bytes of the range.", _FILE),
            304: ("The caller's copy is current.", {}),
        },
        needs_token=False,
        operation_id="get_file",
        parameters=(
            in_query("expires", {"type": "string"}, required=True),
            in_query("signature", {"type": "string"}, required=True),
            in_query(
                "name",
                {"type": "string"},
                "What a browser saves the file as; its suffix must be the file's own.",
            ),
            *(
                {"name": name, "in": "header", "schema": {"type": "string"}}
                for name in ("Range", "If-Match", "If-None-Match", "If-Range")
            ),
        ),
        refused=(LinkInvalid, RequestUnknown, PreconditionFailed, RangeInvalid, *ALWAYS),
    ),
)
async def download(request: ApiRequest, service: ServiceDependency, key: FromPath[str]) -> ASGIApp:
    """Fetch a result by its signed link."""
    key = key.lstrip("/")
    query = request.query_params
    service.objects.signer.check_link(key, query.get("expires", ""), query.get("signature", ""))
    try:
        stored = await service.objects.head(key)
    except ObjectLost:
        raise RequestUnknown(
            "This file is not stored, or no longer: results and uploads are kept for a time.",
        ) from None
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": _disposition(key.rpartition("/")[2], query.getall("name", [])),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": stored.etag,
        "Last-Modified": format_datetime(stored.modified_at, usegmt=True),
    }
    _check_version(request, stored)
    if _unchanged(request, stored):
        return StreamAnswer(304, headers, None)
    span = _span(request, stored)
    start, stop = span or (0, stored.size)
    headers["Content-Type"] = media_type(key)
    headers["Content-Length"] = str(stop - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    wanted = request.method == HttpMethod.GET
    return StreamAnswer(
        206 if span else 200,
        headers,
        service.objects.stream(key, start, stop - start) if wanted else None,
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


def _check_version(request: ApiRequest, stored: Stored) -> None:
    """Raise PreconditionFailed where If-Match names another version.

    Without If-Match, If-Unmodified-Since counts.

    RFC 9110 wants a strong comparison here: a tag that begins with W/ matches nothing.
    """
    etags = request.headers.get("if-match")
    since = _date(request.headers.get("if-unmodified-since"))
    if etags is not None:
        same = etags.strip() == "*" or stored.etag in {each.strip() for each in etags.split(",")}
    else:
        same = since is None or _second(stored) <= since
    if not same:
        raise PreconditionFailed(
            f"The file is another version than the condition names: its ETag is {stored.etag}.",
            param="If-Match" if etags is not None else "If-Unmodified-Since",
        )


def _second(stored: Stored) -> datetime:
    """The time of storage in whole seconds, as HTTP dates have it."""
    return stored.modified_at.replace(microsecond=0)


def _date(text: str | None) -> datetime | None:
    """A header's date; None where it is none, or has no zone."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None


def _unchanged(request: ApiRequest, stored: Stored) -> bool:
    """Whether the caller has this version: by If-None-Match, else If-Modified-Since."""
    etags = request.headers.get("if-none-match")
    if etags is not None:
        known = {each.strip().removeprefix("W/") for each in etags.split(",")}
        return "*" in known or stored.etag in known
    since = _date(request.headers.get("if-modified-since"))
    return since is not None and _second(stored) <= since


def _same_version(request: ApiRequest, stored: Stored) -> bool:
    """Whether If-Range, if present, names this version, by its tag or its exact date."""
    condition = request.headers.get("if-range")
    return condition in (None, stored.etag) or _date(condition) == _second(stored)


def _span(request: ApiRequest, stored: Stored) -> tuple[int, int] | None:
    """The bytes asked for, as [start, stop); None for all of them.

    Several ranges, an unknown unit, or a range of another version give all of it, as RFC 9110
    allows. Raises RangeInvalid.
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or not _same_version(request, stored):
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, stored.size - int(suffix)), stored.size
    else:
        start = int(first)
        stop = min(int(last) + 1, stored.size) if last else stored.size
        if last and int(last) < start:
            return None  # not a range at all
    if start >= stop:
        error = RangeInvalid(
            f"The file has {stored.size} bytes, and the range begins behind them.",
            param="Range",
            limit=stored.size,
            actual=start,
        )
        raise error
    return start, stop
