"""Starts jobs: token, Idempotency-Key, body, probe, row."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from litestar.response.base import ASGIResponse
from msgspec import Struct
from msgspec.structs import replace as changed

from foremask.errors import BackgroundInvalid, VideoInvalid
from foremask.hints.decoding import decode
from foremask.service.api import parsing
from foremask.service.api.auth import charge, find_keyed, id_of, read_token
from foremask.service.api.probing import locate
from foremask.service.api.request_context import ApiRequest, Service, json_answer
from foremask.service.jobs import admission, records, wire_format
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.records import Record
from foremask.service.jobs.step_facts import JobResult
from foremask.service.jobs.wire_format import Accepted
from foremask.service.observability.traces import first_span, span, valid_traceparent

HOLD_S = 25.0  # the vendor's SDK gives up reading after 30 s

type Prepare[B] = Callable[[B, admission.Grant], Awaitable[NewJob]]
"""Checks what a body asks for, and makes the job of it; `submit` adds what all jobs have."""


async def submit[B: Struct](
    request: ApiRequest, service: Service, kind: type[B], call: str, prepare: Prepare[B]
) -> ASGIResponse:
    """Start a job, or say exactly why not; with ``sync``, wait for its end.

    The same request again under its Idempotency-Key costs neither rate nor quota, whatever has
    become of the clip since. ``call`` is part of the body's hash.
    """
    hold_until = time.monotonic() + HOLD_S
    traceparent = valid_traceparent(request.headers.get("traceparent"))
    with first_span(id_of(request), f"POST {call.partition(' ')[0]}", traceparent) as trace:
        token, key = read_token(request), parsing.idempotency_key(request)
        keyed = None if key is None else await find_keyed(request, service.database, token, key)
        if keyed is None:
            grant = await charge(request, service.database, token)
        else:
            service.reads.take(token)
        body = await parsing.read_object(request)
        asked = decode(body, kind)
        digest = parsing.body_hash(body, call)
        if keyed is not None:
            admission.check_same_body(keyed, digest)
            made = keyed.request_id
        else:
            parsing.check_idempotency_key(request)
            job = replace(
                await prepare(asked, grant),
                request_id=id_of(request),
                idempotency_key=key,
                body_hash=digest,
                traceparent=traceparent,
            )
            trace.note(preset=job.preset.value)
            with span("admit"):
                admitted = await admission.admit(
                    service.database, job, storage_limit=service.storage_limit
                )
            made = admitted.request_id
        trace.note(job=made if made != id_of(request) else None)
    if getattr(asked, "sync", False) and (record := await _ended(service, token, made, hold_until)):
        status = wire_format.status_body(record, service.objects.link)
        return json_answer(status)
    accepted = Accepted(made, f"{service.settings.base_url}/v2/status/{made}")
    return json_answer(accepted, 202)


async def _ended(service: Service, token: bytes, job: str, hold_until: float) -> Record | None:
    """The ended job; None where that takes longer than the connection is held."""
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


async def checked_background(
    service: Service, result: JobResult, owner: str
) -> tuple[JobResult, int]:
    """``result`` with a checked background, and the bytes to fetch for it.

    Raises BackgroundInvalid, UrlRefused or Overloaded; a background that was uploaded gets its key.
    """
    if result.background_url is None:
        return result, 0
    param = "background_url"
    try:
        found = await locate(result.background_url, service.objects, service.outbound, owner, param)
    except VideoInvalid as error:
        raise BackgroundInvalid(error.details, param=param) from error
    with span("probe background"):
        size = await service.prober.probe_background(found, owner)
    result = changed(result, background_url=found.url, background_key=found.key)
    return result, 0 if found.key is not None else size or 0
