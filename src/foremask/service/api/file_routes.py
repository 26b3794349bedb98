"""Handlers of uploads by signed forms, and of downloads by signed links."""

import time
from contextlib import aclosing
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from foremask import errors
from foremask.service.api import calls
from foremask.service.api.bodies import UploadRequest
from foremask.service.api.calls import (
    FILE_S,
    FORM,
    MAX_FORM_BYTES,
    MAX_NAME_LENGTH,
    SLOT_S,
    read_call,
)
from foremask.service.api.context import ApiRequest, json_answer
from foremask.service.api.openapi import ALWAYS, Json, Operation
from foremask.service.api.pages import select_bytes
from foremask.service.jobs import admission
from foremask.service.jobs.records import Answer
from foremask.service.storage.objects import FILES_PATH, FORM_PATH, Upload, media_type

_SIGNED = ("key", "expires", "max_bytes", "media_type", "signature")
_FILE: Json = {
    "video/*": {},
    "image/*": {},
    "application/zip": {},
    "application/octet-stream": {},  # some generated clients download no other type
}

FORM_S = 3600
PICTURES = ("image/gif", "image/jpeg", "image/png", "image/webp")


class UploadForm(Struct):
    upload_url: Annotated[str, Meta(description="The URL to POST the form to, within one hour.")]
    upload_fields: Annotated[
        dict[str, str], Meta(description="Form fields to send unchanged, before the file.")
    ]
    file_url: Annotated[
        str,
        Meta(description="The URL to send as 'video', valid for one day. Keep it secret."),
    ]


@Operation(
    "uploads",
    "The form.",
    Answer[UploadForm],
    ("field_invalid",),
    UploadRequest,
    body_required=False,
).at("POST", "/v2/video/upload")
async def start_upload(request: ApiRequest) -> Response:
    """Get a form for an upload."""
    call = await read_call(request, UploadRequest, may_be_empty=True)
    service = call.service
    service.objects.check_free(0)
    # "video/" allows every type, as "" does.
    kind = call.body.media_type.lower().removesuffix("video/")
    upload = Upload(
        key=calls.upload_key(request, kind),
        expires=int(time.time()) + FORM_S,
        max_bytes=service.limits.max_bytes,
        media_type=kind,
    )
    await admission.new_upload(service.database, upload.key, call.grant.token_id)
    form = UploadForm(
        service.settings.base_url + FORM_PATH,
        service.objects.signer.upload_form(upload),
        service.objects.signer.link(upload.key, FILE_S),
    )
    return json_answer(Answer(call.request_id, form))


@Operation(
    "uploads",
    "The file is stored.",
    refused=(
        "link_invalid",
        "content_type",
        "bad_form",
        "field_invalid",
        "file_too_large",
        *ALWAYS,
    ),
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
).at("POST", FORM_PATH, status=204)
async def receive_upload(request: ApiRequest) -> Response:
    """Upload a file with a signed form.

    The form's signature replaces the token. Send all fields before the file.
    """
    service = request.service
    declared_bytes = calls.declared_size(request, service.limits.max_bytes)
    form = await calls.open_form(request, MAX_FORM_BYTES)
    fields = dict(form.fields)
    upload = service.objects.signer.check_form(fields)
    calls.declared_size(request, upload.max_bytes)
    sent_as = form.media_type or upload.media_type
    declared = fields.get("Content-Type", sent_as).lower()
    is_known = declared.startswith("video/") or declared in PICTURES
    if not is_known or upload.media_type not in ("", declared):
        raise errors.FieldInvalid(
            f"The file is sent as {declared[:100] or 'no type'}, and the form is for "
            f"{upload.media_type or f'video/* and {", ".join(PICTURES)}'}.",
            param="Content-Type",
        )
    claim = admission.claim_of(service.process_id, request.id)
    request.facts.owner = await admission.claim_upload(
        service.database, upload.key, claim, calls.file_name(form.file.filename)
    )
    await calls.store(request, upload.key, form.content(), declared_bytes, upload.max_bytes)
    try:
        await admission.settle(service.database, upload.key)
    except errors.ServiceUnavailable:
        calls.settle_later(service, upload.key)
        raise
    return Response(status_code=204)


class FileQuery(Struct):
    expires: str
    signature: str
    name: (
        Annotated[str, Meta(description="The name under which browsers save the file.")] | None
    ) = None


@Operation(
    "jobs",
    "The whole file.",
    _FILE,
    ("link_invalid", "request_unknown", "range_invalid", *ALWAYS),
    others={206: ("The bytes of the range.", _FILE), 304: ("The cache is current.", {})},
    query=FileQuery,
    parameters=tuple(
        {"name": name, "in": "header", "schema": {"type": "string"}}
        for name in ("Range", "If-None-Match", "If-Range")
    ),
    needs_token=False,
).at("GET", FILES_PATH + "{key:path}")
async def get_file(request: ApiRequest, key: str) -> ASGIApp:
    """Download a result or an upload by its signed link."""
    service = request.service
    query = request.query_params
    service.objects.signer.check_link(key, query.get("expires", ""), query.get("signature", ""))
    try:
        stored = await service.objects.head(key)
    except errors.ObjectLost:
        raise errors.RequestUnknown(
            "This file is not stored, or no longer: results and uploads are kept for a time."
        ) from None
    headers = {
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": _disposition(key.rpartition("/")[2], query.getlist("name")),
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    etag = stored["e_tag"] or '""'
    status, start, stop = select_bytes(request.headers, stored["size"], etag, headers)
    if status == 304:
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Type": media_type(key), "Content-Length": str(stop - start)}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)

    async def send_file(scope: Scope, receive: Receive, send: Send) -> None:
        async with (
            service.downloads.slot(key, SLOT_S, "sent"),
            aclosing(service.objects.stream(key, start, stop - start)) as blocks,
        ):
            answer = StreamingResponse(blocks, status, headers)
            await answer(scope, receive, send)

    return send_file


def _disposition(stored: str, names: list[str]) -> str:
    """Make the header Content-Disposition (RFC 6266).

    The file name is the last valid one of ``names``, or else ``stored``. A valid name has the
    suffix of ``stored``. The parameter ``filename`` is ASCII, for old clients.
    """
    suffix = stored[stored.rfind(".") :]
    for wanted in reversed(names):
        is_name = wanted.isprintable() and not set(wanted) & set('/\\"')
        if is_name and wanted.endswith(suffix) and len(wanted) <= MAX_NAME_LENGTH:
            plain = wanted.encode("ascii", "replace").decode().replace("?", "_")
            return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(wanted, safe='')}"
    return f'attachment; filename="{stored}"'
