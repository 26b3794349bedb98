"""What the playground needs beyond the API that everybody has.

Strips, other presets, clips to show.
"""

import base64
from contextlib import suppress
from typing import Any

import msgspec
from litestar import post
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec.structs import replace

from foremask.errors import (
    FieldInvalid,
    ObjectLost,
    RequestUnknown,
    VideoMissing,
)
from foremask.options import REENCODE_ONLY, ResultKind
from foremask.service.api import parsing, result_fields
from foremask.service.api.auth import charge, id_of
from foremask.service.api.job_routes import checked_background, job_of
from foremask.service.api.probing import Source, locate
from foremask.service.api.problems import rate_headers
from foremask.service.api.request_context import (
    ApiRequest,
    Service,
    ServiceDependency,
    StreamAnswer,
    json_answer,
    readable,
)
from foremask.service.jobs import admission, records
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.records import Record
from foremask.service.jobs.step_facts import JobClip
from foremask.service.observability.traces import first_span, valid_traceparent
from foremask.service.storage.keys import mask_key, strip_key

SHOWN_BYTES = 128 << 20
MAX_STRIP_BYTES = 4 << 20


@readable("/v2/status/{request_id:str}/strip")
async def strip(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Of each frame of a mask its time, its coverage, and its change since the frame before."""
    record = await completed(request, service, request_id)
    try:
        rows = await service.objects.read(strip_key(record.result_key or ""), 0, MAX_STRIP_BYTES)
    except ObjectLost:
        raise RequestUnknown("This mask has no strip.", param="request_id") from None
    return json_answer({"request_id": request_id, "result": {"frames": msgspec.Raw(rows)}})


@readable("/v2/status/{request_id:str}/newest_mask")
async def newest_mask(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """A small picture of the newest mask of a job under way."""
    record = await job_of(request, service, request_id)
    png = None
    if not record.status.ended:
        png = await records.newest_mask(service.database, record.request_id)
    mask = None if png is None else base64.b64encode(png).decode()
    return json_answer({"request_id": request_id, "result": {"mask": mask}})


@post("/v2/status/{request_id:str}/convert", status_code=202)
async def convert(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Start a job that makes something else of a mask, or of its clip with it.

    From the stored mask, without the network.
    """
    traceparent = valid_traceparent(request.headers.get("traceparent"))
    with first_span(id_of(request), "POST convert", traceparent) as span:
        call = await charge(request, service.database)
        owner = str(call.grant.token_id)
        body = await parsing.read_object(request)
        wanted = result_fields.converted(body)
        record = await completed(request, service, request_id)
        mask = _stored_mask(record)
        result, clip_url, fetched_bytes = wanted.result, None, 0
        if result is not None and wanted.kind is not ResultKind.MASK:
            source = await clip_of(service, record, body, owner)
            clip = await service.prober.probe(source, wanted, owner)
            clip_url, result = source.url, replace(result, clip_key=source.key)
            if clip is not None and source.key is None:
                fetched_bytes += clip.size_bytes
        result, background_bytes = await checked_background(service, result, owner)
        admitted = await admission.admit(
            service.database,
            NewJob(
                request_id=id_of(request),
                token_id=call.grant.token_id,
                video_url=clip_url,
                source_key=mask,
                preset=wanted.form,
                quality=REENCODE_ONLY,
                result=result,
                clip=JobClip(frames=record.frames_total),
                traceparent=traceparent,
                fetched_bytes=fetched_bytes + background_bytes,
            ),
            storage_limit=service.storage_limit,
        )
        span.note(preset=wanted.form.value)
    made = admitted.request_id
    return json_answer(
        {"request_id": made, "status_url": f"{service.settings.base_url}/v2/status/{made}"},
        202,
        rate_headers(request.scope),
    )


def _stored_mask(record: Record) -> str:
    """The key of the mask: the result itself, or what is stored beside it."""
    result_key = record.result_key or ""
    if record.kind is ResultKind.MASK:
        return result_key
    if record.report is None or not record.report.mask_bytes:
        raise FieldInvalid(
            f"This request has made a {record.kind}, and its mask is not stored: its frames are too"
            " large, or an earlier version made it. Submit the clip to"
            " /v2/video/segment/foreground_mask, and convert that.",
            param="request_id",
        )
    return mask_key(result_key)


async def clip_of(service: Service, record: Record, body: dict[str, Any], owner: str) -> Source:
    """The clip of a mask: at the URL in ``video``, or the upload that it was made from."""
    if body.get("video") is not None:
        video = parsing.parse_video(body)
        return await locate(video, service.objects, service.outbound, owner)
    result = await records.result_of(service.database, record.request_id)
    key = result.clip_key or record.source_key  # of a mask that was converted before
    if key is not None and key.startswith("uploads/"):
        with suppress(ObjectLost):
            await service.objects.head(key)
            return Source(key=key)
    raise VideoMissing(
        "The clip of this mask is no longer stored: send its URL in the field 'video'.",
        param="video",
    )


@post("/v2/playground/clip", status_code=200)
async def clip(request: ApiRequest, service: ServiceDependency) -> ASGIApp:
    """The bytes of a clip that a job would accept, so that the page asks no other host for them."""
    call = await charge(request, service.database)
    owner = str(call.grant.token_id)
    asked = parsing.parse_submission(await parsing.read_object(request))
    source = await locate(asked.video, service.objects, service.outbound, owner)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async with service.prober.show(
            source, asked.wanted, owner, min(SHOWN_BYTES, service.limits.max_bytes)
        ) as shown:
            headers = {
                "Cache-Control": "no-store",
                "Content-Length": str(shown.size),
                "Content-Security-Policy": "sandbox; default-src 'none'",
                "Content-Type": "application/octet-stream",
                **rate_headers(request.scope),
            }
            await StreamAnswer(200, headers, shown.blocks)(scope, receive, send)

    return answer


async def completed(request: ApiRequest, service: Service, job: str) -> Record:
    """The job, whose mask is there. Raises RequestUnknown."""
    record = await job_of(request, service, job)
    if record.result_key is None:
        raise RequestUnknown(
            "This request has no mask: it has not completed, or the mask is kept no longer.",
            param="request_id",
        )
    return record
