"""Reads hints from JSON and from command-line arguments."""

import base64
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from foremask.errors import FieldInvalid
from foremask.hints.decoding import decode, number, without_nulls
from foremask.hints.kinds import MOST_HINTS, Box, Hint, Paint, Point, Text, check_hints

_TIME: Final = re.compile(r"(?:(?:(\d{1,9}):)?(\d{1,2}):)?(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})")
_EXAMPLES: Final = {
    Point: "x,y@frame, as 640,360@12",
    Box: "x,y,width,height@frame, as 40,60,200,300@12",
}
Hints = Annotated[list[Point | Box | Paint | Text], Meta(max_length=MOST_HINTS)]


def hints_of_json(value: object) -> tuple[Hint, ...]:
    """Decode an array of hints; ignore unknown fields. FieldInvalid names the element and field."""
    hints = tuple(decode(value, Hints, "hints"))
    check_hints(hints)
    return hints


def hints_of_file(path: Path) -> tuple[Hint, ...]:
    """Read a JSON array of hints, or an object with this array as ``hints``; raises FieldInvalid.

    A paint may name a PNG file beside this file: ``{"type": "paint", "file": "mask.png"}``.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=without_nulls, parse_float=number)
    except OSError as error:
        raise FieldInvalid(
            f"the hints {path} cannot be read: {error.strerror}", param="hints"
        ) from error
    except (ValueError, RecursionError) as error:
        raise FieldInvalid(f"the hints {path} are not JSON: {error}", param="hints") from None
    if isinstance(value, dict):
        value = value.get("hints")
    if value is None:
        raise FieldInvalid(f"{path} has no array of hints", param="hints")
    if not isinstance(value, list):
        return hints_of_json(value)
    for each in value:
        if isinstance(each, dict) and each.get("type") == "paint" and "file" in each:
            png = Paint.read(path.parent / str(each.pop("file"))).png
            each["png"] = base64.b64encode(png).decode()
    return hints_of_json(value)


def parse_point_or_box[H: (Point, Box)](kind: type[H], text: str, *, negative: bool = False) -> H:
    """Read ``x,y`` or ``x,y,width,height``; ``@12``, ``@0.5s`` or ``@0:01`` may follow."""
    numbers, moment = _parted(text)
    try:
        return kind(*map(float, numbers.split(",")), negative=negative, **moment)
    except (TypeError, ValueError):
        raise FieldInvalid(f"{text!r} is no hint: write {_EXAMPLES[kind]}", param="hints") from None


def parse_paint(text: str) -> Paint:
    if Path(text).is_file():
        return Paint.read(text)
    file, moment = _parted(text)
    return msgspec.structs.replace(Paint.read(file), **moment)


def _parted(text: str) -> tuple[str, dict[str, Any]]:
    before, at, moment = text.rpartition("@")
    if not at:
        return text, {}
    moment = moment.strip()
    if re.fullmatch(r"\d{1,12}", moment):
        return before, {"frame": int(moment)}
    seconds = seconds_of(moment.removesuffix("s"))
    if seconds is None or not (moment.endswith("s") or ":" in moment):
        raise FieldInvalid(
            f"the moment of {text!r} is written as 12 (a frame), 0.5s or 00:01.5", param="hints"
        )
    return before, {"time_s": seconds}


def seconds_of(text: str) -> float | None:
    """Read ``12.5``, ``1:02.5`` or ``1:00:02.5``; return None for other texts."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)
