"""Builds the ASGI application, turns errors into HTTP responses, and runs the server."""

import asyncio
import json
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus
from types import FrameType
from typing import Any

import msgspec
import structlog
import uvicorn
import uvloop
from litestar import Litestar, Response
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from foremask import errors
from foremask.fetch.client import Outbound
from foremask.machine import process_setup
from foremask.machine.hardware import share_of_memory
from foremask.service.api import (
    file_routes,
    job_routes,
    operator_routes,
    pages,
    status_routes,
    stream_routes,
)
from foremask.service.api.connection import Connection, Gate
from foremask.service.api.context import FACTS, ApiRequest, RequestFacts, Service, answer_of
from foremask.service.api.openapi import Operation, build
from foremask.service.api.probing import PROBES_AT_ONCE, Previewer, Prober
from foremask.service.api.stream_connection import StreamConnection
from foremask.service.api.streams import MAX_MESSAGE_BYTES, Streams
from foremask.service.api.unsettled import keep_settling
from foremask.service.jobs.admission import limit_of_token
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import CountReporter, keep_reporting
from foremask.service.jobs.schema import check_schema
from foremask.service.observability import metrics
from foremask.service.observability.metrics import answered, refused
from foremask.service.sandbox.pool import STREAM_NICENESS, MediaPool
from foremask.service.storage.objects import open_objects
from foremask.settings import Settings
from foremask.weights.catalogue import files_of, model_named, model_path

log = structlog.get_logger(__name__)

OWN_FILES = 256  # file descriptors for other uses than client connections
IDLE_S = 65.0  # nginx closes an idle connection after 60 s, and must do so first
STOP_S = 10  # lets a running probe end, which takes up to 8 s
DATABASE_CALL_S = 4.0
TRIM_EVERY_S = 10.0  # a trim takes a millisecond for each MiB that it returns
STREAM_STALL_S = 30.0  # the start of the network takes seconds, and a frame a fraction of one

_SLASHES = re.compile(r"//+")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class RequestMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            stream_routes.hide_token(scope)
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        scope["path"] = _SLASHES.sub("/", scope["path"])  # some clients send //v2/status/...
        facts = RequestFacts(str(uuid.uuid4()))
        scope.setdefault("state", {})[FACTS] = facts
        structlog.contextvars.bind_contextvars(request_id=facts.id)
        started = time.perf_counter()
        status = 500
        is_begun = False

        async def answer(message: Message) -> None:
            nonlocal status, is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", facts.id.encode()), *_HEADERS]
                if (grant := facts.grant) is not None:
                    headers += [
                        (b"ratelimit-limit", b"%d" % grant.allowed),
                        (b"ratelimit-remaining", b"%d" % grant.remaining),
                        (b"ratelimit-reset", b"%d" % math.ceil(grant.reset_s)),
                    ]
                if facts.unknown_fields:  # the syntax is a list of strings in RFC 8941
                    names = ", ".join(map(json.dumps, facts.unknown_fields))
                    headers.append((b"unknown-fields", names.encode()))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:  # the process stops, and the request took too long
            if is_begun:
                raise
            await _answer_stopped(facts.id, answer)
        finally:
            seconds = time.perf_counter() - started
            route = scope.get("path_template") or "unknown"
            answered(scope["method"], route, status, seconds)
            log.debug(
                "http.request",
                method=scope["method"],
                path=scope["path"],  # without the query string, which may contain a signature
                status=status,
                seconds=round(seconds, 4),
            )
            structlog.contextvars.unbind_contextvars("request_id")


async def _answer_stopped(request_id: str, send: Send) -> None:
    error = errors.ServiceUnavailable("The service is stopping; send the same request again.")
    headers, body = answer_of(error, request_id)
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    lines = [(name.lower().encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": lines})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@Operation(
    "operations",
    "The OpenAPI document.",
    {"application/json": {"schema": {"type": "object"}}},
    needs_token=False,
).at("GET", "/openapi.json")
async def openapi(request: ApiRequest) -> ASGIResponse:
    """Get this OpenAPI document, which the page /reference shows in a readable form."""
    return _document().answer(request)


@cache
def _document() -> pages.Page:
    return pages.page_of(msgspec.json.encode(build(HANDLERS)), ".json")


HANDLERS = (
    *(
        handler
        for routes in (job_routes, status_routes, file_routes, operator_routes, pages)
        for handler in vars(routes).values()
        if isinstance(handler, HTTPRouteHandler)
    ),
    openapi,
)


def problem(request: ApiRequest, error: errors.ForemaskError) -> Response[bytes]:
    headers, body = answer_of(error, request.id)
    if isinstance(error, errors.PathUnknown) and "text/html" in request.headers.get("accept", ""):
        page = pages.read_folder(pages.STATIC)["missing.html"]
        headers = {"Content-Type": page.media_type, "Content-Security-Policy": page.policy}
        body = page.content
    return Response(body, status_code=error.status, headers=headers)


def on_foremask_error(request: ApiRequest, error: errors.ForemaskError) -> Response[bytes]:
    refused(error.reason)
    if isinstance(error, errors.ServiceUnavailable):  # another service failed: log no traceback
        log.warning("http.unavailable", details=error.details)
    elif error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.Busy):
        log.error("http.failed", reason=error.reason, exc_info=error)
    return problem(request, error)


_INSTEAD = "POST /v2/video/segment/foreground_mask masks what `hints` point at"
# Bria's MCP server calls these endpoints of Bria's API, which foremask does not have.
_HOSTED_ONLY = {
    "/v2/video/edit/increase_resolution": f"foremask does not enlarge videos: {_INSTEAD}",
    "/v2/video/edit/erase": f"foremask does not erase things: {_INSTEAD}",
}


def on_framework(request: ApiRequest, error: HTTPException) -> Response[bytes]:
    if error.status_code == HTTPStatus.NOT_FOUND:
        lead = _HOSTED_ONLY.get(request.scope["path"], "There is no such path")
        details = f"{lead}; /reference lists those that there are."
        return problem(request, errors.PathUnknown(details))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("allow", "")
        method = request.scope["method"]
        wrong = errors.MethodNotAllowed(f"This path does not take {method[:16]}; it takes {allow}.")
        wrong.allow = allow
        return problem(request, wrong)
    if isinstance(error, InternalServerException):  # raised when the client disconnects
        return problem(request, errors.BadJson("The connection broke off inside the body."))
    return on_crash(request, error)


def on_crash(request: ApiRequest, error: Exception) -> Response[bytes]:
    log.error("http.crashed", request_id=request.id, exc_info=error)
    details = f"Something went wrong here; when you report it, quote request {request.id}."
    return problem(request, errors.Internal(details))


def create_app(service: Service) -> ASGIApp:
    """Return the ASGI application. The database and the pools of ``service`` must be open."""
    error_handlers: dict[int | type[Exception], Callable[..., Any]] = {
        errors.ForemaskError: on_foremask_error,
        HTTPException: on_framework,
        Exception: on_crash,
    }
    app = Litestar(
        route_handlers=[*HANDLERS, stream_routes.stream],
        request_class=ApiRequest,
        state=State({"service": service}, deep_copy=False),
        exception_handlers=error_handlers,
        openapi_config=None,
        request_max_body_size=None,  # calls.py limits the size of bodies
        debug=False,
        logging_config=None,
    )
    return RequestMiddleware(app)


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    process_setup.give_memory_back()
    uvloop.run(_serve(settings))


async def keep_trimming() -> None:
    """Return memory of clients that are gone. Runs until cancelled."""
    while True:
        await asyncio.sleep(TRIM_EVERY_S)
        process_setup.trim_memory()


async def _serve(settings: Settings) -> None:
    async with open_service(settings) as service:
        log.info("api.started", sandbox=service.sandbox, at=settings.base_url)
        reporter = CountReporter("api", 0, service.sandbox, service.process_id)
        background = {
            asyncio.create_task(keep_reporting(service.database, reporter)),
            asyncio.create_task(keep_settling(service)),
            asyncio.create_task(keep_trimming()),
        }
        try:
            await Server(create_app(service), settings, service.ends.stop).serve()
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    if settings.database_url is None:
        raise errors.SettingsInvalid(
            "The API needs the URL of a database.", param="FOREMASK_DATABASE_URL"
        )
    model = settings.model_file
    if model is None:
        model = settings.model_dir / model_named(settings.network, settings.model_dir).file_name
    preview_bytes = settings.job_memory or share_of_memory(1)
    async with (
        Database(settings.database_url, connections=16, call_s=DATABASE_CALL_S) as database,
        Outbound(
            allow_private=settings.allow_private, on_wait=metrics.HELD_BACK.labels("resolver").inc
        ) as outbound,
        MediaPool(
            settings.data_dir / "scratch" / "api",
            slots=PROBES_AT_ONCE,
            sandbox=settings.sandbox,
            spares=True,  # each token needs a child of its own, and a start is slow
        ) as pool,
        MediaPool(
            settings.data_dir / "scratch" / "api-preview",
            sandbox=settings.sandbox,
            readable=files_of(model),
            memory_bytes=preview_bytes,
        ) as preview_pool,
        MediaPool(
            settings.data_dir / "scratch" / "api-stream",
            slots=settings.streams,
            sandbox=settings.sandbox,
            readable=files_of(model),
            memory_bytes=preview_bytes,
            stall_s=STREAM_STALL_S,
            spares=True,
            niceness=STREAM_NICENESS,
        ) as stream_pool,
    ):
        if await database.answers():  # otherwise start anyway: /readyz reports the failure
            await check_schema(database)
        objects = await open_objects(settings.store_url, settings.base_url)
        limits = settings.limits(settings.job_memory or share_of_memory(settings.workers))
        find_model = partial(model_path, settings.model_dir, settings.model_file, settings.network)
        yield Service(
            settings,
            database,
            objects,
            outbound,
            Prober(outbound, objects, pool, limits),
            limits,
            Previewer(preview_pool, find_model, preview_bytes),
            Streams(stream_pool, database, find_model, settings, preview_bytes),
            str(pool.level),
            limit_of_token(settings.storage_per_token, objects.disk()),
        )


class Server(uvicorn.Server):
    def __init__(self, app: ASGIApp, settings: Settings, on_stop: Callable[[], None]) -> None:
        open_files = process_setup.raise_open_files()
        backlog = min(2048, open_files // 8)
        # The event loop may accept ``backlog`` more connections before uvicorn counts them.
        limit = max(1, min(settings.connections, open_files - OWN_FILES - backlog))
        if limit < settings.connections:
            log.warning("api.few_files", open_files=open_files, connections=limit)
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Connection, Gate(limit, IDLE_S, min(limit, backlog))),  # type: ignore[arg-type]
                host=settings.host,
                port=settings.port,
                ws=StreamConnection,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # JPEGs are small already, and bombs would be large
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=STOP_S,
                backlog=backlog,
            )
        )
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)
