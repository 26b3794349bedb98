"""For whoever runs the service: is it alive, can it work, what does it count."""

from litestar import get
from litestar.response.base import ASGIResponse

from foremask.api import metrics
from foremask.api.answers import Parts, json_answer
from foremask.errors import ServiceUnavailable
from foremask.jobs import records


@get("/healthz")
async def healthz() -> ASGIResponse:
    """This process answers; it says nothing of what lies behind it."""
    return json_answer({"status": "ok"})


@get("/readyz")
async def readyz(service: Parts) -> ASGIResponse:
    """Whether a job sent now would be accepted: the database and the object store are asked."""
    checks = {
        "database": "ok" if await service.database.answers() else "does not answer",
        "objects": "ok",
    }
    try:
        await service.objects.check()
    except ServiceUnavailable as error:
        checks["objects"] = error.details
    if service.stopping.is_set():
        checks["process"] = "is stopping"
    ready = set(checks.values()) == {"ok"}
    return json_answer(
        {"status": "ready" if ready else "unready", "checks": checks}, 200 if ready else 503
    )


@get("/metrics")
async def metrics_page(service: Parts) -> ASGIResponse:
    """The counters of this process and the jobs on record, for Prometheus."""
    text, media_type = metrics.page(await records.counts(service.database))
    return ASGIResponse(body=text, media_type=media_type, headers={"Cache-Control": "no-store"})
