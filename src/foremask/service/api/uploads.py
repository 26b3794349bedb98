"""Uploads: a signed form to whoever asks with a token, and the receiver of such forms."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import multipart
import structlog
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct

from foremask.errors import (
    ContentTypeWrong,
    FieldInvalid,
    FileTooLarge,
    FormInvalid,
    LinkInvalid,
    ServiceUnavailable,
)
from foremask.options import MEDIA_TYPES
from foremask.service.api.bodies import UploadRequest
from foremask.service.api.calls import read_call
from foremask.service.api.endpoints import ALWAYS, Operation
from foremask.service.api.request_context import OWNER, ApiRequest, Service, json_answer
from foremask.service.jobs import stored
from foremask.service.jobs.admission import NO_LIMIT
from foremask.service.jobs.database import Database
from foremask.service.jobs.wire_format import Answer
from foremask.service.storage.objects import Objects
from foremask.service.storage.signing import FORM_PATH, Upload

FORM_S = 3600
FILE_S = 86_400
KEPT_S = 3 * FILE_S  # a job may be submitted in the last minute of the first day, and then wait
SWEEP_S = 3600.0
MAX_FIELD_BYTES = 4096
MAX_FIELDS = 32
MAX_NAME_LENGTH = 200
RESERVE_BYTES = 32 << 20  # where nobody says how much will come
PICTURES = ("image/gif", "image/jpeg", "image/png", "image/webp")
MAX_FORM_BYTES = 64 << 10  # what the fields and boundaries may add to the file

log = structlog.get_logger(__name__)

type _Event = multipart.MultipartSegment | bytearray | bytes | None


class UploadForm(Struct):
    """A form for one file."""

    upload_url: Annotated[str, Meta(description="Where to POST the form, within one hour.")]
    upload_fields: Annotated[
        dict[str, str], Meta(description="To be sent as they are, before the file.")
    ]
    file_url: Annotated[
        str,
        Meta(description="What to send as 'video' afterwards, for one day. Treat it as a secret."),
    ]


@Operation(
    "uploads", "The form.", Answer[UploadForm], (FieldInvalid,), UploadRequest, body_required=False
).takes("/v2/video/upload")
async def start_upload(request: ApiRequest) -> ASGIResponse:
    """Get a form for an upload."""
    call = await read_call(request, UploadRequest, may_be_empty=True)
    service = call.service
    service.objects.check_free(0)
    kind = call.body.known_type
    suffixes = [suffix for suffix, known in MEDIA_TYPES.items() if known == kind]
    own = call.request_id
    upload = Upload(
        key=f"uploads/{own}/{own}{suffixes[0] if suffixes else ''}",
        max_bytes=service.limits.max_bytes,
        media_type=kind,
        expires_at=int(time.time()) + FORM_S,
    )
    await stored.new_upload(service.database, upload.key, call.grant.token_id)
    form = UploadForm(
        service.settings.base_url + FORM_PATH,
        service.objects.signer.upload_form(upload),
        service.objects.signer.link(upload.key, FILE_S),
    )
    return json_answer(Answer(own, form))


_SIGNED = ("key", "expires", "max_bytes", "media_type", "signature")


@Operation(
    "uploads",
    "Stored.",
    refused=(*(LinkInvalid, ContentTypeWrong, FormInvalid, FieldInvalid, FileTooLarge), *ALWAYS),
    body={
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [*_SIGNED, "file"],
                "properties": {
                    **{name: {"type": "string"} for name in (*_SIGNED, "Content-Type")},
                    "file": {"type": "string", "contentMediaType": "video/*, image/*"},
                },
            }
        }
    },
    needs_token=False,
).takes(FORM_PATH, status=204)
async def receive_upload(request: ApiRequest) -> None:
    """Upload a file by its form.

    The form's signature is the permission: no token is needed. Send all fields before the file.
    """
    service = request.service
    size = request.headers.get("content-length", "")
    declared_bytes = int(size) if re.fullmatch(r"[0-9]{1,18}", size) else 0
    _check_size(declared_bytes, service.limits.max_bytes)
    fields, name, content = await _open_form(request)
    upload = service.objects.signer.check_form(fields)
    _check_size(declared_bytes, upload.max_bytes)
    declared = fields.get("Content-Type", upload.media_type).lower()
    is_known = declared.startswith("video/") or declared in PICTURES
    if not is_known or upload.media_type not in ("", declared):
        raise FieldInvalid(
            f"The file is sent as {declared[:100] or 'no type'}, and the form is for "
            f"{upload.media_type or f'video/* and {", ".join(PICTURES)}'}.",
            param="Content-Type",
        )
    request.scope["state"][OWNER] = await stored.claim_upload(
        service.database, upload.key, request.id
    )
    await _store(service, upload, content, declared_bytes)
    await stored.name_upload(service.database, upload.key, name)


async def _store(
    service: Service, upload: Upload, content: AsyncIterator[bytes], declared: int
) -> None:
    """Store the whole file, within the token's quota and the disk's reserve, or nothing."""
    size = reserved = 0

    async def reserve(more: int) -> None:
        nonlocal reserved
        service.objects.check_free(more)
        reserved = size + more
        await stored.reserve(service.database, upload.key, reserved, service.storage_limit)

    async def counted() -> AsyncGenerator[bytes]:
        nonlocal size
        async for block in content:
            if size + len(block) > upload.max_bytes:
                raise _too_large(upload.max_bytes, size + len(block))
            if size + len(block) > reserved:
                await reserve(max(RESERVE_BYTES, len(block)))
            size += len(block)
            yield block

    try:
        await reserve(declared)
        await service.objects.put(upload.key, counted())
    except BaseException:
        await asyncio.shield(stored.reserve(service.database, upload.key, 0, 0))
        raise
    await stored.reserve(service.database, upload.key, size, NO_LIMIT)


async def keep_sweeping(objects: Objects, database: Database) -> None:
    """Delete expired uploads every hour, until cancelled."""
    while True:
        try:
            before = datetime.now(UTC) - timedelta(seconds=KEPT_S)
            await sweep(objects, before)
            await objects.delete_half_written("uploads", before)
            await stored.forget(database, before - timedelta(seconds=FORM_S))
        except ServiceUnavailable as error:
            log.warning("uploads.not_swept", details=error.details)
        await asyncio.sleep(SWEEP_S)


async def sweep(objects: Objects, before: datetime) -> int:
    """Delete every upload that is older than ``before``; how many there were."""
    old = [stored.key async for stored in objects.list("uploads") if stored.modified_at < before]
    await objects.delete(*old)
    return len(old)


async def _open_form(
    request: ApiRequest,
) -> tuple[dict[str, str], str | None, AsyncGenerator[bytes]]:
    """The form's fields, the name of the file that follows them, and its bytes.

    Raises ContentTypeWrong or FormInvalid; the bytes raise FormInvalid when the form breaks off.
    """
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise ContentTypeWrong("An upload is a form: send 'Content-Type: multipart/form-data'.")
    events = _events(request, options["boundary"])
    fields: dict[str, str] = {}
    name, value = "", bytearray()
    async for event in events:
        if isinstance(event, multipart.MultipartSegment):
            name, value = event.name, bytearray()
            if event.filename is not None or name == "file":
                if event.content_type:
                    fields.setdefault("Content-Type", event.content_type)
                return fields, file_name(event.filename), _file(events)
        elif event is None:
            fields[name] = value.decode("utf-8", "replace")
        else:
            value += event
            if len(value) > MAX_FIELD_BYTES:
                raise FormInvalid(
                    f"A field before the file has over {MAX_FIELD_BYTES} bytes.",
                    limit=MAX_FIELD_BYTES,
                )
    raise FormInvalid("The form has no file; the part 'file' comes after all fields.")


def file_name(sent: str | None) -> str | None:
    """The file name without directories and control characters; None for no name."""
    last = re.split(r"[/\\]", sent or "")[-1]
    return "".join(each for each in last if each.isprintable())[:MAX_NAME_LENGTH] or None


async def _events(request: ApiRequest, boundary: str) -> AsyncGenerator[_Event]:
    """Of each part its head, its bytes, and None at its end."""
    try:
        parser = multipart.PushMultipartParser(
            boundary, max_segment_count=MAX_FIELDS, max_segment_size=float("inf")
        )
        async for chunk in request.stream():
            if chunk and not parser.closed:  # what comes behind the form's end is nothing to us
                for event in parser.parse(chunk):
                    yield event
        for event in parser.parse(b""):
            yield event
    except (multipart.MultipartError, ValueError) as error:
        why = next(iter(error.args), "")  # what follows is the cause, as Python names it
        raise FormInvalid(f"The form cannot be read: {why}.") from None


async def _file(events: AsyncIterator[_Event]) -> AsyncGenerator[bytes]:
    """The bytes of the file's part; what follows is read and ignored."""
    inside = True
    async for event in events:
        if event is None:
            inside = False
        elif inside and not isinstance(event, multipart.MultipartSegment):
            yield bytes(event)
    if inside:
        raise FormInvalid("The form broke off inside the file.")


def _check_size(declared_bytes: int, max_bytes: int) -> None:
    if declared_bytes > max_bytes + MAX_FORM_BYTES:
        raise _too_large(max_bytes, declared_bytes)


def _too_large(max_bytes: int, size: int) -> FileTooLarge:
    return FileTooLarge(
        f"The file has {size} bytes or more; at most {max_bytes} are taken.",
        param="file",
        limit=max_bytes,
        actual=size,
    )
