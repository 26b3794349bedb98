"""Routes mostly for the page: strips, conversions, newest masks, clips to show."""

from contextlib import suppress
from typing import Annotated

import msgspec
from litestar import post
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta, Struct
from msgspec.structs import replace

from foremask.errors import (
    BackgroundInvalid,
    FieldInvalid,
    ObjectLost,
    RequestUnknown,
    VideoMissing,
)
from foremask.options import REENCODE_ONLY, ResultKind
from foremask.service.api import parsing, submitting
from foremask.service.api.auth import charge
from foremask.service.api.bodies import ConvertRequest, JobRequest
from foremask.service.api.job_routes import job_of
from foremask.service.api.operation_docs import (
    ALWAYS,
    BODY,
    CHARGED,
    READ,
    SUBMISSION,
    documented,
    starts,
)
from foremask.service.api.probing import Source, locate
from foremask.service.api.request_context import (
    ApiRequest,
    Service,
    ServiceDependency,
    StreamAnswer,
    json_answer,
    readable,
)
from foremask.service.api.submitting import checked_background
from foremask.service.jobs import records
from foremask.service.jobs.admission import Grant, NewJob
from foremask.service.jobs.records import Record
from foremask.service.jobs.step_facts import PLAIN_MASK, JobClip
from foremask.service.jobs.wire_format import RequestId
from foremask.service.storage.keys import mask_key, strip_key

SHOWN_BYTES = 128 << 20
MAX_STRIP_BYTES = 4 << 20


class StripFrames(Struct):
    """Every frame of a mask."""

    frames: Annotated[
        list[tuple[float, float, float]],
        Meta(description="Time in seconds, coverage, change since the frame before."),
    ]


class Strip(Struct):
    """What a mask covers, frame by frame."""

    request_id: RequestId
    result: StripFrames


class NewestMaskPicture(Struct):
    """What a job under way has masked last."""

    mask: Annotated[
        bytes | None, Meta(description="A grey PNG in base64; white is the foreground.")
    ]


class NewestMask(Struct):
    """A small picture of the newest mask."""

    request_id: RequestId
    result: NewestMaskPicture


@readable(
    "/v2/status/{request_id:str}/strip",
    opt=documented("jobs", "The strip.", Strip, refused=READ, operation_id="read_strip"),
)
async def strip(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Read coverage and change of each frame.

    For each frame of a completed job: its time in seconds, how much of it is foreground, and how
    much the mask changed since the frame before, both from 0 to 1.
    """
    record = await completed(request, service, request_id)
    try:
        rows = await service.objects.read(strip_key(record.result_key or ""), 0, MAX_STRIP_BYTES)
    except ObjectLost:
        raise RequestUnknown("This mask has no strip.", param="request_id") from None
    return json_answer({"request_id": request_id, "result": {"frames": msgspec.Raw(rows)}})


@readable(
    "/v2/status/{request_id:str}/newest_mask",
    opt=documented(
        "jobs", "The picture, or null.", NewestMask, refused=READ, operation_id="read_newest_mask"
    ),
)
async def newest_mask(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """See the newest mask of a job under way.

    A small picture of the newest frame's mask, before its edges are refined; null before the first
    one and when the job has ended. It is renewed every two seconds.
    """
    record = await job_of(request, service, request_id)
    png = None
    if not record.status.ended:
        png = await records.newest_mask(service.database, record.request_id)
    return json_answer(NewestMask(request_id, NewestMaskPicture(png)))


@post(
    "/v2/status/{request_id:str}/convert",
    status_code=202,
    opt=starts(ConvertRequest, BackgroundInvalid, sync=False),
)
async def convert(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Make something else of a mask or a cut-out.

    Starts a job that works on the stored mask and does not run the network: it takes seconds. A
    mask in another preset, or worked on with the matte tools; or its clip cut out by it. The mask
    of a cut-out is stored beside it, before any matte tool.
    """

    async def prepare(body: ConvertRequest, grant: Grant) -> NewJob:
        form, result = body.wanted()
        owner, clip_url, fetched_bytes = str(grant.token_id), None, 0
        record = await completed(request, service, request_id)
        mask = _stored_mask(record)
        if result.options.kind is not ResultKind.MASK:
            source = await clip_of(service, record, body.video, owner)
            clip = await service.prober.probe(source, form, result.options.kind, owner)
            clip_url, result = source.url, replace(result, clip_key=source.key)
            if clip is not None and source.key is None:
                fetched_bytes = clip.size_bytes
        result, background_bytes = await checked_background(service, result, owner)
        return NewJob(
            token_id=grant.token_id,
            video_url=clip_url,
            source_key=mask,
            preset=form,
            quality=REENCODE_ONLY,
            result=None if result == PLAIN_MASK else result,
            clip=JobClip(frames=record.frames_total),
            fetched_bytes=fetched_bytes + background_bytes,
        )

    call = f"convert {request_id}"
    return await submitting.submit(request, service, ConvertRequest, call, prepare)


def _stored_mask(record: Record) -> str:
    """The key of the mask: the result's, or the one stored beside it."""
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


async def clip_of(service: Service, record: Record, video: str | None, owner: str) -> Source:
    """The clip of a mask: at the URL in ``video``, or the upload that it was made from."""
    if video is not None:
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


@post(
    "/v2/playground/clip",
    status_code=200,
    opt=documented(
        "playground",
        "The clip as it is.",
        content={"application/octet-stream": {}},
        body=JobRequest,
        refused=(*CHARGED, *BODY, *SUBMISSION, *ALWAYS),
        rated=True,
        operation_id="show_clip",
    ),
)
async def clip(request: ApiRequest, service: ServiceDependency) -> ASGIApp:
    """Download a clip through the service.

    The playground shows clips with it. A job must accept the clip, which may have at most 128 MiB.
    """
    owner = str((await charge(request, service.database)).token_id)
    body = await parsing.read_body(request, JobRequest)
    form, result = body.wanted()
    source = await locate(body.video, service.objects, service.outbound, owner)
    most_bytes = min(SHOWN_BYTES, service.limits.max_bytes)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async with service.prober.show(
            source, form, result.options.kind, owner, most_bytes
        ) as shown:
            headers = {
                "Cache-Control": "no-store",
                "Content-Length": str(shown.size),
                "Content-Security-Policy": "sandbox; default-src 'none'",
                "Content-Type": "application/octet-stream",
            }
            await StreamAnswer(200, headers, shown.blocks)(scope, receive, send)

    return answer


async def completed(request: ApiRequest, service: Service, job: str) -> Record:
    """The completed job. Raises RequestUnknown."""
    record = await job_of(request, service, job)
    if record.result_key is None:
        raise RequestUnknown(
            "This request has no mask: it has not completed, or the mask is kept no longer.",
            param="request_id",
        )
    return record
