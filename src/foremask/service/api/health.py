"""For whoever runs the service: is it alive, can it work, what does it count."""

import asyncio

from litestar.response.base import ASGIResponse

from foremask.errors import ServiceUnavailable
from foremask.service.api import prometheus_page
from foremask.service.api.request_context import Service, ServiceDependency, json_answer, readable
from foremask.service.jobs.schema import check_schema

ASK_S = 2.0  # a balancer that asks every few seconds wants to know by then
OK = "ok"


@readable("/healthz")
async def healthz() -> ASGIResponse:
    """This process answers; it says nothing of what lies behind it."""
    return json_answer({"status": "ok"})


@readable("/readyz")
async def readyz(service: ServiceDependency) -> ASGIResponse:
    """Whether a job sent now would be accepted.

    The database, its tables and the object store are asked.
    """
    database, objects = await asyncio.gather(_database(service), _objects(service))
    checks = {"database": database, "objects": objects}
    if service.stopping.is_set():
        checks["process"] = "is stopping"
    ready = set(checks.values()) == {OK}
    return json_answer(
        {
            "status": "ready" if ready else "unready",
            "checks": checks,
            "sandbox": service.sandbox,
        },
        200 if ready else 503,
    )


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


@readable("/metrics")
async def metrics_page(service: ServiceDependency) -> ASGIResponse:
    """What this process and all of them together have counted, for Prometheus.

    Also without a database.
    """
    text, media_type = await prometheus_page.page(service.database, service.objects)
    return ASGIResponse(body=text, media_type=media_type, headers={"Cache-Control": "no-store"})
