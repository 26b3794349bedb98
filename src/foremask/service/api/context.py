"""The request, the service's components and JSON responses, for all handlers."""

import asyncio
import math
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from foremask import errors
from foremask.fetch.client import Outbound
from foremask.fetch.fairness import FairSemaphore
from foremask.options import Limits
from foremask.service.api.probing import Previewer, Prober
from foremask.service.api.streams import Streams
from foremask.service.jobs import admission
from foremask.service.jobs.database import Database
from foremask.service.jobs.records import Ends
from foremask.service.jobs.tokens import Grant
from foremask.service.storage.objects import Objects
from foremask.settings import Settings

# Large bodies that are read at once, a quarter of them of one token. Each holds a part in memory.
LARGE_BODIES = 256
LARGE_BODIES_BYTES = 320 << 20
DOWNLOADS = 1000  # at once, by signed links
DOWNLOADS_PER_LINK = 16
MOST_REFUSED = 2000  # ids of refused requests, some 300 bytes each
FACTS = "foremask"  # key of `RequestFacts` in the state of the ASGI scope
SERVICE = "service"  # key of `Service` in this state


@dataclass(slots=True)
class RequestFacts:
    """Facts of one request, for its handler, the middleware and `Connection`."""

    id: str
    owner: str | None = None
    grant: Grant | None = None
    unknown_fields: list[str] = field(default_factory=list)
    clip_key: str | None = None  # storage key of the form's clip
    job: str | None = None  # the job that this request has started, or an earlier one with its key
    route: str = "unknown"  # the path's pattern, with parameter names


@dataclass(slots=True)
class Service:
    settings: Settings
    database: Database
    objects: Objects
    outbound: Outbound
    prober: Prober
    limits: Limits
    previewer: Previewer
    streams: Streams
    sandbox: str = "none"
    storage_limit: int = admission.NO_LIMIT  # in bytes, for each token
    ends: Ends = field(init=False)
    process_id: uuid.UUID = field(default_factory=uuid.uuid4)
    # Uploads whose request failed, by key, and the loop's time at which to look at them.
    unsettled: dict[str, float] = field(default_factory=dict)
    large_bodies: FairSemaphore = field(init=False)
    downloads: FairSemaphore = field(init=False)
    _refused: dict[str, str] = field(default_factory=dict)  # reasons, by request id

    def __post_init__(self) -> None:
        self.ends = Ends(self.database)
        slots = min(LARGE_BODIES, LARGE_BODIES_BYTES // self.objects.part_bytes)
        self.large_bodies = FairSemaphore(slots, slots // 4)
        self.downloads = FairSemaphore(DOWNLOADS, DOWNLOADS_PER_LINK)

    def note_refused(self, request_id: str, error: errors.ForemaskError) -> None:
        """Note a refusal for `check_not_refused`; the newest `MOST_REFUSED` are kept."""
        if len(self._refused) >= MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[request_id] = f"{error.details} [{error.reason}]"

    def check_not_refused(self, request_id: str) -> None:
        why = self._refused.get(request_id)
        if why is not None:
            details = f"This request was refused, and there is no job: {why}"
            raise errors.BadRequest(details, reason="request_refused", param="request_id")


class ApiRequest(Request):
    @property
    def service(self) -> Service:
        service: Service = self.scope["state"][SERVICE]
        return service

    @property
    def facts(self) -> RequestFacts:
        facts: RequestFacts = self.scope["state"][FACTS]
        return facts

    @property
    def id(self) -> str:
        return self.facts.id


def json_answer(content: object, status_code: int = 200) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Type": "application/json"}
    return Response(msgspec.json.encode(content), status_code, headers)


def answer_of(error: errors.ForemaskError, request_id: str) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    body: dict[str, object] = {"request_id": request_id, "error": error.facts()}
    match error:
        case errors.Busy(reason="rate_limited"):
            headers["RateLimit-Limit"] = f"{error.limit or 0:.0f}"
            headers["RateLimit-Remaining"] = "0"
            headers["RateLimit-Reset"] = str(math.ceil(error.reset_s))
        case errors.ServiceUnavailable():
            headers["Retry-After"] = "1"
        case errors.BadRequest(reason="range_invalid"):
            headers["Content-Range"] = f"bytes */{error.limit:.0f}"
        case errors.BadRequest(reason="method_not_allowed"):
            headers["Allow"] = error.allow
        case errors.RequestUnknown():
            body["status"] = "NOT_FOUND"  # Bria's API document requires it
        case _:
            pass
    if isinstance(error, errors.Busy):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return headers, msgspec.json.encode(body)


async def while_connected[T](receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``. If the client disconnects, cancel ``work`` and raise Ended."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working = asyncio.create_task(work)
    leaving = asyncio.create_task(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        was_cancelled = working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})
    if was_cancelled:
        raise errors.Ended("The caller has hung up.", reason="cancelled")
    return working.result()
