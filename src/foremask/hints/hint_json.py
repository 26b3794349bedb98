"""Hints as JSON, on the wire and in files."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta

from foremask.errors import FieldInvalid
from foremask.hints.decoding import decode
from foremask.hints.kinds import MOST_HINTS, Box, Hint, Paint, Point, check_hints

Hints = Annotated[list[Point | Box | Paint], Meta(max_length=MOST_HINTS)]
_MOST_WHOLE: Final = float(1 << 53)


def hints_of_json(value: object) -> tuple[Hint, ...]:
    """The hints of a JSON array of objects; FieldInvalid names the element and the field.

    ``type`` is point, box or paint; a paint's ``png`` is base64. Unknown fields are ignored.
    """
    hints = tuple(decode(value, Hints, "hints"))
    check_hints(hints)
    return hints


def without_nulls(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which null is absence, and a file no ``data:`` URL but its base64."""
    return {
        name: value.rpartition(",")[2]
        if name in ("png", "picture") and isinstance(value, str)
        else value
        for name, value in pairs
        if value is not None
    }


def number(text: str) -> float:
    """A JSON number with a point or an exponent; a whole one as an int."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < _MOST_WHOLE else value


def hints_of_file(path: Path) -> tuple[Hint, ...]:
    """The hints of a JSON file: an array, or an object with ``hints``. Raises FieldInvalid.

    A paint may name a PNG file beside it: ``{"type": "paint", "file": "mask.png"}``.
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
    for each in value if isinstance(value, list) else ():
        if isinstance(each, dict) and each.get("type") == "paint" and "file" in each:
            png = Paint.read(path.parent / str(each.pop("file"))).png
            each["png"] = base64.b64encode(png).decode()
    return hints_of_json(value)
