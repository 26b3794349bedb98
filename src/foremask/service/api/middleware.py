"""The outermost layer: gives each request its id, and measures and logs its answer."""

import json
import math
import re
import time
import uuid

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from foremask.service.api.request_context import GRANT, REQUEST_ID, UNKNOWN_FIELDS
from foremask.service.jobs.admission import Grant
from foremask.service.observability.metrics import answered

log = structlog.get_logger("foremask.http")

_SLASHES = re.compile(r"//+")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class RequestMiddleware:
    """Wraps the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        scope["path"] = _SLASHES.sub("/", scope["path"])  # of a base URL that ends in one
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})[REQUEST_ID] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    *_HEADERS,
                    *_rate_headers(scope["state"].get(GRANT)),
                    *_unknown_fields(scope["state"].get(UNKNOWN_FIELDS)),
                ]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            route = scope.get("path_template") or "unknown"
            answered(scope["method"], route, status, seconds)
            log.debug(
                "http.request",
                method=scope["method"],
                path=scope["path"],  # never the query: it may hold a signature
                status=status,
                seconds=round(seconds, 4),
            )
            structlog.contextvars.unbind_contextvars("request_id")


def _unknown_fields(names: list[str] | None) -> list[tuple[bytes, bytes]]:
    """The fields of the body that were ignored, as a list of strings (RFC 8941)."""
    if not names:
        return []
    return [(b"unknown-fields", ", ".join(map(json.dumps, names)).encode())]


def _rate_headers(grant: Grant | None) -> list[tuple[bytes, bytes]]:
    if grant is None:
        return []
    return [
        (b"ratelimit-limit", b"%d" % grant.allowed),
        (b"ratelimit-remaining", b"%d" % grant.remaining),
        (b"ratelimit-reset", b"%d" % math.ceil(grant.reset_s)),
    ]
