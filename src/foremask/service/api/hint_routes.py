"""Routes for hints: a finished job with more of them, and the mask of one picture at once."""

from typing import Annotated

from litestar import post
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct, structs

from foremask.errors import (
    CorruptVideo,
    FieldInvalid,
    JobCancelled,
    ModelUnavailable,
    ResolutionTooLarge,
    ServiceUnavailable,
)
from foremask.hints.kinds import check_hints
from foremask.options import REENCODE_ONLY, Quality, ResultKind
from foremask.service.api import parsing, submitting
from foremask.service.api.auth import charge, id_of
from foremask.service.api.bodies import PreviewRequest, RefineRequest
from foremask.service.api.operation_docs import ALWAYS, BODY, CHARGED, documented, starts
from foremask.service.api.playground_routes import clip_of, completed
from foremask.service.api.request_context import (
    ApiRequest,
    ServiceDependency,
    json_answer,
    while_heard,
)
from foremask.service.jobs import records
from foremask.service.jobs.admission import Grant, NewJob
from foremask.service.jobs.step_facts import JobResult
from foremask.service.jobs.wire_format import RequestId
from foremask.service.storage.keys import network_key

_PICTURE_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class PreviewMask(Struct):
    """The mask of the picture."""

    mask: Annotated[bytes, Meta(description="A grey PNG in base64; white is the foreground.")]
    width: int
    height: int


class Preview(Struct):
    """The mask of one picture."""

    request_id: RequestId
    result: PreviewMask


@post("/v2/status/{request_id:str}/refine", status_code=202, opt=starts(RefineRequest, sync=False))
async def refine(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """The same again, with more hints.

    Starts a job that makes the same of the same clip as one that has completed.
    """

    async def prepare(body: RefineRequest, grant: Grant) -> NewJob:
        owner = str(grant.token_id)
        check_hints(body.hints)
        record = await completed(request, service, request_id)
        before = await records.result_of(service.database, request_id)
        _check_can_be_made_again(record.quality, before)
        hints = (*before.hints, *body.hints)
        check_hints(hints)
        source = await clip_of(service, record, body.video, owner)
        clip = await service.prober.probe(source, record.preset, record.kind, owner)
        check_hints(hints, clip)
        known = network_key(record.result_key or "")
        return NewJob(
            token_id=grant.token_id,
            video_url=source.url,
            source_key=source.key,
            preset=record.preset,
            quality=Quality(record.quality),
            result=structs.replace(before, network_key=known, hints=hints),
            clip=clip,
        )

    call = f"refine {request_id}"
    return await submitting.submit(request, service, RefineRequest, call, prepare)


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
            "The background's URL of this request is kept no longer: submit the clip again with"
            " these hints.",
            param="request_id",
        )


@post(
    "/v2/video/segment/preview",
    status_code=200,
    opt=documented(
        "jobs",
        "The mask.",
        Preview,
        body=PreviewRequest,
        refused=(*CHARGED, *BODY, FieldInvalid, ModelUnavailable, JobCancelled, *ALWAYS),
        rated=True,
    ),
)
async def preview(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """The mask of one picture, at once.

    What hints do on their frame, before a job is started. All hints are on the picture, whatever
    their moment, and at most 16. A token has one picture in work and one that waits; the newest
    waits, and the older one is cancelled.
    """
    grant = await charge(request, service.database)
    body = await parsing.read_body(request, PreviewRequest)
    if not body.picture.startswith(_PICTURE_HEADS):
        raise FieldInvalid("picture is neither a JPEG nor a PNG.", param="picture")
    check_hints(body.hints)
    if service.previewer is None:
        raise ServiceUnavailable("This API masks no pictures.")
    try:
        masking = service.previewer.mask(
            body.picture, body.quality, body.hints, str(grant.token_id)
        )
        made = await while_heard(request.receive, masking)
    except (CorruptVideo, ResolutionTooLarge) as error:
        raise FieldInvalid(
            error.details, param="picture", limit=error.limit, actual=error.actual
        ) from None
    answer = Preview(id_of(request), PreviewMask(made.png, made.width, made.height))
    return json_answer(answer)
