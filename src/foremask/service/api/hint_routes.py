"""What a person corrects: a finished job with more hints, and one picture's mask at once."""

import base64
import binascii
from typing import Any

from litestar import post
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import structs

from foremask.errors import CorruptVideo, FieldInvalid, ResolutionTooLarge, ServiceUnavailable
from foremask.hints.hint_json import hints_of_json
from foremask.options import REENCODE_ONLY, Quality, ResultKind
from foremask.service.api import parsing
from foremask.service.api.auth import charge, id_of
from foremask.service.api.hint_fields import check_on_clip, with_hints
from foremask.service.api.playground_routes import clip_of, completed
from foremask.service.api.problems import rate_headers
from foremask.service.api.request_context import ApiRequest, ServiceDependency, json_answer
from foremask.service.api.result_fields import Wanted
from foremask.service.jobs import admission, records
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.step_facts import JobResult
from foremask.service.observability.traces import first_span, valid_traceparent
from foremask.service.storage.keys import network_key

_PICTURE_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@post("/v2/status/{request_id:str}/refine", status_code=202)
async def refine(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Start a job that makes the same of the same clip, with more hints after those it had."""
    traceparent = valid_traceparent(request.headers.get("traceparent"))
    with first_span(id_of(request), "POST refine", traceparent):
        call = await charge(request, service.database)
        owner = str(call.grant.token_id)
        body = await parsing.read_object(request)
        hints = hints_of_json(body.get("hints"))
        if not hints:
            raise FieldInvalid("The field 'hints' is missing: an array of hints.", param="hints")
        record = await completed(request, service, request_id)
        before = await records.result_of(service.database, request_id)
        _check_can_be_made_again(record.quality, before)
        before = structs.replace(before, network_key=network_key(record.result_key or ""))
        wanted = with_hints(Wanted(record.preset, before), hints)
        source = await clip_of(service, record, body, owner)
        clip = await service.prober.probe(source, wanted, owner)
        check_on_clip(wanted, clip)
        admitted = await admission.admit(
            service.database,
            NewJob(
                request_id=id_of(request),
                token_id=call.grant.token_id,
                video_url=source.url,
                source_key=source.key,
                preset=wanted.form,
                quality=Quality(record.quality),
                result=wanted.result,
                clip=clip,
                traceparent=traceparent,
            ),
            storage_limit=service.storage_limit,
        )
    made = admitted.request_id
    return json_answer(
        {"request_id": made, "status_url": f"{service.settings.base_url}/v2/status/{made}"},
        202,
        rate_headers(request.scope),
    )


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


@post("/v2/video/segment/preview", status_code=200)
async def preview(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """The mask of one picture with hints, at once: what their frame will be like."""
    call = await charge(request, service.database)
    body = await parsing.read_object(request)
    picture = _picture(body)
    hints = hints_of_json(body.get("hints"))
    quality = parsing.parse_quality(body.get("quality"))
    if service.previewer is None:
        raise ServiceUnavailable("This API masks no pictures.")
    try:
        made = await service.previewer.mask(picture, quality, hints, str(call.grant.token_id))
    except (CorruptVideo, ResolutionTooLarge) as error:
        raise FieldInvalid(
            error.details, param="picture", limit=error.limit, actual=error.actual
        ) from None
    mask = base64.b64encode(made.png).decode()
    result = {"mask": mask, "width": made.width, "height": made.height}
    return json_answer(
        {"request_id": id_of(request), "result": result}, 200, rate_headers(request.scope)
    )


def _picture(body: dict[str, Any]) -> bytes:
    value = body.get("picture")
    if not isinstance(value, str) or not value:
        raise FieldInvalid(
            "The field 'picture' is missing: a JPEG or PNG in base64.", param="picture"
        )
    try:
        picture = base64.b64decode(value.rpartition(",")[2], validate=True)  # a data: URL, too
    except (binascii.Error, ValueError):
        raise FieldInvalid("picture is not base64.", param="picture") from None
    if not picture.startswith(_PICTURE_HEADS):
        raise FieldInvalid("picture is neither a JPEG nor a PNG.", param="picture")
    return picture
