"""The ASGI application: finds the handler of a request, and turns errors into HTTP responses.

Starlette finds the path; each path then finds the handler of its method.
"""

import asyncio
import json
import math
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from http import HTTPStatus

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from foremask import errors
from foremask.service.api import pages, stream_routes
from foremask.service.api.context import (
    FACTS,
    SERVICE,
    ApiRequest,
    RequestFacts,
    Service,
    answer_of,
)
from foremask.service.api.openapi import Handler, path_format
from foremask.service.observability.metrics import answered, refused

log = structlog.get_logger(__name__)

_SLASHES = re.compile(r"//+")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_INSTEAD = "POST /v2/video/segment/foreground_mask masks what `hints` point at"
# Bria's MCP server calls these endpoints of Bria's API, which foremask does not have.
_HOSTED_ONLY = {
    "/v2/video/edit/increase_resolution": f"foremask does not enlarge videos: {_INSTEAD}",
    "/v2/video/edit/erase": f"foremask does not erase things: {_INSTEAD}",
}


class Api:
    """Answers every request and every WebSocket of the service."""

    def __init__(self, service: Service, handlers: Iterable[Handler]) -> None:
        self._service = service
        self._router = Router(
            [
                *(Route(path, endpoint) for path, endpoint in endpoints_of(handlers).items()),
                WebSocketRoute("/", stream_routes.stream),
            ],
            redirect_slashes=False,
            default=_answer_unknown_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[SERVICE] = self._service
        match scope["type"]:
            case "http":
                await self._answer_request(scope, receive, send)
            case "websocket":
                stream_routes.hide_token(scope)
                await self._router(scope, receive, send)
            case _:  # the start and the end of the server
                await self._router(scope, receive, send)

    async def _answer_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _SLASHES.sub("/", scope["path"])  # some clients send //v2/status/...
        scope["path"] = path.rstrip("/") or "/"
        facts = RequestFacts(str(uuid.uuid4()))
        scope["state"][FACTS] = facts
        structlog.contextvars.bind_contextvars(request_id=facts.id)
        started = time.perf_counter()
        status = 500
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                status = message["status"]
                message["headers"] = [*message["headers"], *_common_headers(facts)]
            await send(message)

        try:
            await self._router(scope, receive, send_with_headers)
        except (Exception, asyncio.CancelledError) as error:
            if has_begun:
                raise
            answer = _answer_to(error, ApiRequest(scope, receive))
            await answer(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            answered(scope["method"], facts.route, status, seconds)
            log.debug(
                "http.request",
                method=scope["method"],
                path=scope["path"],  # without the query string, which may contain a signature
                status=status,
                seconds=round(seconds, 4),
            )
            structlog.contextvars.unbind_contextvars("request_id")


def _common_headers(facts: RequestFacts) -> Iterator[tuple[bytes, bytes]]:
    yield b"x-request-id", facts.id.encode()
    yield from _HEADERS
    if (grant := facts.grant) is not None:
        yield b"ratelimit-limit", b"%d" % grant.allowed
        yield b"ratelimit-remaining", b"%d" % grant.remaining
        yield b"ratelimit-reset", b"%d" % math.ceil(grant.reset_s)
    if facts.unknown_fields:  # the syntax is a list of strings in RFC 8941
        yield b"unknown-fields", ", ".join(map(json.dumps, facts.unknown_fields)).encode()


class PathEndpoint:
    """All methods at one path. OPTIONS, and the error of a wrong method, list these methods."""

    def __init__(self, route: str, methods: dict[str, Handler]) -> None:
        self.route = route
        self.methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = ApiRequest(scope, receive)
        request.facts.route = self.route
        answer = await self._answer(request)
        await answer(scope, receive, send)

    async def _answer(self, request: ApiRequest) -> ASGIApp:
        handler = self.methods.get(request.method)
        if handler is not None:
            return await handler.function(request, **request.path_params)
        allow = ", ".join(sorted([*self.methods, "OPTIONS"]))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allow})
        wrong = errors.BadRequest(
            f"This path does not take {request.method[:16]}; it takes {allow}.",
            reason="method_not_allowed",
        )
        wrong.allow = allow
        raise wrong


def endpoints_of(handlers: Iterable[Handler]) -> dict[str, PathEndpoint]:
    """Return what is at each path. A handler of GET also answers HEAD."""
    by_path: defaultdict[str, dict[str, Handler]] = defaultdict(dict)
    for handler in handlers:
        for path in handler.paths:
            by_path[path][handler.method] = handler
            if handler.method == "GET":
                by_path[path]["HEAD"] = handler
    return {path: PathEndpoint(path_format(path), methods) for path, methods in by_path.items()}


async def _answer_unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose()(scope, receive, send)
        return
    lead = _HOSTED_ONLY.get(scope["path"], "There is no such path")
    raise errors.BadRequest(
        f"{lead}; /reference lists those that there are.", reason="path_unknown"
    )


def _answer_to(error: BaseException, request: ApiRequest) -> Response:
    match error:
        case errors.ForemaskError():
            refused(error.reason)
            _log_failure(error)
            return _problem(error, request)
        case ClientDisconnect():
            broken = errors.BadJson("The connection broke off inside the body.")
            return _problem(broken, request)
        case asyncio.CancelledError():  # the process stops, and the request took too long
            stopping = errors.ServiceUnavailable(
                "The service is stopping; send the same request again."
            )
            answer = _problem(stopping, request)
            answer.headers["Connection"] = "close"
            return answer
        case _:
            log.error("http.crashed", request_id=request.id, exc_info=error)
            details = f"Something went wrong here; when you report it, quote request {request.id}."
            return _problem(errors.Internal(details), request)


def _log_failure(error: errors.ForemaskError) -> None:
    if isinstance(error, errors.ServiceUnavailable):  # another service failed: log no traceback
        log.warning("http.unavailable", details=error.details)
    elif error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.Busy):
        log.error("http.failed", reason=error.reason, exc_info=error)


def _problem(error: errors.ForemaskError, request: ApiRequest) -> Response:
    headers, body = answer_of(error, request.id)
    if error.reason == "path_unknown" and "text/html" in request.headers.get("accept", ""):
        page = pages.read_folder(pages.STATIC)["missing.html"]
        headers = {"Content-Type": page.media_type, "Content-Security-Policy": page.policy}
        body = page.content
    return Response(body, error.status, headers)
