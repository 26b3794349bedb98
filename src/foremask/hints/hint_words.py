"""Hints on the command line: a place, then ``@`` and the moment."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from foremask.errors import FieldInvalid
from foremask.hints.kinds import Box, Paint, Point

_TIME: Final = re.compile(r"(?:(?:(\d{1,9}):)?(\d{1,2}):)?(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})")


_EXAMPLES: Final = {
    Point: "x,y@frame, as 640,360@12",
    Box: "x,y,width,height@frame, as 40,60,200,300@12",
}


def parse_place[H: (Point, Box)](kind: type[H], text: str, *, negative: bool = False) -> H:
    """Read ``x,y`` or ``x,y,width,height``, and ``@`` with a moment where there is one.

    A moment is ``12`` (a frame), ``0.5s`` or ``00:01.5``.
    """
    place, moment = _parted(text)
    try:
        return kind(*map(float, place.split(",")), negative=negative, **moment)
    except (TypeError, ValueError):
        raise FieldInvalid(f"{text!r} is no hint: write {_EXAMPLES[kind]}", param="hints") from None


def parse_paint(text: str) -> Paint:
    """Read ``mask.png`` or ``mask.png@frame``."""
    place, moment = (text, {}) if Path(text).is_file() else _parted(text)
    return msgspec.structs.replace(Paint.read(place), **moment)


def _parted(text: str) -> tuple[str, dict[str, Any]]:
    place, at, moment = text.rpartition("@")
    if not at:
        return text, {}
    moment = moment.strip()
    if re.fullmatch(r"\d{1,12}", moment):
        return place, {"frame": int(moment)}
    seconds = seconds_of(moment.removesuffix("s"))
    if seconds is None or not (moment.endswith("s") or ":" in moment):
        raise FieldInvalid(
            f"the moment of {text!r} is written as 12 (a frame), 0.5s or 00:01.5", param="hints"
        )
    return place, {"time_s": seconds}


def seconds_of(text: str) -> float | None:
    """Seconds of ``12.5``, ``1:02.5`` or ``1:00:02.5``; None where it is no time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)
