"""Health, readiness and metrics, for the operator."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

from litestar.response.base import ASGIResponse
from msgspec import Struct

from foremask.errors import ServiceUnavailable
from foremask.service.api import prometheus_page
from foremask.service.api.endpoints import ALWAYS, Operation
from foremask.service.api.request_context import ApiRequest, json_answer
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


@Operation("operations", "The process answers.", Health, needs_token=False).reads("/healthz")
async def healthz() -> ASGIResponse:
    """Check that the process answers."""
    return json_answer(Health())


@Operation(
    "operations",
    "The service is ready.",
    Readiness,
    others={503: ("The service is not ready; the checks say why.", Readiness)},
    needs_token=False,
).reads("/readyz")
async def readyz(request: ApiRequest) -> ASGIResponse:
    """Check that the service can accept a job: database, tables and object store."""
    service = request.service
    database, objects = await asyncio.gather(
        _outcome(check_schema(service.database)), _outcome(service.objects.check())
    )
    checks = {"database": database, "objects": objects}
    if service.ends.is_stopping:
        checks["process"] = "is stopping"
    ready = set(checks.values()) == {OK}
    readiness = Readiness("ready" if ready else "unready", checks, service.sandbox)
    return json_answer(readiness, 200 if ready else 503)


async def _outcome(check: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(ASK_S):
            await check
    except ServiceUnavailable as error:
        return error.details
    except TimeoutError:
        return f"does not answer within {ASK_S:.0f} s"
    return OK


@Operation(
    "operations",
    "As text.",
    {"text/plain": {"schema": {"type": "string"}}},
    ALWAYS,
    needs_token=False,
).reads("/metrics")
async def metrics(request: ApiRequest) -> ASGIResponse:
    """Read the metrics for Prometheus, those of all processes; also without a database."""
    service = request.service
    text, media_type = await prometheus_page.page(service.database, service.objects)
    return ASGIResponse(body=text, media_type=media_type, headers={"Cache-Control": "no-store"})
