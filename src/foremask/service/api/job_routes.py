"""Jobs over HTTP: submit, read, cancel, and probe without starting any."""

import asyncio
import re
import time

import structlog
from litestar import HttpMethod, post, route
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec.structs import replace

from foremask.errors import (
    BackgroundInvalid,
    Internal,
    RequestUnknown,
    UrlUnreachable,
    VideoInvalid,
)
from foremask.service.api import hint_fields, parsing, result_fields
from foremask.service.api.auth import charge, find_keyed, id_of, read_token
from foremask.service.api.probing import BUDGET_S, locate
from foremask.service.api.problems import rate_headers
from foremask.service.api.request_context import (
    ApiRequest,
    Call,
    Service,
    ServiceDependency,
    json_answer,
)
from foremask.service.api.result_fields import ReadWanted
from foremask.service.jobs import admission, records, wire_format
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.records import Record
from foremask.service.jobs.step_facts import JobResult
from foremask.service.observability.traces import Span, first_span, span, valid_traceparent

HOLD_S = 25.0  # the vendor's SDK gives up reading after 30 s
_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

log = structlog.get_logger(__name__)


SUBMIT_PATHS = (
    "/v2/video/segment/foreground_mask",
    "/v2/video/edit/foreground_mask",
    "/v2/video/generate/foreground_mask",
    "/foreground_mask",
)
"""Paths of the same call: the hosted service's SDK, collection and OpenAPI document differ."""


@post(list(SUBMIT_PATHS), status_code=202)
async def submit(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Start a job, or say exactly why not."""
    return await _submit(request, service, result_fields.foreground_mask)


@post("/v2/video/edit/remove_background", status_code=202)
async def remove_background(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Start a job that cuts the subject out, onto nothing or onto a colour."""
    return await _submit(request, service, result_fields.remove_background)


@post("/v2/video/edit/green_screen", status_code=202)
async def green_screen(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Start a job that puts the subject before a green or blue screen."""
    return await _submit(request, service, result_fields.green_screen)


@post("/v2/video/edit/replace_background", status_code=202)
async def replace_background(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Start a job that puts the subject before a picture or a video."""
    return await _submit(request, service, result_fields.replace_background)


@post("/v2/video/segment/mask_by_key_points", status_code=202)
async def mask_by_key_points(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Start a job that masks the thing at some points of one frame, in all frames."""
    return await _submit(request, service, hint_fields.mask_by_key_points)


async def _submit(request: ApiRequest, service: Service, read_wanted: ReadWanted) -> ASGIResponse:
    hold_until = time.monotonic() + HOLD_S
    traceparent = valid_traceparent(request.headers.get("traceparent"))
    with first_span(id_of(request), f"POST {read_wanted.__name__}", traceparent) as job_trace:
        made, sync = await _accepted(request, service, read_wanted, job_trace)
    if sync and (record := await _ended(request, service, made, hold_until)):
        body = wire_format.status_json(record, service.objects.link)
        return json_answer(body, 200, rate_headers(request.scope))
    return json_answer(
        {"request_id": made, "status_url": f"{service.settings.base_url}/v2/status/{made}"},
        202,
        rate_headers(request.scope),
    )


async def _accepted(
    request: ApiRequest, service: Service, read_wanted: ReadWanted, job_trace: Span
) -> tuple[str, bool]:
    """The id of the job that this request, or an earlier one under its key, has made.

    The second value says whether to wait for its end.
    """
    key = parsing.idempotency_key(request)
    if key is not None and (made := await find_keyed(request, service.database, key)):
        # The same request again costs neither rate nor quota, whatever has become of the clip
        # since.
        service.reads.take(read_token(request))
        asked = parsing.parse_submission(await parsing.read_object(request), read_wanted)
        admission.check_same_body(made, asked.body_hash)
        job_trace.note(preset=asked.wanted.form.value, job=made.request_id)
        return made.request_id, asked.sync
    call = await charge(request, service.database)
    owner = str(call.grant.token_id)
    asked = parsing.parse_submission(await parsing.read_object(request), read_wanted)
    parsing.check_idempotency_key(request)
    source = await locate(asked.video, service.objects, service.outbound, owner)
    await _check_webhook(service, call, asked.webhook_url)
    with span("probe"):
        clip = await service.prober.probe(source, asked.wanted, owner)
    by_points = read_wanted is hint_fields.mask_by_key_points
    hint_fields.check_on_clip(asked.wanted, clip, key_points=by_points)
    result, fetched_bytes = await checked_background(service, asked.wanted.result, owner)
    service.objects.check_free(2 * (clip.size_bytes if clip else 0))
    with span("admit"):
        admitted = await admission.admit(
            service.database,
            NewJob(
                request_id=id_of(request),
                token_id=call.grant.token_id,
                video_url=source.url,
                source_key=source.key,
                preset=asked.wanted.form,
                quality=asked.quality,
                result=result,
                webhook_url=asked.webhook_url,
                idempotency_key=key,
                body_hash=asked.body_hash,
                clip=clip,
                traceparent=valid_traceparent(request.headers.get("traceparent")),
                fetched_bytes=fetched_bytes,
            ),
            storage_limit=service.storage_limit,
        )
    made_id = admitted.request_id
    job_trace.note(
        preset=asked.wanted.form.value, job=made_id if made_id != id_of(request) else None
    )
    return made_id, asked.sync


@post("/v2/video/probe", status_code=200)
async def probe(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Say what a job would be told, and start nothing."""
    call = await charge(request, service.database)
    asked = parsing.parse_submission(await parsing.read_object(request))
    source = await locate(asked.video, service.objects, service.outbound, str(call.grant.token_id))
    await _check_webhook(service, call, asked.webhook_url)
    clip = await service.prober.probe_now(source, asked.wanted, str(call.grant.token_id))
    if clip is None:
        raise UrlUnreachable(
            f"The origin did not give enough of the clip within {BUDGET_S:.0f} s to tell what it"
            " is; a job would be accepted and told later.",
            param="video",
            limit=BUDGET_S,
        )
    hint_fields.check_on_clip(asked.wanted, clip)
    return json_answer(
        {"request_id": id_of(request), "result": clip}, 200, rate_headers(request.scope)
    )


@route(
    "/v2/status/{request_id:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD, HttpMethod.DELETE],
    status_code=200,
)
async def status(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Read the status of a job, or cancel it.

    A cancel changes nothing for a job that has ended.

    One handler for all: Litestar's own answer to OPTIONS names the methods of one handler only.
    """
    token = read_token(request)
    service.reads.take(token)
    await check_id(service, token, request_id)
    act = records.cancel if request.method == HttpMethod.DELETE else records.read
    try:
        record = await act(service.database, token, request_id)
    except (ValueError, KeyError, TypeError):  # the row is there and makes no sense
        log.exception("job.unreadable", job=request_id)
        error = Internal(f"The record of this job cannot be read; report request {request_id}.")
        return json_answer({"request_id": request_id, "status": "UNKNOWN", "error": error.facts()})
    return json_answer(wire_format.status_json(record, service.objects.link))


async def checked_background(
    service: Service, result: JobResult | None, owner: str
) -> tuple[JobResult | None, int]:
    """``result``, whose background is one that can be used as far as is known in time.

    The second value is how many bytes are to be fetched for it. Raises BackgroundInvalid,
    UrlRefused or Overloaded; a background that was uploaded gets its key.
    """
    if result is None or result.background_url is None:
        return result, 0
    param = "background_url"
    try:
        found = await locate(result.background_url, service.objects, service.outbound, owner, param)
    except VideoInvalid as error:
        raise BackgroundInvalid(error.details, param=param) from error
    with span("probe background"):
        size = await service.prober.probe_background(found, owner)
    result = replace(result, background_url=found.url, background_key=found.key)
    return result, 0 if found.key is not None else size or 0


async def _check_webhook(service: Service, call: Call, url: str | None) -> None:
    if url is not None:
        await service.outbound.check_url(url, "webhook_url", str(call.grant.token_id))


async def check_id(service: Service, token: bytes, job: str, param: str = "request_id") -> None:
    """Refuse what cannot be the id of a job, once the token is known to be good."""
    if not _REQUEST_ID.fullmatch(job):
        await admission.check_token(service.database, token)
        raise RequestUnknown("No request of this token has such an id.", param=param)


async def job_of(request: ApiRequest, service: Service, job: str) -> Record:
    """The token's job of this id; the read counts against its rate. Raises RequestUnknown."""
    token = read_token(request)
    service.reads.take(token)
    await check_id(service, token, job)
    return await records.read(service.database, token, job)


async def _ended(
    request: ApiRequest, service: Service, job: str, hold_until: float
) -> Record | None:
    """The job once it has ended; None when that takes longer than the connection can be held."""
    token = read_token(request)
    record = await records.read(service.database, token, job)
    if not record.status.ended:
        stopping = asyncio.create_task(service.stopping.wait())
        waiting = asyncio.create_task(service.ends.wait(job, hold_until - time.monotonic()))
        try:
            await asyncio.wait({stopping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            waiting.cancel()
        record = await records.read(service.database, token, job)
    return record if record.status.ended else None
