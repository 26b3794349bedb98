"""Calls that start a job: token and rate, body, probe, row; with ``sync`` its end."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import Struct, structs

from foremask.errors import (
    BackgroundInvalid,
    FieldInvalid,
    ForemaskError,
    ObjectLost,
    RequestUnknown,
    ServiceUnavailable,
    VideoMissing,
)
from foremask.hints.kinds import check_hints
from foremask.options import REENCODE_ONLY, Quality, ResultKind
from foremask.service.api import forms
from foremask.service.api.bodies import (
    ConvertRequest,
    GreenScreenRequest,
    JobBody,
    JobRequest,
    MaskByKeyPointsRequest,
    RefineRequest,
    RemoveBackgroundRequest,
    ReplaceBackgroundRequest,
)
from foremask.service.api.calls import Call, read_call
from foremask.service.api.endpoints import starts
from foremask.service.api.probing import Source
from foremask.service.api.request_context import CLIP, ApiRequest, Service, json_answer
from foremask.service.api.status_routes import completed
from foremask.service.jobs import admission, records, wire_format
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.records import Record
from foremask.service.jobs.step_facts import PLAIN_MASK, JobClip, JobResult
from foremask.service.jobs.wire_format import Accepted
from foremask.service.observability.traces import Span, first_span, span
from foremask.service.storage.keys import mask_key, network_key

HOLD_S = 25.0  # the vendor's SDK gives up reading after 30 s
SUBMIT_PATHS = (
    "/v2/video/segment/foreground_mask",
    "/v2/video/edit/foreground_mask",
    "/v2/video/generate/foreground_mask",
    "/foreground_mask",
)
"""Paths of the same call: the hosted service's SDK, collection and OpenAPI document differ."""

type Make[B] = Callable[[Call[B]], Awaitable[NewJob]]
"""Checks what a call asks for, and makes the job of it."""


@starts(*SUBMIT_PATHS, body=JobRequest)
async def submit(request: ApiRequest) -> ASGIResponse:
    """Start a job.

    The service probes the clip for up to 8 s before it answers, and refuses a clip that it cannot
    mask. Where the origin is slower, the answer is 202, and the job's status reports the same error
    later. Every call that takes a clip also takes it as a file: in a form, behind all fields.
    """
    return await _start_from_clip(request, JobRequest)


@starts("/v2/video/edit/remove_background", body=RemoveBackgroundRequest)
async def remove_background(request: ApiRequest) -> ASGIResponse:
    """Cut the subject out.

    Onto nothing, with straight alpha, or onto a colour. Status, errors, webhooks and limits are
    those of a mask's job.
    """
    return await _start_from_clip(request, RemoveBackgroundRequest)


@starts("/v2/video/edit/green_screen", body=GreenScreenRequest)
async def green_screen(request: ApiRequest) -> ASGIResponse:
    """Put the subject before a green or blue screen."""
    return await _start_from_clip(request, GreenScreenRequest)


@starts(
    "/v2/video/edit/replace_background", body=ReplaceBackgroundRequest, refused=(BackgroundInvalid,)
)
async def replace_background(request: ApiRequest) -> ASGIResponse:
    """Put the subject before a picture or a video.

    One of background_url and background is required.
    """
    return await _start_from_clip(request, ReplaceBackgroundRequest)


@starts("/v2/video/segment/mask_by_key_points", body=MaskByKeyPointsRequest)
async def mask_by_key_points(request: ApiRequest) -> ASGIResponse:
    """Mask the thing at some points of one frame, in all frames."""
    return await _start_from_clip(request, MaskByKeyPointsRequest)


async def _start_from_clip(request: ApiRequest, kind: type[JobBody]) -> ASGIResponse:

    async def make(call: Call[JobBody]) -> NewJob:
        body, service = call.body, call.service
        form, result = body.wanted()
        prober = service.prober
        if body.webhook_url is not None:
            await service.outbound.check_url(body.webhook_url, "webhook_url", call.owner)
        source = prober.locate(body.video)
        with span("probe"):
            clip = await prober.probe(source, form, result.options.kind, call.owner)
        result, fetched_bytes = await prober.probe_background(result, call.owner)
        body.check_on(clip)
        service.objects.check_free(2 * (clip.size_bytes if clip else 0))
        return NewJob(
            request_id=call.request_id,
            token_id=call.grant.token_id,
            video_url=source.url,
            source_key=source.key,
            preset=form,
            quality=body.quality,
            result=None if result == PLAIN_MASK else result,
            webhook_url=body.webhook_url,
            clip=clip,
            fetched_bytes=fetched_bytes,
        )

    return await _start(request, kind, kind.call, make)


@starts(
    "/v2/status/{request_id:str}/convert",
    body=ConvertRequest,
    has_clip=False,
    refused=(BackgroundInvalid, RequestUnknown),
)
async def convert(request: ApiRequest, request_id: FromPath[str]) -> ASGIResponse:
    """Make something else of a mask or a cut-out.

    Starts a job that works on the stored mask and does not run the network: it takes seconds. A
    mask in another preset, or worked on with the matte tools; or its clip cut out by it. The mask
    of a cut-out is stored beside it, before any matte tool.
    """

    async def make(call: Call[ConvertRequest]) -> NewJob:
        service = call.service
        form, result = call.body.wanted()
        clip_url, fetched_bytes = None, 0
        record = await completed(service, call.token, request_id)
        mask = _stored_mask(record)
        if result.options.kind is not ResultKind.MASK:
            source = await _source_of(service, record, call.body.video)
            clip = await service.prober.probe(source, form, result.options.kind, call.owner)
            clip_url, result = source.url, structs.replace(result, clip_key=source.key)
            if clip is not None and source.key is None:
                fetched_bytes = clip.size_bytes
        result, background_bytes = await service.prober.probe_background(result, call.owner)
        return NewJob(
            request_id=call.request_id,
            token_id=call.grant.token_id,
            video_url=clip_url,
            source_key=mask,
            preset=form,
            quality=REENCODE_ONLY,
            result=None if result == PLAIN_MASK else result,
            clip=JobClip(frames=record.frames_total),
            fetched_bytes=fetched_bytes + background_bytes,
        )

    return await _start(request, ConvertRequest, f"convert {request_id}", make)


def _stored_mask(record: Record) -> str:
    """The key of the mask: the result's, or the one stored beside it."""
    result_key = record.result_key or ""
    if record.kind is ResultKind.MASK:
        return result_key
    if record.report is None or not record.report.mask_bytes:
        raise FieldInvalid(
            f"The mask of this {record.kind} is not stored, since its frames are too large: submit"
            " the clip to /v2/video/segment/foreground_mask, and convert that.",
            param="request_id",
        )
    return mask_key(result_key)


async def _source_of(service: Service, record: Record, video: str | None) -> Source:
    """The clip of a mask: at the URL in ``video``, or the upload that it was made from."""
    if video is not None:
        return service.prober.locate(video)
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


@starts(
    "/v2/status/{request_id:str}/refine",
    body=RefineRequest,
    has_clip=False,
    refused=(RequestUnknown,),
)
async def refine(request: ApiRequest, request_id: FromPath[str]) -> ASGIResponse:
    """Make the same of a completed job's clip again, with more hints."""

    async def make(call: Call[RefineRequest]) -> NewJob:
        service = call.service
        check_hints(call.body.hints)
        record = await completed(service, call.token, request_id)
        before = await records.result_of(service.database, request_id)
        _check_can_be_made_again(record.quality, before)
        hints = (*before.hints, *call.body.hints)
        check_hints(hints)
        source = await _source_of(service, record, call.body.video)
        clip = await service.prober.probe(source, record.form, record.kind, call.owner)
        check_hints(hints, clip)
        known = network_key(record.result_key or "")
        return NewJob(
            request_id=call.request_id,
            token_id=call.grant.token_id,
            video_url=source.url,
            source_key=source.key,
            preset=record.form,
            quality=Quality(record.quality),
            result=structs.replace(before, network_key=known, hints=hints),
            clip=clip,
        )

    return await _start(request, RefineRequest, f"refine {request_id}", make)


def _check_can_be_made_again(quality: str, result: JobResult) -> None:
    if quality == REENCODE_ONLY:
        raise FieldInvalid(
            "This request converted a stored mask; refine the request that made the mask.",
            param="request_id",
        )
    options = result.options
    behind = options.background is not None or result.background_key is not None
    if options.kind is ResultKind.COMPOSITE and not behind:
        raise FieldInvalid(
            "The background's URL is kept no longer: submit the clip again with these hints.",
            param="request_id",
        )


async def _start[B: Struct](
    request: ApiRequest, kind: type[B], name: str, make: Make[B]
) -> ASGIResponse:
    """Start a job, or say exactly why not; with ``sync``, wait for its end.

    The same request again under its Idempotency-Key costs neither rate nor quota, whatever has
    become of the clip since. ``name`` is part of the body's hash.
    """
    own, route = request.id, f"POST {name.partition(' ')[0]}"
    with first_span(own, route, request.headers.get("traceparent")) as trace:
        try:
            call = await read_call(request, kind, name)
            hold_until = time.monotonic() + HOLD_S
            made = call.grant.request_id or await _admitted(call, make, trace)
        except ServiceUnavailable:  # the job may exist
            raise
        except ForemaskError:
            await _discard_clip(request)
            raise
        if made != own:
            await _discard_clip(request)
            trace.note(job=made)
    service = call.service
    if getattr(call.body, "sync", False):
        record = await _ended(service, call.token, made, hold_until)
        if record is not None:
            return json_answer(wire_format.status_body(record, service.objects.link))
    return json_answer(Accepted(made, f"{service.settings.base_url}/v2/status/{made}"), 202)


async def _admitted[B: Struct](call: Call[B], make: Make[B], trace: Span) -> str:
    job = structs.replace(
        await make(call),
        idempotency_key=call.key,
        body_hash=call.digest,
        traceparent=trace.traceparent,
    )
    trace.note(preset=job.preset.value)
    with span("admit"):
        return await admission.admit(call.service.database, job, call.service.storage_limit)


async def _discard_clip(request: ApiRequest) -> None:
    """Delete the clip that came with the request, if one did."""
    if key := request.scope["state"].get(CLIP):
        await forms.discard(request.service, key)


async def _ended(service: Service, token: bytes, job: str, hold_until: float) -> Record | None:
    """The ended job; None where that takes longer than the connection is held."""
    record = await records.read(service.database, token, job)
    if not record.status.ended:
        await service.ends.wait(job, hold_until - time.monotonic())
        record = await records.read(service.database, token, job)
    return record if record.status.ended else None
