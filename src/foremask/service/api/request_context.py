"""What all handlers share: the service's parts, and JSON answers."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import HttpMethod, Request, route
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

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

ApiRequest = Request[Any, Any, State]

REQUEST_ID = "foremask.request_id"
"""The key in the ASGI scope under which `RequestMiddleware` keeps the id of this very request."""

OWNER = "owner"
"""The key in the scope's state of whose request it is, once that has been checked."""

GRANT = "grant"
"""The key there of what the token may still do, once its rate has been charged."""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that handlers use; one for each process."""

    settings: Settings
    database: Database
    ends: Ends
    objects: Objects
    outbound: Outbound
    prober: Prober
    limits: Limits
    reads: Throttle
    stopping: asyncio.Event
    sandbox: str
    previewer: Previewer | None = None

    @property
    def storage_limit(self) -> int:
        return stored.limit_of_token(self.settings.storage_per_token, self.objects.disk())


ServiceDependency = NamedDependency[SkipValidation[Service]]
"""The service, as a handler's parameter."""


def readable(*paths: str, opt: dict[str, Any] | None = None) -> route:
    """A route for GET and HEAD."""
    methods = [HttpMethod.GET, HttpMethod.HEAD]
    return route(list(paths), http_method=methods, status_code=200, opt=opt)


def json_answer(content: object, status_code: int = 200) -> ASGIResponse:
    """A JSON answer that caches must not store."""
    return ASGIResponse(
        body=msgspec.json.encode(content),
        status_code=status_code,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """A streamed answer of known length; ``blocks`` is None for HEAD."""

    status_code: int
    headers: dict[str, str]
    blocks: AsyncGenerator[bytes] | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then the blocks, until the caller hangs up.

        An error half-way breaks the connection.
        """
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            was_sent = not sending.cancel()
            leaving.cancel()
            await asyncio.wait({sending, leaving})
        if was_sent:
            sending.result()

    async def _send(self, send: Send) -> None:
        head = [
            (name.lower().encode(), text.encode("latin-1")) for name, text in self.headers.items()
        ]
        await send({"type": "http.response.start", "status": self.status_code, "headers": head})
        if self.blocks is not None:
            async with aclosing(self.blocks):
                async for block in self.blocks:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


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
