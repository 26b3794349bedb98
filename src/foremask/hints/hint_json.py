"""Hints as JSON, on the wire and in files."""

import base64
import json
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from foremask.errors import FieldInvalid
from foremask.hints.decoding import decode, number, without_nulls
from foremask.hints.kinds import MOST_HINTS, Box, Hint, Paint, Point, check_hints

Hints = Annotated[list[Point | Box | Paint], Meta(max_length=MOST_HINTS)]


def hints_of_json(value: object) -> tuple[Hint, ...]:
    """The hints of a JSON array of objects; FieldInvalid names the element and the field.

    ``type`` is point, box or paint; a paint's ``png`` is base64. Unknown fields are ignored.
    """
    hints = tuple(decode(value, Hints, "hints"))
    check_hints(hints)
    return hints


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
