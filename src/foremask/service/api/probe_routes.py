"""Calls about a clip or a picture that start no job: its facts, its bytes, its mask."""

from typing import Annotated

from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta, Struct

from foremask.errors import (
    CorruptVideo,
    FieldInvalid,
    JobCancelled,
    ModelUnavailable,
    ResolutionTooLarge,
    UrlUnreachable,
)
from foremask.facts import Clip
from foremask.hints.kinds import check_hints
from foremask.service.api.bodies import JobRequest, PreviewRequest
from foremask.service.api.calls import read_call
from foremask.service.api.endpoints import SUBMISSION, Operation
from foremask.service.api.probing import BUDGET_S
from foremask.service.api.request_context import ApiRequest, json_answer, while_heard
from foremask.service.jobs.wire_format import Answer

SHOWN_BYTES = 128 << 20
_PICTURE_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class Preview(Struct):
    """The mask of the picture."""

    mask: Annotated[bytes, Meta(description="A grey PNG in base64; white is the foreground.")]
    width: int
    height: int


@Operation("jobs", "The facts of the clip.", Answer[Clip], SUBMISSION, JobRequest).takes(
    "/v2/video/probe"
)
async def probe(request: ApiRequest) -> ASGIResponse:
    """Check a clip without starting a job.

    Takes the same body as a job. The answer has the facts of the clip, or the error that a job
    would get.
    """
    call = await read_call(request, JobRequest)
    service = call.service
    form, result = call.body.wanted()
    if call.body.webhook_url is not None:
        await service.outbound.check_url(call.body.webhook_url, "webhook_url", call.owner)
    source = service.prober.locate(call.body.video)
    kind = result.options.kind
    clip = await service.prober.probe(source, form, kind, call.owner, now=True)
    if clip is None:
        raise UrlUnreachable(
            f"The origin gave too little of the clip in {BUDGET_S:.0f} s; a job would be accepted.",
            param="video",
            limit=BUDGET_S,
        )
    call.body.check_on(clip)
    return json_answer(Answer(call.request_id, clip))


@Operation(
    "playground", "The clip as it is.", {"application/octet-stream": {}}, SUBMISSION, JobRequest
).takes("/v2/playground/clip")
async def show_clip(request: ApiRequest) -> ASGIApp:
    """Download a clip through the service.

    The playground shows clips with it. A job must accept the clip, which may have at most 128 MiB.
    """
    call = await read_call(request, JobRequest)
    service = call.service
    form, result = call.body.wanted()
    source = service.prober.locate(call.body.video)
    most_bytes = min(SHOWN_BYTES, service.limits.max_bytes)

    async def send_clip(scope: Scope, receive: Receive, send: Send) -> None:
        async with service.prober.show(
            source, form, result.options.kind, call.owner, most_bytes
        ) as shown:
            headers = {
                "Cache-Control": "no-store",
                "Content-Length": str(shown.size),
                "Content-Security-Policy": "sandbox; default-src 'none'",
                "Content-Type": "application/octet-stream",
            }
            answer = ASGIStreamingResponse(iterator=shown.blocks, status_code=200, headers=headers)
            await answer(scope, receive, send)

    return send_clip


@Operation(
    "jobs",
    "The mask.",
    Answer[Preview],
    (FieldInvalid, ModelUnavailable, JobCancelled),
    PreviewRequest,
).takes("/v2/video/segment/preview")
async def preview(request: ApiRequest) -> ASGIResponse:
    """The mask of one picture, at once.

    What hints do on their frame, before a job is started. All hints are on the picture, whatever
    their moment, and at most 16. A token has one picture in work and one that waits; the newest
    waits, and the older one is cancelled.
    """
    call = await read_call(request, PreviewRequest)
    service = call.service
    body = call.body
    if not body.picture.startswith(_PICTURE_HEADS):
        raise FieldInvalid("picture is neither a JPEG nor a PNG.", param="picture")
    check_hints(body.hints)
    try:
        masking = service.previewer.mask(body.picture, body.quality, body.hints, call.owner)
        made = await while_heard(request.receive, masking)
    except (CorruptVideo, ResolutionTooLarge) as error:
        raise FieldInvalid(
            error.details, param="picture", limit=error.limit, actual=error.actual
        ) from None
    return json_answer(Answer(call.request_id, Preview(made.png, made.width, made.height)))
