"""The jobs of a token, newest first, a page at a time."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from litestar import HttpMethod, route
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from msgspec import UNSET, Meta, Struct, UnsetType

from foremask.errors import FieldInvalid, ObjectLost
from foremask.options import REENCODE_ONLY, Quality
from foremask.service.api import parsing
from foremask.service.api.auth import id_of, read_token
from foremask.service.api.bodies import FORMS, RenameRequest
from foremask.service.api.job_routes import check_id, job_of
from foremask.service.api.operation_docs import BODY, READ, documented, in_query
from foremask.service.api.request_context import (
    ApiRequest,
    ServiceDependency,
    json_answer,
    readable,
)
from foremask.service.api.uploads import file_name
from foremask.service.jobs import records, wire_format
from foremask.service.jobs.records import Record
from foremask.service.jobs.wire_format import JobStatus, RequestId
from foremask.service.storage.keys import is_kept_mask

PAGE = 20
MAX_PAGE = 100
LINK_S = 86_400


class ListedJob(JobStatus, kw_only=True):
    """A job of a list: its status without the report, and what it was asked for."""

    output_container_and_codec: Literal[FORMS]  # type: ignore[valid-type]
    created_at: datetime
    ended_at: datetime | UnsetType = UNSET
    name: (
        Annotated[str, Meta(description="The clip's file name, where it is known.")] | UnsetType
    ) = UNSET
    quality: (
        Annotated[Quality, Meta(description="Absent where only the encoding was asked for.")]
        | UnsetType
    ) = UNSET
    source_url: Annotated[str, Meta(description="The clip, while it is stored.")] | UnsetType = (
        UNSET
    )


class JobPage(Struct):
    """Some jobs, the newest first."""

    jobs: list[ListedJob]
    next: Annotated[
        str | None, Meta(description="What to send as before for the page that follows.")
    ]


class JobList(Struct):
    """The jobs of a token."""

    request_id: RequestId
    result: JobPage


@readable(
    "/v2/jobs",
    opt=documented(
        "jobs",
        "A page of jobs.",
        JobList,
        refused=(*READ, FieldInvalid),
        operation_id="list_jobs",
        parameters=(
            in_query(
                "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE}
            ),
            in_query(
                "before",
                {"type": "string", "minLength": 1},
                "The next of the page before: jobs that are older than this one.",
            ),
            in_query(
                "conversions",
                {"type": "boolean", "default": True},
                "Whether to list jobs that only encoded a mask in another preset.",
            ),
        ),
    ),
)
async def jobs(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """List the jobs of this token.

    Returns the newest jobs first, a page at a time.
    """
    token = read_token(request)
    service.reads.take(token)
    limit = _limit(request.query_params.get("limit"))
    before = request.query_params.get("before")
    if before is not None:
        await check_id(service, token, before, "before")
    found = await records.of_token(
        service.database,
        token,
        limit=limit + 1,
        before=before,
        conversions=_flag(request.query_params.get("conversions"), "conversions"),
    )
    shown = [_entry(each, service.objects.link) for each in found[:limit]]
    following = shown[-1].request_id if len(found) > limit else None
    return json_answer(JobList(id_of(request), JobPage(shown, following)))


@route(
    "/v2/jobs/{request_id:str}",
    http_method=[HttpMethod.GET, HttpMethod.HEAD, HttpMethod.POST, HttpMethod.DELETE],
    status_code=200,
    opt={
        "GET": documented(
            "jobs",
            "The job.",
            ListedJob,
            refused=READ,
            operation_id="read_job",
            summary="Read one job of the list",
            description="Returns the entry of the list, with source_url while the clip is stored."
            " Both links lead to this service and are good for a day.",
        )["doc"],
        "POST": documented(
            "jobs",
            "The job.",
            ListedJob,
            body=RenameRequest,
            refused=(*READ, *BODY, FieldInvalid),
            operation_id="rename_job",
            summary="Rename a job",
        )["doc"],
        "DELETE": documented(
            "jobs",
            "The job as it was.",
            ListedJob,
            refused=READ,
            operation_id="delete_job",
            summary="Delete a job",
            description="Its result and its record; a job under way is cancelled first. An uploaded"
            " clip goes with the uploads of its day.",
        )["doc"],
    },
)
async def job(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """Read, rename or delete one job of the list; one handler, as for its status."""
    if request.method == HttpMethod.DELETE:
        record = await job_of(request, service, request_id, records.delete)
        await service.objects.delete_under(f"results/{request_id}")
    elif request.method == HttpMethod.POST:
        await job_of(request, service, request_id)
        body = await parsing.read_body(request, RenameRequest)
        name = file_name(body.name)
        if name is None:
            raise FieldInvalid("name has no character that a file's name can have.", param="name")
        record = await job_of(request, service, request_id, partial(records.rename, name=name))
    else:
        record = await job_of(request, service, request_id)
    entry = _entry(record, service.objects.signer.link)
    if record.source_key is not None and not is_kept_mask(record.source_key):
        with suppress(ObjectLost):
            await service.objects.head(record.source_key)
            entry.source_url = service.objects.signer.link(record.source_key, LINK_S)
    return json_answer(entry)


def _entry(record: Record, link: Callable[[str, int, str], str]) -> ListedJob:
    status = wire_format.status_body(record, link, LINK_S)
    if status.result is not UNSET:
        status.result.report = UNSET
    return ListedJob(
        **msgspec.structs.asdict(status),
        output_container_and_codec=record.preset.value,
        created_at=record.created_at,
        ended_at=UNSET if record.ended_at is None else record.ended_at,
        name=UNSET if record.name is None else record.name,
        quality=UNSET if record.quality == REENCODE_ONLY else Quality(record.quality),
    )


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_PAGE:
        return int(text)
    raise FieldInvalid(
        f"limit is {text[:20]!r}; it may be from 1 to {MAX_PAGE}.", param="limit", limit=MAX_PAGE
    )


def _flag(text: str | None, name: str) -> bool:
    if text in (None, "true"):
        return True
    if text == "false":
        return False
    raise FieldInvalid(f"{name} must be true or false.", param=name)
