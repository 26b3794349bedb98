"""Decodes a request's body into a Struct, or raises the exact reason why not."""

import difflib
import hashlib
import json
import re
from typing import Any, NoReturn

from msgspec import Struct

from foremask.errors import BadJson, BodyTooLarge, ContentTypeWrong, FieldInvalid
from foremask.hints.decoding import decode
from foremask.hints.hint_json import number, without_nulls
from foremask.service.api.request_context import UNKNOWN_FIELDS, ApiRequest

MAX_BODY_BYTES = 1 << 20
MAX_ITEMS = 20_000  # a body of 64 hints has 500; this many take some 10 ms of the event loop


async def read_body[B: Struct](
    request: ApiRequest, kind: type[B], call: str | None = None, *, may_be_empty: bool = False
) -> tuple[B, bytes]:
    """The body, one JSON object of at most 1 MiB, and the SHA-256 of its fields and of ``call``.

    The latter is without ``sync``. Raises BodyTooLarge, ContentTypeWrong, BadJson or the fields'
    errors, in this order.
    """
    raw = await _read(request)
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json" and (raw or not may_be_empty):
        raise ContentTypeWrong(
            f"The body is declared as {declared[:100] or 'nothing'}; send application/json."
        )
    fields = parse_object(raw) if raw or not may_be_empty else {}
    return decoded(request, fields, kind), digest(fields, call)


def decoded[B: Struct](
    request: ApiRequest, fields: dict[str, Any], kind: type[B], *, strict: bool = True
) -> B:
    """The fields as a ``kind``, as `decode` does it; `check_known` names those that it lacks."""
    body = decode(fields, kind, strict=strict)
    check_known(request, fields, kind)
    return body


def digest(fields: dict[str, Any], call: str | None) -> bytes:
    """The SHA-256 of the fields without ``sync``, and of ``call``."""
    text = json.dumps({key: fields[key] for key in fields if key != "sync"}, sort_keys=True)
    return hashlib.sha256(f"{call} {text}".encode()).digest()


def check_known(request: ApiRequest, body: dict[str, Any], kind: type[Struct]) -> None:
    """Name the body's unknown fields in the answer's header Unknown-Fields.

    Raises FieldInvalid where the request says ``Prefer: handling=strict`` (RFC 7240).
    """
    known = kind.__struct_encode_fields__
    unknown = [name for name in body if name not in known]
    if unknown and "handling=strict" in request.headers.get("prefer", "").replace(" ", "").lower():
        close = difflib.get_close_matches(unknown[0], known, 1)
        meant = f"; did you mean {close[0]!r}?" if close else "."
        raise FieldInvalid(f"There is no field {unknown[0][:64]!r}{meant}", param=unknown[0][:64])
    if unknown:
        request.scope["state"][UNKNOWN_FIELDS] = [name[:64] for name in unknown[:8]]


def content_length(request: ApiRequest) -> int:
    """The body's declared bytes; 0 where they are not declared."""
    declared = request.headers.get("content-length", "")
    return int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else 0


async def _read(request: ApiRequest) -> bytes:
    size = content_length(request)
    body = bytearray()
    if size <= MAX_BODY_BYTES:
        async for chunk in request.stream():
            body += chunk
            size = max(size, len(body))
            if size > MAX_BODY_BYTES:
                break
    if size > MAX_BODY_BYTES:
        raise BodyTooLarge(
            f"The body has {size} bytes or more and may have {MAX_BODY_BYTES}; upload a video.",
            limit=MAX_BODY_BYTES,
            actual=size,
        )
    return bytes(body)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The object that ``raw`` is. Raises BadJson."""
    value = parse(raw)
    if not isinstance(value, dict):
        raise BadJson('The body must be one JSON object, such as {"video": "https://…"}.')
    return value


def parse(raw: bytes) -> object:
    """The JSON with distinct keys that ``raw`` is, without its nulls. Raises BadJson."""
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
    except ValueError:  # an integer of more digits than Python reads
        raise BadJson("The body has a number with too many digits.") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        known: set[str] = set()
        for name, _ in pairs:
            if name in known:
                raise BadJson(f"The body has the key {name[:64]!r} twice.")
            known.add(name)
    return without_nulls(pairs)


def _commas_outside_strings(raw: bytes) -> int:
    """Count the commas outside of strings: exact for JSON, in linear time."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2]).count(b",")


def _no_number(word: str) -> NoReturn:
    raise BadJson(f"The body is not JSON: {word} is no number.")
