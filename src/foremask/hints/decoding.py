"""Turns JSON into a Struct, or raises an error with the field and its allowed values.

A field's ``Meta(extra=…)`` may set the reasons ``missing`` and ``invalid``, by default
field_invalid, and a ``text`` that says what the field must be, by default made from its type.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import msgspec
from msgspec import inspect

from foremask.errors import REASONS, BadJson, FieldInvalid, ForemaskError

_PATH: Final = re.compile(r".* - at `\$(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_HINT: Final = re.compile(r"hints\[(\d+)\](?:\.(\w+))?")
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")
_MOST_ACTUAL: Final = 1e18
_MOST_WHOLE: Final = float(1 << 53)
MAX_ITEMS: Final = 20_000  # fields and array elements; it takes 10 ms to parse so many


def without_nulls(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object without nulls. A picture's ``data:`` URL becomes its base64 text."""
    return {
        name: value.rpartition(",")[2]
        if name in ("png", "picture", "mask") and isinstance(value, str)
        else value
        for name, value in pairs
        if value is not None
    }


def number(text: str) -> float:
    value = float(text)
    if value.is_integer() and abs(value) < _MOST_WHOLE:
        return int(value)
    return value


def parse(raw: bytes) -> object:
    if raw.count(b",") > MAX_ITEMS and _commas_outside_strings(raw) > MAX_ITEMS:
        raise BadJson(f"The body has over {MAX_ITEMS} fields and array elements.", limit=MAX_ITEMS)
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_float=number,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError as error:
        raise BadJson(f"The body is not UTF-8: byte {error.start} cannot be decoded.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BadJson(f"The body is not JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise BadJson("The body is nested too deeply.") from None
    except ValueError:  # Python refuses integers of over 4300 digits
        raise BadJson("The body has a number with too many digits.") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        ((name, _),) = counts.most_common(1)
        raise BadJson(f"The body has the key {name[:64]!r} twice.")
    return without_nulls(pairs)


def _commas_outside_strings(raw: bytes) -> int:
    """Count the commas outside strings; for invalid JSON, the count may be wrong."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2]).count(b",")


def _no_number(word: str) -> NoReturn:
    raise BadJson(f"The body is not JSON: {word} is no number.")


def decode_object[T](raw: bytes, kind: type[T]) -> tuple[T, dict[str, Any]]:
    """Parse a JSON object into a ``kind`` and a dict. Raises BadJson or the errors of `decode`."""
    fields = parse(raw)
    if not isinstance(fields, dict):
        raise BadJson('The body must be one JSON object, such as {"video": "https://…"}.')
    return decode(fields, kind), fields


def decode[T](value: object, kind: type[T], name: str = "", *, strict: bool = True) -> T:
    """Convert ``value`` to ``kind``; ``name`` is the path of ``value`` in errors.

    Numbers and booleans may be strings if ``strict`` is False, as for a query string. Raises
    FieldInvalid or the error of the field's own reason; ``param`` is the field's path, such as
    ``hints[3].x``.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ForemaskError):  # raised by the Struct itself
            raise error.__cause__ from None
        raise _refusal(str(error), value, kind, name) from None
    except UnicodeEncodeError:  # a lone surrogate, which "?" replaces
        plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return decode(json.loads(plain), kind, name, strict=strict)


def _refusal(problem: str, value: Any, kind: Any, name: str) -> ForemaskError:  # noqa: ANN401
    path = ""
    if (found := _PATH.search(problem)) is not None:
        path = found[1]
    missing = _MISSING.match(problem)
    if missing:
        path += f".{missing[1]}"
    info = inspect.type_info(kind)
    extra: dict[str, Any] = {}
    for field, index in _STEP.findall(path):
        info = _inside(_chosen(info, value), field or int(index))
        value = _item(value, field or int(index))
        extra = _extra(info)
    info = _chosen(info, value)
    param = f"{name}{path}".removeprefix(".")
    expected = extra.get("text") or _described(info)
    if missing:
        details = f"The field '{param}' is missing; it is {expected}."
        return REASONS[extra.get("missing", "field_invalid")].error(details, param)
    limit, actual = _clash(info, value)
    details = f"{param} must be {expected}."
    return REASONS[extra.get("invalid", "field_invalid")].error(details, param, limit, actual)


def _extra(info: inspect.Type) -> dict[str, Any]:
    match info:
        case inspect.Metadata():
            return _extra(info.type) | (info.extra or {})
        case inspect.UnionType():
            known = [_extra(each) for each in info.types]
            if len(known) == 2 and known[1] == {}:
                return known[0]
            return {}
        case _:
            return {}


def _item(value: Any, step: str | int) -> Any:  # noqa: ANN401
    if isinstance(step, int) and isinstance(value, list):
        return value[step]
    if isinstance(step, str) and isinstance(value, dict):
        return value.get(step)
    return None


def _chosen(info: inspect.Type, value: Any) -> inspect.Type:  # noqa: ANN401
    """Unwrap Meta and Optional, and choose the tagged Struct that has the value's tag."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    if not isinstance(info, inspect.UnionType):
        return info
    types = [each for each in info.types if not isinstance(each, inspect.NoneType)]
    for each in types:
        if not isinstance(each, inspect.StructType) or not isinstance(value, dict):
            continue
        if value.get(each.tag_field) == each.tag:
            return each
    if len(types) == 1:
        return _chosen(types[0], value)
    return info


def _inside(info: inspect.Type, step: str | int) -> inspect.Type:
    match info:
        case inspect.ListType() | inspect.VarTupleType() if isinstance(step, int):
            return info.item_type
        case inspect.StructType():
            return next(each.type for each in info.fields if each.encode_name == step)
        case inspect.UnionType():  # the error is in the tag
            tags = (each.tag for each in info.types if isinstance(each, inspect.StructType))
            return inspect.LiteralType(tuple(tags))
        case _:
            return info


def _described(info: inspect.Type) -> str:
    match info:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(info)
        case inspect.FloatType():
            return "a number" + _bounds(info)
        case inspect.EnumType():
            return "one of " + ", ".join(str(each.value) for each in info.cls)
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, info.values))
        case inspect.ListType() | inspect.VarTupleType():
            text = "an array of objects"
            if info.min_length:
                text = f"an array of {info.min_length} or more"
            if info.max_length is not None:
                text += f", at most {info.max_length}"
            return text
        case inspect.StructType() | inspect.UnionType():
            return "an object"
        case inspect.BytesType():
            return "a file in base64"
        case _:
            return "a string"


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    if info.ge is None:
        return ""
    if info.le is None:
        return f" from {info.ge:g}"
    return f" from {info.ge:g} to {info.le:g}"


def _clash(info: inspect.Type, value: Any) -> tuple[float | None, float | None]:  # noqa: ANN401
    """Return the violated limit, and the value or its length; two Nones if no limit is violated."""
    if isinstance(info, inspect.IntType | inspect.FloatType):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None, None
        actual = value if abs(value) < _MOST_ACTUAL else None
        if info.le is not None and value > info.le:
            return info.le, actual
        if info.ge is not None and value < info.ge:
            return info.ge, actual
        return None, None
    longest = getattr(info, "max_length", None)
    if longest is None or not isinstance(value, str | list) or len(value) <= longest:
        return None, None
    if isinstance(value, str):
        return longest, len(value.encode("utf-8", "replace"))
    return longest, len(value)


def as_typed(text: str, typed: Sequence[str]) -> str:
    """``text`` with ``--point 640,360@12``, say, instead of ``hints[0]``.

    ``typed`` are the command line's words for each hint.
    """
    for number, words in enumerate(typed):
        text = text.replace(f"hints[{number}]", words)
    return text


@contextmanager
def hints_as_typed(typed: Sequence[str]) -> Iterator[None]:
    """Name a command line's hints in errors, such as ``the frame of --point 640,360@12``."""
    try:
        yield
    except FieldInvalid as error:
        if hint := _HINT.fullmatch(error.param or ""):
            words = typed[int(hint[1])]
            name = f"the {hint[2]} of {words}" if hint[2] else words
            error.details = error.details.replace(hint[0], name)
        raise


@contextmanager
def hints_as_sent(key_points: int) -> Iterator[None]:
    """Name the request's field, such as ``key_points[0]``, in errors about hints.

    The first hints, ``key_points`` in number, come from the field of this name.
    """
    try:
        yield
    except FieldInvalid as error:
        if hint := _HINT.fullmatch(error.param or ""):
            number = int(hint[1]) - key_points
            name = f"hints[{number}]" if number >= 0 else f"key_points[{hint[1]}]"
            name += f".{hint[2]}" if hint[2] else ""
            if number < 0 and hint[2] == "frame":
                name = "frame_index"
            error.details = error.details.replace(hint[0], name)
            error.param = name
        raise
