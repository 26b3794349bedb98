"""Jobs over HTTP: submit, read, cancel, and probe without starting any."""

import re
from collections.abc import Awaitable, Callable

import structlog
from litestar import HttpMethod, post, route
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import Struct

from foremask.errors import BackgroundInvalid, Internal, RequestUnknown, UrlUnreachable
from foremask.facts import Clip
from foremask.service.api import parsing, submitting
from foremask.service.api.auth import charge, id_of, read_token
from foremask.service.api.bodies import (
    GreenScreenRequest,
    JobBody,
    JobRequest,
    MaskByKeyPointsRequest,
    RemoveBackgroundRequest,
    ReplaceBackgroundRequest,
)
from foremask.service.api.operation_docs import (
    ALWAYS,
    BODY,
    CHARGED,
    READ,
    SUBMISSION,
    documented,
    starts,
)
from foremask.service.api.probing import BUDGET_S, locate
from foremask.service.api.request_context import (
    ApiRequest,
    Service,
    ServiceDependency,
    json_answer,
)
from foremask.service.api.submitting import checked_background
from foremask.service.jobs import admission, records, wire_format
from foremask.service.jobs.admission import Grant, NewJob
from foremask.service.jobs.database import Database
from foremask.service.jobs.records import Record
from foremask.service.jobs.step_facts import PLAIN_MASK
from foremask.service.jobs.wire_format import JobStatus
from foremask.service.observability.traces import span

_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

log = structlog.get_logger(__name__)


SUBMIT_PATHS = (
    "/v2/video/segment/foreground_mask",
    "/v2/video/edit/foreground_mask",
    "/v2/video/generate/foreground_mask",
    "/foreground_mask",
)
"""Paths of the same call: the hosted service's SDK, collection and OpenAPI document differ."""


class Probed(Struct):
    """The facts of a clip that a job would accept."""

    request_id: str
    result: Clip


@post(list(SUBMIT_PATHS), status_code=202, opt=starts(JobRequest) | {"first_path": SUBMIT_PATHS[0]})
async def submit(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Start a job.

    The service probes the clip for up to 8 s before it answers, and refuses a clip that it cannot
    mask. Where the origin is slower, the answer is 202, and the job's status reports the same error
    later.
    """
    return await _submit(request, service, JobRequest)


@post("/v2/video/edit/remove_background", status_code=202, opt=starts(RemoveBackgroundRequest))
async def remove_background(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Cut the subject out.

    Onto nothing, with straight alpha, or onto a colour. Status, errors, webhooks and limits are
    those of a mask's job.
    """
    return await _submit(request, service, RemoveBackgroundRequest)


@post("/v2/video/edit/green_screen", status_code=202, opt=starts(GreenScreenRequest))
async def green_screen(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Put the subject before a green or blue screen."""
    return await _submit(request, service, GreenScreenRequest)


@post(
    "/v2/video/edit/replace_background",
    status_code=202,
    opt=starts(ReplaceBackgroundRequest, BackgroundInvalid),
)
async def replace_background(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Put the subject before a picture or a video.

    One of background_url and background is required.
    """
    return await _submit(request, service, ReplaceBackgroundRequest)


@post("/v2/video/segment/mask_by_key_points", status_code=202, opt=starts(MaskByKeyPointsRequest))
async def mask_by_key_points(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Mask the thing at some points.

    In all frames, from points on one of them.
    """
    return await _submit(request, service, MaskByKeyPointsRequest)


async def _submit(request: ApiRequest, service: Service, kind: type[JobBody]) -> ASGIResponse:
    async def prepare(body: JobBody, grant: Grant) -> NewJob:
        form, result = body.wanted()
        owner = str(grant.token_id)
        source = await locate(body.video, service.objects, service.outbound, owner)
        await _check_webhook(service, body, owner)
        with span("probe"):
            clip = await service.prober.probe(source, form, result.options.kind, owner)
        body.check_on(clip)
        result, fetched_bytes = await checked_background(service, result, owner)
        service.objects.check_free(2 * (clip.size_bytes if clip else 0))
        return NewJob(
            token_id=grant.token_id,
            video_url=source.url,
            source_key=source.key,
            preset=form,
            quality=body.quality,
            result=None if result == PLAIN_MASK else result,
            webhook_url=body.webhook_url,
            clip=clip,
            fetched_bytes=fetched_bytes,
        )

    return await submitting.submit(request, service, kind, kind.call, prepare)


async def _check_webhook(service: Service, body: JobBody, owner: str) -> None:
    if body.webhook_url is not None:
        await service.outbound.check_url(body.webhook_url, "webhook_url", owner)


@post(
    "/v2/video/probe",
    status_code=200,
    opt=documented(
        "jobs",
        "The facts of the clip.",
        Probed,
        body=JobRequest,
        refused=(*CHARGED, *BODY, *SUBMISSION, *ALWAYS),
        rated=True,
    ),
)
async def probe(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """Check a clip without starting a job.

    Takes the same body as a job. The answer has the facts of the clip, or the error that a job
    would get.
    """
    grant = await charge(request, service.database)
    owner = str(grant.token_id)
    body = await parsing.read_body(request, JobRequest)
    form, result = body.wanted()
    source = await locate(body.video, service.objects, service.outbound, owner)
    await _check_webhook(service, body, owner)
    clip = await service.prober.probe_now(source, form, result.options.kind, owner)
    if clip is None:
        raise UrlUnreachable(
            f"The origin did not give enough of the clip within {BUDGET_S:.0f} s to tell what it"
            " is; a job would be accepted and told later.",
            param="video",
            limit=BUDGET_S,
        )
    body.check_on(clip)
    return json_answer({"request_id": id_of(request), "result": clip})


@route(
    "/v2/status/{request_id:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD, HttpMethod.DELETE],
    status_code=200,
    opt={
        "GET": documented(
            "jobs",
            "The job is known; it may have failed.",
            JobStatus,
            refused=READ,
            operation_id="read_status",
            summary="Read the status of a job",
        )["doc"],
        "DELETE": documented(
            "jobs",
            "The status of the job.",
            JobStatus,
            refused=READ,
            operation_id="cancel",
            summary="Cancel a job",
            description="The job's status becomes ERROR with code 410 and reason cancelled. A job"
            " that has ended stays as it is.",
        )["doc"],
    },
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
    return json_answer(wire_format.status_body(record, service.objects.link))


async def check_id(service: Service, token: bytes, job: str, param: str = "request_id") -> None:
    """Refuse an invalid job id, after the token has been checked."""
    if not _REQUEST_ID.fullmatch(job):
        await admission.check_token(service.database, token)
        raise RequestUnknown("No request of this token has such an id.", param=param)


async def job_of(
    request: ApiRequest,
    service: Service,
    job: str,
    act: Callable[[Database, bytes, str], Awaitable[Record]] = records.read,
) -> Record:
    """The token's job of this id, once ``act`` is done; it counts as a read.

    Raises RequestUnknown.
    """
    token = read_token(request)
    service.reads.take(token)
    await check_id(service, token, job)
    return await act(service.database, token, job)
