"""The jobs of a token, newest first, a page at a time."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import msgspec
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from foremask.errors import FieldInvalid, ObjectLost
from foremask.options import REENCODE_ONLY
from foremask.service.api.auth import id_of, read_token
from foremask.service.api.job_routes import check_id, job_of
from foremask.service.api.request_context import (
    ApiRequest,
    ServiceDependency,
    json_answer,
    readable,
)
from foremask.service.jobs import records, wire_format
from foremask.service.jobs.records import Record
from foremask.service.storage.keys import is_kept_mask

PAGE = 20
MAX_PAGE = 100
LINK_S = 86_400


@readable("/v2/jobs")
async def jobs(request: ApiRequest, service: ServiceDependency) -> ASGIResponse:
    """The token's own jobs; ``next`` is what to send as ``before`` for those that follow."""
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
    shown = found[:limit]
    result = {
        "jobs": [_entry(each, service.objects.link) for each in shown],
        "next": shown[-1].request_id if len(found) > limit else None,
    }
    return json_answer({"request_id": id_of(request), "result": result})


@readable("/v2/jobs/{request_id:str}")
async def job(
    request: ApiRequest, service: ServiceDependency, request_id: FromPath[str]
) -> ASGIResponse:
    """One job as the list has it; its clip and its mask by links to this very API."""
    record = await job_of(request, service, request_id)
    here = service.objects.signer.link
    entry = _entry(record, here)
    if record.source_key is not None and not is_kept_mask(record.source_key):
        with suppress(ObjectLost):
            await service.objects.head(record.source_key)
            entry["source_url"] = here(record.source_key, LINK_S)
    return json_answer(entry)


def _entry(record: Record, link_to: Callable[[str, int, str], str]) -> dict[str, object]:
    """A job's status with what a list shows besides, without its report."""
    key = record.result_key
    link = link_to(key, LINK_S, wire_format.file_name(record)) if key else None
    body = wire_format.status_body(record, link)
    if link is not None and "result" in body:
        body["result"] = wire_format.links(record, link)
    facts = {
        "name": record.name,
        "quality": None if record.quality == REENCODE_ONLY else record.quality,
        "output_container_and_codec": record.preset,
        "created_at": _moment(record.created_at),
        "ended_at": _moment(record.ended_at),
    }
    return body | {name: value for name, value in facts.items() if value is not None}


def _moment(when: datetime | None) -> str | None:
    return None if when is None else str(msgspec.to_builtins(when))


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
