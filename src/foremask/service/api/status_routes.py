"""Handlers that read, list, cancel, rename and delete the jobs of a token."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from foremask.errors import (
    FieldInvalid,
    ObjectLost,
    RequestUnknown,
    ServiceUnavailable,
)
from foremask.hints.decoding import decode
from foremask.options import Excerpt, Quality
from foremask.service.api.bodies import FORMS, RenameRequest
from foremask.service.api.calls import file_name, read_call, read_token
from foremask.service.api.context import ApiRequest, Service, json_answer
from foremask.service.api.openapi import Operation
from foremask.service.jobs import records
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from foremask.service.jobs.records import Answer, JobStatus, Record
from foremask.service.storage.objects import STRIP, sibling_key

PAGE = 20
MAX_PAGE = 100
LINK_S = 86_400
STORE_ANSWERS_S = 1.0  # a store that takes longer counts as not having lost the object
MAX_STRIP_BYTES = 4 << 20
STATUS_PATH = "/v2/status/{request_id:str}"
JOB_PATH = "/v2/jobs/{request_id:str}"
_REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


class Strip(Struct):
    frames: Annotated[
        list[tuple[float, float, float]],
        Meta(description="Time in seconds, coverage and change of each frame."),
    ]


class NewestMask(Struct):
    mask: Annotated[
        bytes | None, Meta(description="A grey PNG in base64; white is the foreground.")
    ]


class ListedJob(JobStatus, kw_only=True):
    output_container_and_codec: Literal[FORMS] | None = None  # type: ignore[valid-type]
    created_at: datetime
    ended_at: datetime | None = None
    name: Annotated[str, Meta(description="The clip's file name, if known.")] | None = None
    quality: Annotated[Quality, Meta(description="Absent for a conversion.")] | None = None
    network: Annotated[str, Meta(description="Absent unless the job named one.")] | None = None
    tracker: Annotated[str, Meta(description="Absent unless one followed the hints.")] | None = None
    start_s: Annotated[float, Meta(description="Absent for the clip's start.")] | None = None
    end_s: Annotated[float, Meta(description="Absent for the clip's end.")] | None = None
    source_url: (
        Annotated[str, Meta(description="A link to the clip while it is stored.")] | None
    ) = None


class JobPage(Struct):
    jobs: list[ListedJob]
    next: Annotated[
        str | None, Meta(description="Value of 'before' for the next page; null on the last page.")
    ]


class JobsQuery(Struct):
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = PAGE
    before: Annotated[str, Meta(min_length=1, description="The 'next' of a page.")] | None = None
    conversions: Annotated[
        Literal["true", "false"], Meta(description="Whether to list jobs of /convert, too.")
    ] = "true"
    key_prefix: Annotated[
        str,
        Meta(max_length=255, description="List only jobs whose Idempotency-Key begins with this."),
    ] = ""


@Operation("jobs", "The job is known; it may have failed.", JobStatus, ("request_refused",)).at(
    "GET", STATUS_PATH
)
async def read_status(request: ApiRequest, request_id: str) -> Response:
    """Read the status of a job."""
    return await _status_after(records.read, request, request_id)


@Operation("jobs", "The status of the job.", JobStatus, ("request_refused",)).at(
    "DELETE", STATUS_PATH
)
async def cancel(request: ApiRequest, request_id: str) -> Response:
    """Cancel a job.

    The job's status becomes ERROR, with code 410 and reason 'cancelled'. A job that has ended
    does not change.
    """
    return await _status_after(records.cancel, request, request_id)


async def _status_after(
    act: Callable[[Database, bytes, str], Awaitable[Record]], request: ApiRequest, job: str
) -> Response:
    service = request.service
    token = read_token(request)
    try:
        record = await act(service.database, token, _possible(job))
    except RequestUnknown:
        service.check_not_refused(job)
        raise
    if record.result_key is not None and await _is_lost(service, record.result_key):
        record = replace(record, result_key=None)
    return json_answer(records.status_body(record, service.objects.link))


async def _is_lost(service: Service, key: str) -> bool:
    """Return whether the store has lost the object, and False if the store does not respond."""
    try:
        async with asyncio.timeout(STORE_ANSWERS_S):
            await service.objects.head(key)
    except ObjectLost:
        return True
    except (ServiceUnavailable, TimeoutError):
        pass
    return False


@Operation("jobs", "A page of jobs.", Answer[JobPage], ("field_invalid",), query=JobsQuery).at(
    "GET", "/v2/jobs"
)
async def list_jobs(request: ApiRequest) -> Response:
    """List the token's jobs, newest first."""
    service = request.service
    token = read_token(request)
    query = decode(dict(request.query_params), JobsQuery, strict=False)
    found = await records.of_token(
        service.database,
        token,
        limit=query.limit + 1,
        before=query.before and _possible(query.before),
        conversions=query.conversions == "true",
        key_prefix=query.key_prefix,
    )
    shown = [_entry(each, service.objects.link) for each in found[: query.limit]]
    following = shown[-1].request_id if len(found) > query.limit else None
    return json_answer(Answer(request.id, JobPage(shown, following)))


@Operation("jobs", "The job.", ListedJob).at("GET", JOB_PATH)
async def read_job(request: ApiRequest, request_id: str) -> Response:
    """Read a job's entry in the job list.

    While the clip is stored, the response has a link to it. Links to the result and to the clip
    are valid for one day.
    """
    record = await job_of(request.service, read_token(request), request_id)
    return await _whole_entry(request.service, record)


@Operation("jobs", "The job.", ListedJob, ("field_invalid", "request_unknown"), RenameRequest).at(
    "POST", JOB_PATH
)
async def rename_job(request: ApiRequest, request_id: str) -> Response:
    """Rename a job."""
    call = await read_call(request, RenameRequest)
    service = call.service
    await job_of(service, call.token_hash, request_id)
    name = file_name(call.body.name)
    if name is None:
        raise FieldInvalid("name has no character that a file's name can have.", param="name")
    record = await records.rename(service.database, call.token_hash, request_id, name)
    return await _whole_entry(service, record)


@Operation("jobs", "The deleted job.", ListedJob).at("DELETE", JOB_PATH)
async def delete_job(request: ApiRequest, request_id: str) -> Response:
    """Delete a job.

    The result and the record are deleted. An unfinished job is cancelled first. An uploaded clip
    stays stored, and is deleted later like any upload.
    """
    service = request.service
    token = read_token(request)
    record = await records.delete(service.database, token, _possible(request_id))
    await service.objects.delete_under(f"results/{request_id}")
    return await _whole_entry(service, record)


async def _whole_entry(service: Service, record: Record) -> Response:
    entry = _entry(record, service.objects.signer.link)
    if record.source_key is not None and record.mask_key is None:
        with suppress(ObjectLost):
            await service.objects.head(record.source_key)
            entry.source_url = service.objects.signer.link(record.source_key, LINK_S)
    return json_answer(entry)


def _entry(record: Record, link: Callable[[str, int, str], str]) -> ListedJob:
    status = records.status_body(record, link, LINK_S)
    is_known = record.status is not Status.UNREADABLE
    if status.result is not None:
        status.result.report = None
    excerpt = record.spec.excerpt or Excerpt()
    return ListedJob(
        **msgspec.structs.asdict(status),
        output_container_and_codec=record.spec.form if is_known else None,
        created_at=record.created_at,
        ended_at=record.ended_at,
        name=record.name,
        quality=record.spec.quality if is_known and record.mask_key is None else None,
        network=record.spec.network,
        tracker=record.spec.tracker,
        start_s=excerpt.start_s or None,
        end_s=excerpt.end_s,
    )


@Operation("jobs", "Coverage and change by frame.", Answer[Strip]).at("GET", f"{STATUS_PATH}/strip")
async def read_strip(request: ApiRequest, request_id: str) -> Response:
    """Read the mask's coverage and change for each frame of a completed job.

    Coverage is the mean of the frame's mask. Change is the mean absolute difference between this
    mask and the previous one. Both are from 0 to 1.
    """
    service = request.service
    record = await completed(service, read_token(request), request_id)
    key = sibling_key(record.result_key or "", STRIP)
    try:
        rows = await service.objects.read(key, 0, MAX_STRIP_BYTES)
    except ObjectLost:
        raise RequestUnknown("This mask has no strip.", param="request_id") from None
    return json_answer(Answer(request_id, {"frames": msgspec.Raw(rows)}))


@Operation("jobs", "The picture, or null.", Answer[NewestMask]).at(
    "GET", f"{STATUS_PATH}/newest_mask"
)
async def read_newest_mask(request: ApiRequest, request_id: str) -> Response:
    """Get the newest mask of a running job.

    The mask is small, and its edges are not refined. It is null before the first mask and after
    the job's end. It changes about every two seconds.
    """
    service = request.service
    record = await job_of(service, read_token(request), request_id)
    png = None
    if not record.status.ended:
        png = await records.newest_mask(service.database, record.request_id)
    return json_answer(Answer(request_id, NewestMask(png)))


async def job_of(service: Service, token: bytes, job: str) -> Record:
    """Read the token's job with the id ``job``. Raises token_invalid or RequestUnknown."""
    return await records.read(service.database, token, _possible(job))


async def completed(service: Service, token: bytes, job: str) -> Record:
    """Read a completed job. Raises RequestUnknown if the job has no stored result."""
    record = await job_of(service, token, job)
    if record.result_key is None:
        raise RequestUnknown(
            "This request has no mask: it has not completed, or the mask is kept no longer.",
            param="request_id",
        )
    return record


def _possible(job: str) -> str:
    """Return ``job``, or "-" if no job can have this id. PostgreSQL would refuse a NUL in it."""
    return job if _REQUEST_ID.fullmatch(job) else "-"
