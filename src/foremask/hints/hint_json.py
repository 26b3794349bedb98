"""Hints as JSON, on the wire and in files; and the hosted service's key points."""

import base64
import binascii
import json
from pathlib import Path
from typing import Any, Final

from foremask.errors import FieldInvalid
from foremask.hints.kinds import (
    MOST_FRAMES,
    MOST_HINTS,
    Box,
    Hint,
    Paint,
    Point,
    check_hints,
    check_range,
)

_FIELDS: Final[dict[str, tuple[type[Any], tuple[str, ...]]]] = {
    "point": (Point, ("x", "y")),
    "box": (Box, ("x", "y", "width", "height")),
    "paint": (Paint, ("png",)),
}


def hints_of_json(value: object, name: str = "hints") -> tuple[Hint, ...]:
    """The hints of a JSON array of objects; FieldInvalid names the element and the field.

    ``type`` is point, box or paint; a paint's ``png`` is base64. Unknown fields are ignored.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise FieldInvalid(f"{name} must be an array of objects.", param=name)
    if len(value) > MOST_HINTS:
        raise FieldInvalid(
            f"{name} has {len(value)} hints and may have {MOST_HINTS}.",
            param=name,
            limit=MOST_HINTS,
            actual=len(value),
        )
    hints = tuple(_hint(each, f"{name}[{number}]") for number, each in enumerate(value))
    check_hints(hints, name=name)
    return hints


def _hint(value: object, where: str) -> Hint:
    if not isinstance(value, dict):
        raise FieldInvalid(f"{where} must be an object.", param=where)
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise FieldInvalid(
            f"{where}.type must be one of {', '.join(_FIELDS)}.", param=f"{where}.type"
        )
    made, names = _FIELDS[kind]
    fields: dict[str, Any] = {
        each: _number(value.get(each), f"{where}.{each}") for each in names if each != "png"
    }
    if kind == "paint":
        fields["png"] = _png(value.get("png"), f"{where}.png")
    frame, time_s, negative = value.get("frame"), value.get("time_s"), value.get("negative")
    if frame is not None and time_s is not None:
        raise FieldInvalid(
            f"{where} has a frame and a time_s: leave one out.", param=f"{where}.time_s"
        )
    if frame is not None:
        fields["frame"] = _whole(frame, f"{where}.frame")
    if time_s is not None:
        fields["time_s"] = _number(time_s, f"{where}.time_s")
    if negative is not None:
        if not isinstance(negative, bool):
            raise FieldInvalid(
                f"{where}.negative must be true or false.", param=f"{where}.negative"
            )
        fields["negative"] = negative
    hint: Hint = made(**fields)
    return hint


def _number(value: object, param: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldInvalid(f"{param} must be a number.", param=param)
    try:
        return float(value)
    except OverflowError:
        raise FieldInvalid(f"{param} is a number of too many digits.", param=param) from None


def _whole(value: object, param: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldInvalid(f"{param} must be a whole number.", param=param)
    check_range(param, _number(value, param), 0, MOST_FRAMES)
    return value


def _png(value: object, param: str) -> bytes:
    if not isinstance(value, str):
        raise FieldInvalid(f"{param} must be a PNG picture in base64.", param=param)
    try:
        return base64.b64decode(value.rpartition(",")[2], validate=True)  # a data: URL, too
    except (binascii.Error, ValueError):
        raise FieldInvalid(f"{param} is not base64.", param=param) from None


def hints_of_key_points(
    points: object, frame_index: object, names: tuple[str, str] = ("key_points", "frame_index")
) -> tuple[Hint, ...]:
    """The hints of the hosted service's call: positive and negative points on one frame."""
    name, frame_name = names
    if points is None:
        raise FieldInvalid(f"The field '{name}' is missing: an array of points.", param=name)
    if not isinstance(points, list) or not points:
        raise FieldInvalid(f"{name} must be an array of one point or more.", param=name)
    frame = 0 if frame_index is None else _whole(frame_index, frame_name)
    made = []
    for number, point in enumerate(points):
        where = f"{name}[{number}]"
        if not isinstance(point, dict):
            raise FieldInvalid(f"{where} must be an object.", param=where)
        kind = point.get("type", "positive")
        if kind not in ("positive", "negative"):
            raise FieldInvalid(f"{where}.type must be positive or negative.", param=f"{where}.type")
        x, y = (_whole(point.get(each), f"{where}.{each}") for each in ("x", "y"))
        made.append(Point(x=x, y=y, frame=frame, negative=kind == "negative"))
    check_hints(made, name=name)
    return tuple(made)


def hints_of_file(path: Path) -> tuple[Hint, ...]:
    """The hints of a JSON file: an array, or an object with ``hints``. Raises FieldInvalid.

    A paint may name a PNG file beside it: ``{"type": "paint", "file": "mask.png"}``.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
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
