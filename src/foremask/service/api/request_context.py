"""What all handlers share: the service's parts, and JSON answers."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import Receive

from foremask.errors import JobCancelled
from foremask.fetch.client import Outbound
from foremask.options import Limits
from foremask.service.api.previewing import Previewer
from foremask.service.api.probing import Prober
from foremask.service.api.read_limit import Throttle
from foremask.service.jobs import stored
from foremask.service.jobs.database import Database
from foremask.service.jobs.ends import Ends
from foremask.service.storage.objects import Objects
from foremask.settings import Settings

READS_PER_SECOND = 2000  # for each token and process; what one API process can answer
READS_BURST = 4000
REQUEST_ID = "foremask.request_id"
OWNER = "owner"
GRANT = "grant"
"""Keys of the scope's state: the request's id; its token, and what is left of that token's rate.

The latter two are there once each has been checked.
"""

UNKNOWN_FIELDS = "unknown_fields"
"""The key there of the names in the body that mean nothing here."""

CLIP = "clip"
"""The key there of a clip that came with the request, once it is stored."""


@dataclass(slots=True)
class Service:
    """The parts that handlers use; one for each process."""

    settings: Settings
    database: Database
    objects: Objects
    outbound: Outbound
    prober: Prober
    limits: Limits
    previewer: Previewer
    sandbox: str = "none"
    reads: Throttle = field(default_factory=lambda: Throttle(READS_PER_SECOND, READS_BURST))
    ends: Ends = field(init=False)

    def __post_init__(self) -> None:
        self.ends = Ends(self.database)

    @property
    def storage_limit(self) -> int:
        return stored.limit_of_token(self.settings.storage_per_token, self.objects.disk())


class ApiRequest(Request[Any, Any, State]):
    """A request, with the service's parts and its own id."""

    @property
    def service(self) -> Service:
        parts: Service = self.app.state.service
        return parts

    @property
    def id(self) -> str:
        """As in its answer and in the log."""
        own: str = self.scope["state"][REQUEST_ID]
        return own


def json_answer(content: object, status_code: int = 200) -> ASGIResponse:
    """A JSON answer that caches must not store."""
    return ASGIResponse(
        body=msgspec.json.encode(content),
        status_code=status_code,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )


async def while_heard[T](receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; once the caller has hung up, it is cancelled, with JobCancelled."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        was_cancelled = working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})
    if was_cancelled:
        raise JobCancelled("The caller has hung up.")
    return working.result()


async def _gone(receive: Receive) -> None:
    """Wait until the caller has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
