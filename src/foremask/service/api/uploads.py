"""Uploads: gives signed forms to holders of a token, and receives those forms."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

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
from foremask.service.api import forms
from foremask.service.api.bodies import UploadRequest
from foremask.service.api.calls import read_call
from foremask.service.api.endpoints import ALWAYS, Operation
from foremask.service.api.forms import FILE_S, FORM, MAX_FORM_BYTES
from foremask.service.api.request_context import OWNER, ApiRequest, json_answer
from foremask.service.jobs import stored
from foremask.service.jobs.database import Database
from foremask.service.jobs.wire_format import Answer
from foremask.service.storage.objects import Objects
from foremask.service.storage.signing import FORM_PATH, Upload

FORM_S = 3600
KEPT_S = 3 * FILE_S  # a job may be submitted in the last minute of the first day, and then wait
SWEEP_S = 3600.0
PICTURES = ("image/gif", "image/jpeg", "image/png", "image/webp")

log = structlog.get_logger(__name__)


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
        FORM: {
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
    declared_bytes = forms.declared_size(request, service.limits.max_bytes)
    form = await forms.open_form(request, MAX_FORM_BYTES)
    fields = dict(form.fields)
    upload = service.objects.signer.check_form(fields)
    forms.declared_size(request, upload.max_bytes)
    sent_as = form.media_type or upload.media_type
    declared = fields.get("Content-Type", sent_as).lower()
    is_known = declared.startswith("video/") or declared in PICTURES
    if not is_known or upload.media_type not in ("", declared):
        raise FieldInvalid(
            f"The file is sent as {declared[:100] or 'no type'}, and the form is for "
            f"{upload.media_type or f'video/* and {", ".join(PICTURES)}'}.",
            param="Content-Type",
        )
    request.scope["state"][OWNER] = await stored.claim_upload(
        service.database, upload.key, request.id, forms.file_name(form.file.filename)
    )
    await forms.store(service, upload.key, form.content(), declared_bytes, upload.max_bytes)


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
