"""Health, readiness and metrics, for the operator."""

import asyncio
from typing import Literal

from litestar.response.base import ASGIResponse
from msgspec import Struct

from foremask.errors import ServiceUnavailable
from foremask.service.api import prometheus_page
from foremask.service.api.operation_docs import ALWAYS, documented
from foremask.service.api.request_context import Service, ServiceDependency, json_answer, readable
from foremask.service.jobs.schema import check_schema

ASK_S = 2.0  # a balancer that asks every few seconds wants to know by then
OK = "ok"


class Health(Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Struct):
    """Whether a job would be accepted, and what stands in the way."""

    status: Literal["ready", "unready"]
    checks: dict[str, str]
    sandbox: str


@readable(
    "/healthz", opt=documented("operations", "The process answers.", Health, needs_token=False)
)
async def healthz() -> ASGIResponse:
    """Check that the process answers.

    It says nothing of what lies behind it.
    """
    return json_answer(Health())


@readable(
    "/readyz",
    opt=documented(
        "operations",
        "The service is ready.",
        Readiness,
        others={503: ("The service is not ready; the checks say why.", Readiness)},
        needs_token=False,
    ),
)
async def readyz(service: ServiceDependency) -> ASGIResponse:
    """Check that the service can accept a job.

    The database, its tables and the object store are asked.
    """
    database, objects = await asyncio.gather(_database(service), _objects(service))
    checks = {"database": database, "objects": objects}
    if service.stopping.is_set():
        checks["process"] = "is stopping"
    ready = set(checks.values()) == {OK}
    readiness = Readiness("ready" if ready else "unready", checks, service.sandbox)
    return json_answer(readiness, 200 if ready else 503)


async def _database(service: Service) -> str:
    try:
        async with asyncio.timeout(ASK_S):
            await check_schema(service.database)
    except ServiceUnavailable as error:
        return error.details
    except TimeoutError:
        return f"does not answer within {ASK_S:.0f} s"
    return OK


async def _objects(service: Service) -> str:
    try:
        async with asyncio.timeout(ASK_S):
            await service.objects.check()
    except ServiceUnavailable as error:
        return error.details
    except TimeoutError:
        return f"does not answer within {ASK_S:.0f} s"
    return OK


@readable(
    "/metrics",
    opt=documented(
        "operations",
        "As text.",
        content={"text/plain": {"schema": {"type": "string"}}},
        refused=ALWAYS,
        needs_token=False,
        operation_id="metrics",
    ),
)
async def metrics_page(service: ServiceDependency) -> ASGIResponse:
    """Read the metrics for Prometheus.

    What this process and all of them together have counted; also without a database.
    """
    text, media_type = await prometheus_page.page(service.database, service.objects)
    return ASGIResponse(body=text, media_type=media_type, headers={"Cache-Control": "no-store"})
