"""Lists the handlers, opens what they need, and runs the server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from types import FrameType

import msgspec
import structlog
import uvicorn
import uvloop
from starlette.responses import Response
from starlette.types import ASGIApp

from foremask import errors
from foremask.fetch.client import Outbound
from foremask.machine import process_setup
from foremask.machine.hardware import share_of_memory
from foremask.service.api import file_routes, job_routes, operator_routes, pages, status_routes
from foremask.service.api.connection import Connection, Gate
from foremask.service.api.context import ApiRequest, Service
from foremask.service.api.openapi import Handler, Operation, build
from foremask.service.api.probing import PROBES_AT_ONCE, Previewer, Prober
from foremask.service.api.routing import Api
from foremask.service.api.stream_connection import StreamConnection
from foremask.service.api.streams import MAX_MESSAGE_BYTES, Streams
from foremask.service.api.unsettled import keep_settling
from foremask.service.jobs.admission import limit_of_token
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import CountReporter, keep_reporting
from foremask.service.jobs.schema import check_schema
from foremask.service.observability import metrics
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


@Operation(
    "operations",
    "The OpenAPI document.",
    {"application/json": {"schema": {"type": "object"}}},
    needs_token=False,
).at("GET", "/openapi.json")
async def openapi(request: ApiRequest) -> Response:
    """Get this OpenAPI document, which the page /reference shows in a readable form."""
    return _document().answer(request)


@cache
def _document() -> pages.Page:
    return pages.page_of(msgspec.json.encode(build(HANDLERS)), ".json")


HANDLERS = (
    *(
        handler
        for routes in (job_routes, status_routes, file_routes, operator_routes)
        for handler in vars(routes).values()
        if isinstance(handler, Handler)
    ),
    pages.HANDLER,
    openapi,
)


def create_app(service: Service) -> Api:
    """Return the ASGI application. The database and the pools of ``service`` must be open."""
    return Api(service, HANDLERS)


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
