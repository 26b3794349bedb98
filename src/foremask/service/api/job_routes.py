"""Handlers that start jobs, probe and download clips, and preview masks."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from msgspec import Meta, Struct, structs
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from foremask import errors
from foremask.facts import Clip
from foremask.hints.kinds import check_hints, words_of
from foremask.options import JobSpec, ResultKind
from foremask.service.api import bodies, calls
from foremask.service.api.calls import Call, read_call
from foremask.service.api.context import ApiRequest, Service, json_answer, while_connected
from foremask.service.api.openapi import SUBMISSION, Operation, starts
from foremask.service.api.status_routes import completed
from foremask.service.jobs import admission, records, tokens
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.records import Accepted, Answer, Record
from foremask.service.jobs.steps import JobClip
from foremask.service.observability.traces import span
from foremask.service.sandbox.messages import Preview
from foremask.service.storage.objects import MASK, NETWORK, sibling_key
from foremask.settings import Settings

SHOWN_BYTES = 128 << 20
_PICTURE_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

HOLD_S = 25.0  # Bria's SDK times out after 30 s

# Bria's SDK, API collection and OpenAPI document use different paths for the same operation.
SUBMIT_PATHS = (
    "/v2/video/segment/foreground_mask",
    "/v2/video/edit/foreground_mask",
    "/v2/video/generate/foreground_mask",
    "/foreground_mask",
)


@starts(*SUBMIT_PATHS, body=bodies.JobRequest)
async def submit(request: ApiRequest) -> Response:
    """Start a job that masks a clip.

    The service probes the clip for up to 8 s, and refuses a clip that it cannot mask. If the probe
    takes longer, the job is accepted, and its status reports any error. To upload the clip with
    the request, send a form with the file 'video' after all fields.
    """
    return await _start(request, bodies.JobRequest, _job_of_clip)


@starts("/v2/video/edit/remove_background", body=bodies.RemoveBackgroundRequest)
async def remove_background(request: ApiRequest) -> Response:
    """Cut the subject out.

    The result has straight alpha, or one colour as background. Status, errors, webhooks and limits
    are the same as for foreground_mask.
    """
    return await _start(request, bodies.RemoveBackgroundRequest, _job_of_clip)


@starts("/v2/video/edit/green_screen", body=bodies.GreenScreenRequest)
async def green_screen(request: ApiRequest) -> Response:
    """Put the subject in front of a green or blue screen."""
    return await _start(request, bodies.GreenScreenRequest, _job_of_clip)


@starts(
    "/v2/video/edit/replace_background",
    body=bodies.ReplaceBackgroundRequest,
    refused=("background_invalid",),
)
async def replace_background(request: ApiRequest) -> Response:
    """Put the subject in front of a picture or a video.

    Send either background_url or background.
    """
    return await _start(request, bodies.ReplaceBackgroundRequest, _job_of_clip)


@starts("/v2/video/segment/mask_by_key_points", body=bodies.MaskByKeyPointsRequest)
async def mask_by_key_points(request: ApiRequest) -> Response:
    """Mask an object in all frames, given points on one frame."""
    return await _start(request, bodies.MaskByKeyPointsRequest, _job_of_clip)


@starts("/v2/video/segment/mask_by_prompt", body=bodies.MaskByPromptRequest)
async def mask_by_prompt(request: ApiRequest) -> Response:
    """Mask what words name in all frames, where the operator has set FOREMASK_TRACKERS."""
    return await _start(request, bodies.MaskByPromptRequest, _job_of_clip)


async def _start[B: Struct](
    request: ApiRequest, kind: type[B], job_of: Callable[[Call[B]], Awaitable[NewJob]]
) -> Response:
    """Admit the job that ``job_of`` makes of the call; every job starts here."""
    operation = _operation(request)
    traceparent = request.headers.get("traceparent")
    with span(f"POST {operation.partition(' ')[0]}", traceparent, is_first=True) as trace:
        async with calls.submission(request, kind, operation) as call:
            hold_until = time.monotonic() + HOLD_S
            if request.facts.job is None:
                job = structs.replace(await job_of(call), traceparent=trace.traceparent)
                trace.note(preset=job.spec.form.value)
                request.facts.job = await _admit(call.service, job)
        if request.facts.job != request.id:
            trace.note(job=request.facts.job)
    return await _status_of(request.facts.job, call, hold_until)


def _operation(request: ApiRequest) -> str:
    """Return ``foreground_mask`` for all its aliases, and ``convert ID`` for a job's conversion.

    The operation is hashed with the body, so an Idempotency-Key is valid for one operation only.
    """
    name = request.facts.route.rpartition("/")[2]
    return " ".join([name, *request.path_params.values()])


async def _admit(service: Service, job: NewJob) -> str:
    clip_bytes = 0
    if job.clip is not None:
        clip_bytes = job.clip.size_bytes
    service.objects.check_free(2 * clip_bytes)
    with span("admit"):
        return await admission.admit(service.database, job, service.storage_limit)


async def _status_of(job: str, call: Call[Any], hold_until: float) -> Response:
    """Wait for the job's end if the body has ``sync``, and return its status."""
    service = call.service
    if getattr(call.body, "sync", False):
        await service.ends.wait(job, hold_until - time.monotonic())
        record = await records.read(service.database, call.token_hash, job)
        if record.status.ended:
            return json_answer(records.status_body(record, service.objects.link))
    return json_answer(Accepted(job, f"{service.settings.base_url}/v2/status/{job}"), 202)


async def _job_of_clip(call: Call[bodies.JobBody], *, now: bool = False) -> NewJob:
    body = call.body
    _check_network(body.network, call.service.settings)
    job = _new_job(
        call,
        body.spec(),
        video_url=body.video,
        background_url=getattr(body, "background_url", None),
        key_points=len(getattr(body, "key_points", ())),
    )
    if body.webhook_url is not None:
        await call.service.outbound.check_webhook(body.webhook_url, call.owner)
    with span("probe"):
        return await call.service.prober.probe(job, now=now)


def _check_network(name: str | None, settings: Settings) -> None:
    """Raise FieldInvalid for a network that the operator does not allow."""
    allowed = _networks(settings)
    if name is not None and name not in allowed:
        here = ", ".join(sorted(allowed)) or "none"
        raise errors.FieldInvalid(
            f"This service has no network {name!r} for jobs; it has: {here}.", param="network"
        )


def _networks(settings: Settings) -> tuple[str, ...]:
    """Return the networks that a job may name, the default first if it has a name."""
    default = (settings.network,) if settings.model_file is None else ()
    return tuple(dict.fromkeys((*default, *settings.networks)))


def _new_job(call: Call[Any], spec: JobSpec, **more: Any) -> NewJob:  # noqa: ANN401
    return NewJob(
        request_id=call.request_id,
        token_id=call.grant.token_id,
        spec=_with_allowed_tracker(spec, call.service.settings.trackers),
        webhook_url=getattr(call.body, "webhook_url", None),
        idempotency_key=call.idempotency_key,
        body_hash=call.body_hash,
        **more,
    )


def _with_allowed_tracker(spec: JobSpec, allowed: Sequence[str]) -> JobSpec:
    """Name the tracker that follows the job's words. Raises FieldInvalid if none may."""
    param = "hints" if spec.tracker is None else "tracker"
    if spec.tracker is None and not words_of(spec.hints):
        return spec
    if not allowed:
        raise errors.FieldInvalid(
            "This server follows no words and has no trackers. Its operator can add them: `pip"
            " install ./integrations/trackers`, `foremask-trackers pull sam2.1-tiny`, the same for"
            " grounding-dino-tiny, and FOREMASK_TRACKERS=sam2.1-tiny.",
            param=param,
        )
    if spec.tracker is not None and spec.tracker not in allowed:
        raise errors.FieldInvalid(
            f"The trackers of this server are {', '.join(allowed)}; {spec.tracker} is not.",
            param=param,
        )
    followed = structs.replace(spec, tracker=spec.tracker or allowed[0])
    return structs.replace(followed, tracker=followed.chosen_tracker)


@starts(
    "/v2/status/{request_id:str}/convert",
    body=bodies.ConvertRequest,
    has_clip=False,
    refused=("background_invalid", "request_unknown"),
)
async def convert(request: ApiRequest, request_id: str) -> Response:
    """Make another result from the stored mask of a completed job.

    The result is a mask in another format or with matte options, or a cut-out or composite. The
    network does not run again, so the job takes seconds. Cut-out and composite jobs also store a
    mask, to which their matte options are not applied.
    """
    return await _start(request, bodies.ConvertRequest, partial(_conversion, request_id=request_id))


async def _conversion(call: Call[bodies.ConvertRequest], request_id: str) -> NewJob:
    service = call.service
    asked = call.body.spec()
    record = await completed(service, call.token_hash, request_id)
    spec = structs.replace(asked, excerpt=record.spec.excerpt)
    mask_key = await _stored_mask(service, record)
    clip = JobClip(frames=record.frames_total)
    if spec.kind is ResultKind.MASK:
        return _new_job(call, spec, mask_key=mask_key, clip=clip)
    job = _new_job(
        call,
        spec,
        video_url=call.body.video,
        source_key=None if call.body.video else await _stored_upload(service, record),
        mask_key=mask_key,
        background_url=call.body.background_url,
    )
    job = await service.prober.probe(job)
    fetched_bytes = job.fetched_bytes
    if job.clip is not None and job.source_key is None:
        fetched_bytes += job.clip.size_bytes
    return structs.replace(job, clip=clip, fetched_bytes=fetched_bytes)


async def _stored_mask(service: Service, record: Record) -> str:
    """Return the key of the job's mask. Raises RequestUnknown if it is lost."""
    key = record.result_key or ""
    if record.spec.kind is not ResultKind.MASK:
        _check_has_mask(record)
        key = sibling_key(key, MASK)
    try:
        await service.objects.head(key)
    except errors.ObjectLost:
        raise errors.RequestUnknown(
            "The mask of this request was deleted or lost: submit the clip again.",
            param="request_id",
        ) from None
    return key


def _check_has_mask(record: Record) -> None:
    if record.report is None or not record.report.mask_bytes:
        raise errors.FieldInvalid(
            f"The mask of this {record.spec.kind} is not stored, since its frames are too large:"
            " submit the clip to /v2/video/segment/foreground_mask, and convert that.",
            param="request_id",
        )


async def _stored_upload(service: Service, record: Record) -> str:
    """Return the key of the clip that was uploaded for the job. Raises video_missing."""
    key = record.source_key
    if key is not None and key.startswith("uploads/"):
        with suppress(errors.ObjectLost):
            await service.objects.head(key)
            return key
    raise errors.BadRequest(
        "The clip of this mask is no longer stored: send its URL in the field 'video'.",
        reason="video_missing",
        param="video",
    )


@starts(
    "/v2/status/{request_id:str}/refine",
    body=bodies.RefineRequest,
    has_clip=False,
    refused=("request_unknown",),
)
async def refine(request: ApiRequest, request_id: str) -> Response:
    """Repeat a completed job with additional hints."""
    return await _start(request, bodies.RefineRequest, partial(_refinement, request_id=request_id))


async def _refinement(call: Call[bodies.RefineRequest], request_id: str) -> NewJob:
    service = call.service
    check_hints(call.body.hints)
    record = await completed(service, call.token_hash, request_id)
    _check_can_be_made_again(record)
    before = await records.hints_of(service.database, request_id)
    job = _new_job(
        call,
        structs.replace(record.spec, hints=(*before, *call.body.hints)),
        video_url=call.body.video,
        source_key=None if call.body.video else await _stored_upload(service, record),
        background_key=record.background_key,
        network_key=sibling_key(record.result_key or "", NETWORK),
        key_points=record.key_points,
    )
    return await service.prober.probe(job)


def _check_can_be_made_again(record: Record) -> None:
    if record.mask_key is not None:
        raise errors.FieldInvalid(
            "This request converted a stored mask; refine the request that made the mask.",
            param="request_id",
        )
    is_uploaded = (record.background_key or "").startswith("uploads/")
    has_background = record.spec.background is not None or is_uploaded
    if record.spec.kind is ResultKind.COMPOSITE and not has_background:
        raise errors.FieldInvalid(
            "The background's URL is kept no longer: submit the clip again with these hints.",
            param="request_id",
        )


class Models(Struct):
    networks: Annotated[tuple[str, ...], Meta(description="Values that `network` may have.")]
    trackers: Annotated[
        tuple[str, ...],
        Meta(description="Values that `tracker` may have; the first follows words."),
    ]
    default_network: Annotated[
        str | None, Meta(description="Null if it is a file of the operator's own.")
    ]


@Operation("jobs", "The names.", Answer[Models], of_request=False).at("GET", "/v2/models")
async def list_models(request: ApiRequest) -> Response:
    """List the networks and trackers that jobs may name."""
    settings = request.service.settings
    await tokens.check(request.service.database, calls.read_token(request))
    default = settings.network if settings.model_file is None else None
    models = Models(_networks(settings), settings.trackers, default)
    return json_answer(Answer(request.id, models))


@Operation("jobs", "The clip's properties.", Answer[Clip], SUBMISSION, bodies.JobRequest).at(
    "POST", "/v2/video/probe"
)
async def probe(request: ApiRequest) -> Response:
    """Check a clip without starting a job.

    The body is foreground_mask's. The response has the clip's properties, or the error that
    the job would have.
    """
    call = await read_call(request, bodies.JobRequest)
    clip = (await _job_of_clip(call, now=True)).clip
    assert clip is not None  # noqa: S101  # `now` raises the reason instead
    return json_answer(Answer(call.request_id, clip))


@Operation(
    "playground",
    "The clip, unchanged.",
    {"application/octet-stream": {}},
    SUBMISSION,
    bodies.JobRequest,
).at("POST", "/v2/playground/clip")
async def show_clip(request: ApiRequest) -> ASGIApp:
    """Download a clip through the service.

    The clip must have at most 128 MiB, and be one that a job accepts. The playground uses this
    operation to show clips at URLs.
    """
    call = await read_call(request, bodies.JobRequest)
    service = call.service
    spec = call.body.spec()
    most_bytes = min(SHOWN_BYTES, service.limits.max_bytes)

    async def send_clip(scope: Scope, receive: Receive, send: Send) -> None:
        async with service.prober.show(call.body.video, spec, call.owner, most_bytes) as shown:
            headers = {
                "Cache-Control": "no-store",
                "Content-Length": str(shown.size),
                "Content-Security-Policy": "sandbox; default-src 'none'",
                "Content-Type": "application/octet-stream",
            }
            answer = StreamingResponse(shown.blocks, headers=headers)
            await answer(scope, receive, send)

    return send_clip


@Operation(
    "jobs",
    "The mask.",
    Answer[Preview],
    ("field_invalid", "model_unavailable"),
    bodies.PreviewRequest,
).at("POST", "/v2/video/segment/preview")
async def preview(request: ApiRequest) -> Response:
    """Mask one picture and return the mask.

    The preview shows the effect of up to 16 hints before a job is started. All hints apply to this
    picture, whatever their frame or time. If `mask` has the picture's mask from a result, the
    answer is that mask, corrected by the hints. The service masks one picture at a time.
    """
    call = await read_call(request, bodies.PreviewRequest)
    body = call.body
    if not body.picture.startswith(_PICTURE_HEADS):
        raise errors.FieldInvalid("picture is neither a JPEG nor a PNG.", param="picture")
    if body.mask is not None and not body.mask.startswith(_PICTURE_HEADS):
        raise errors.FieldInvalid("mask is neither a JPEG nor a PNG.", param="mask")
    check_hints(body.hints)
    try:
        masking = call.service.previewer.mask(
            body.picture, body.quality, body.hints, call.owner, body.mask
        )
        made = await while_connected(request.receive, masking)
    except (errors.CorruptVideo, errors.ResolutionTooLarge) as error:
        raise errors.FieldInvalid(
            error.details, param="picture", limit=error.limit, actual=error.actual
        ) from None
    return json_answer(Answer(call.request_id, made))
