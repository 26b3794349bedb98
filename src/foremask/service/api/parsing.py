"""From the bytes of a request's body to what was asked for, or to the exact reason why not."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from foremask.errors import (
    BadJson,
    BodyTooLarge,
    ContentTypeWrong,
    FieldInvalid,
    VideoInvalid,
    VideoMissing,
    WebhookInvalid,
)
from foremask.options import Quality
from foremask.service.api import result_fields
from foremask.service.api.fields import MAX_URL_BYTES, flag, is_clean
from foremask.service.api.hint_fields import add_hints
from foremask.service.api.request_context import ApiRequest
from foremask.service.api.result_fields import ReadWanted, Wanted

MAX_BODY_BYTES = 1 << 20
MAX_ITEMS = 20_000  # a body of 64 hints has 500; this many take some 10 ms of the event loop
MAX_KEY_LENGTH = 255
_MEDIA_TYPE = re.compile(r"video/([a-z0-9][a-z0-9.+-]{0,63})?|image/(gif|jpeg|png|webp)")


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as asked for.

    The URLs are strings whose form has yet to be checked by the guarded client.
    """

    video: str
    wanted: Wanted
    quality: Quality
    webhook_url: str | None
    sync: bool
    body_hash: bytes


async def read_object(request: ApiRequest, *, may_be_empty: bool = False) -> dict[str, Any]:
    """The one JSON object in the body, of at most 1 MiB.

    Raises BodyTooLarge, ContentTypeWrong or BadJson, in this order.
    """
    raw = await _read(request)
    if not raw and may_be_empty:
        return {}
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json":
        raise ContentTypeWrong(
            f"The body is declared as {declared[:100] or 'nothing'};"
            " send 'Content-Type: application/json'."
        )
    return parse_object(raw)


async def _read(request: ApiRequest) -> bytes:
    declared = request.headers.get("content-length", "")
    size = int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else 0
    body = bytearray()
    if size <= MAX_BODY_BYTES:
        async for chunk in request.stream():
            body += chunk
            size = max(size, len(body))
            if size > MAX_BODY_BYTES:
                break
    if size > MAX_BODY_BYTES:
        raise BodyTooLarge(
            f"The body has {size} bytes or more and may have {MAX_BODY_BYTES}; "
            "send the URL of the video, or upload it by /v2/video/upload.",
            limit=MAX_BODY_BYTES,
            actual=size,
        )
    return bytes(body)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The object that ``raw`` is, with distinct keys at every depth. Raises BadJson."""
    if raw.count(b",") > MAX_ITEMS and _commas_outside_strings(raw) > MAX_ITEMS:
        raise BadJson(f"The body has over {MAX_ITEMS} fields and array elements.", limit=MAX_ITEMS)
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_number
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
    if not isinstance(value, dict):
        raise BadJson('The body must be one JSON object, such as {"video": "https://…"}.')
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        known: set[str] = set()
        for name, _ in pairs:
            if name in known:
                raise BadJson(f"The body has the key {name[:64]!r} twice.")
            known.add(name)
    return value


def _commas_outside_strings(raw: bytes) -> int:
    """Exact for JSON, and linear: quotes come in pairs once the escaped ones are gone."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(unescaped.split(b'"')[::2]).count(b",")


def _no_number(word: str) -> NoReturn:
    raise BadJson(f"The body is not JSON: {word} is no number.")


def parse_submission(
    body: dict[str, Any], read_wanted: ReadWanted = result_fields.foreground_mask
) -> Submission:
    """What a job's body asks for; fields that nobody knows are ignored.

    ``read_wanted`` is that of the call: which fields say what is made.
    """
    video = parse_video(body)
    return Submission(
        video=video,
        wanted=add_hints(read_wanted(body), body),
        quality=parse_quality(body.get("quality")),
        webhook_url=_webhook(body.get("webhook_url")),
        sync=flag(body, "sync"),
        body_hash=_hash(body, read_wanted),
    )


def parse_video(body: dict[str, Any]) -> str:
    """The URL of the clip. Raises VideoMissing or VideoInvalid."""
    video = body.get("video")
    if video is None:
        raise VideoMissing(
            "The field 'video' is missing; it is the http(s) URL of the clip.", param="video"
        )
    if not isinstance(video, str):
        raise VideoInvalid("The field 'video' must be a string: a URL.", param="video")
    size = len(video.encode("utf-8", "surrogatepass"))
    if size > MAX_URL_BYTES:
        raise VideoInvalid(
            f"The URL in 'video' has {size} bytes and may have {MAX_URL_BYTES}.",
            param="video",
            limit=MAX_URL_BYTES,
            actual=size,
        )
    if not is_clean(video):
        raise VideoInvalid("The field 'video' is not a URL.", param="video")
    return video


def parse_quality(name: object) -> Quality:
    """The quality that a body asks for. Raises FieldInvalid."""
    if name is None:
        return Quality.BALANCED
    if isinstance(name, str) and name in list(Quality):
        return Quality(name)
    raise FieldInvalid("quality must be one of " + ", ".join(Quality) + ".", param="quality")


def _webhook(url: object) -> str | None:
    if url is None:
        return None
    if not isinstance(url, str) or not is_clean(url):
        raise WebhookInvalid("webhook_url must be an http(s) URL.", param="webhook_url")
    if (size := len(url)) > MAX_URL_BYTES:
        raise WebhookInvalid(
            f"webhook_url has {size} characters and may have {MAX_URL_BYTES}.",
            param="webhook_url",
            limit=MAX_URL_BYTES,
            actual=size,
        )
    return url


def _hash(body: dict[str, Any], read_wanted: ReadWanted) -> bytes:
    """Tells two bodies apart by what they say, and to which call.

    Null says nothing, nor does how to wait for the answer.
    """
    fields = {name: value for name, value in body.items() if name != "sync" and value is not None}
    text = json.dumps(fields, sort_keys=True)
    if read_wanted is not result_fields.foreground_mask:
        text = f"{read_wanted.__name__} {text}"
    return hashlib.sha256(text.encode()).digest()


def parse_media_type(body: dict[str, Any]) -> str:
    """The type of an upload: ``video/*`` or a picture's, or empty when the body does not say.

    ``video/`` alone, which clients send for an ending that they do not know, does not say.
    """
    value = body.get("media_type")
    if value is None:
        return ""
    if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value.lower()):
        raise FieldInvalid(
            "media_type must be a video type, such as video/mp4, or image/gif; for a background,"
            " image/jpeg, image/png or image/webp.",
            param="media_type",
        )
    return value.lower().removesuffix("video/")


def idempotency_key(request: ApiRequest) -> str | None:
    """The header that makes a POST safe to send again; None also for one that cannot be a key."""
    key = request.headers.get("idempotency-key", "")
    return key if re.fullmatch(rf"[!-~]{{1,{MAX_KEY_LENGTH}}}", key) else None


def check_idempotency_key(request: ApiRequest) -> None:
    """Raise FieldInvalid for a header that cannot be a key."""
    key = request.headers.get("idempotency-key")
    if key is not None and idempotency_key(request) is None:
        raise FieldInvalid(
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters "
            "without a space.",
            param="Idempotency-Key",
            limit=MAX_KEY_LENGTH,
            actual=len(key),
        )
