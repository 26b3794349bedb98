"""Which bytes of a file a GET gets, by its conditions and its range (RFC 9110)."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from foremask.errors import PreconditionFailed, RangeInvalid

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


def select_bytes(
    headers: Mapping[str, str], size: int, etag: str, modified_at: datetime
) -> tuple[int, int, int]:
    """The status, 200, 206 or 304, and the bytes from start up to but without stop.

    Several ranges, an unknown unit, or a range of another version give all of them, as the RFC
    allows. Raises PreconditionFailed where If-Match or, without it, If-Unmodified-Since names
    another version, and RangeInvalid for a range behind the end.
    """
    modified_at = modified_at.replace(microsecond=0)  # HTTP's dates have no more
    etags, since = headers.get("if-match"), _date(headers.get("if-unmodified-since"))
    if etags is None:
        is_meant = since is None or modified_at <= since
    else:
        is_meant = not {"*", etag}.isdisjoint(_tags(etags))  # strong: W/… matches nothing
    if not is_meant:
        raise PreconditionFailed(
            f"The file is another version than the condition names: its ETag is {etag}.",
            param="If-Unmodified-Since" if etags is None else "If-Match",
        )
    etags, since = headers.get("if-none-match"), _date(headers.get("if-modified-since"))
    if etags is None:
        is_known = since is not None and modified_at <= since
    else:
        is_known = not {"*", etag}.isdisjoint(tag.removeprefix("W/") for tag in _tags(etags))
    if is_known:
        return 304, 0, 0
    version = headers.get("if-range")
    asked = _RANGE.fullmatch(headers.get("range", ""))
    if asked is None or not (version in (None, etag) or _date(version) == modified_at):
        return 200, 0, size
    first, last, suffix = asked.groups()
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return 200, 0, size  # not a range at all
    if start >= stop:
        raise RangeInvalid(
            f"The file has {size} bytes, and the range begins behind them.",
            param="Range",
            limit=size,
            actual=start,
        )
    return 206, start, stop


def _tags(text: str) -> set[str]:
    return {each.strip() for each in text.split(",")}


def _date(text: str | None) -> datetime | None:
    """A header's date; None where it is none, or has no zone."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None
