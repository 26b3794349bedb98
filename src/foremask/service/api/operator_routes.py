"""Handlers of health, readiness and metrics, for the service's operator."""

import asyncio
import math
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from starlette.responses import Response

from foremask.errors import ServiceUnavailable
from foremask.service.api.context import ApiRequest, json_answer
from foremask.service.api.openapi import ALWAYS, Operation
from foremask.service.jobs import process_totals
from foremask.service.jobs.database import Database, check_writable
from foremask.service.jobs.process_totals import Now
from foremask.service.jobs.schema import check_schema
from foremask.service.observability import metrics as m
from foremask.service.observability.metrics import Series

ASK_S = 2.0  # timeout of a check; load balancers poll every few seconds
OK = "ok"


class Health(Struct):
    status: Literal["ok"] = "ok"


class Readiness(Struct):
    status: Literal["ready", "unready"]
    checks: dict[str, str]
    sandbox: str


@Operation("operations", "The process responds.", Health, needs_token=False).at("GET", "/healthz")
async def healthz(_: ApiRequest) -> Response:
    """Check that the API process responds."""
    return json_answer(Health())


@Operation(
    "operations",
    "The service is ready.",
    Readiness,
    others={503: ("The service is not ready; the checks say why.", Readiness)},
    needs_token=False,
).at("GET", "/readyz")
async def readyz(request: ApiRequest) -> Response:
    """Check that the database, its tables and the object store are ready for jobs."""
    service = request.service
    database, objects = await asyncio.gather(
        _outcome(_check_database(service.database)), _outcome(service.objects.check())
    )
    checks = {"database": database, "objects": objects}
    if service.ends.is_stopping:
        checks["process"] = "is stopping"
    ready = set(checks.values()) == {OK}
    readiness = Readiness("ready" if ready else "unready", checks, service.sandbox)
    return json_answer(readiness, 200 if ready else 503)


async def _check_database(database: Database) -> None:
    await check_schema(database)
    await check_writable(database)


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
    "The metrics as text.",
    {"text/plain": {"schema": {"type": "string"}}},
    ALWAYS,
    needs_token=False,
).at("GET", "/metrics")
async def metrics(request: ApiRequest) -> Response:
    """Read the Prometheus metrics.

    Counters are summed over all processes. If the database does not respond, only the metrics of
    this API process are returned.
    """
    service = request.service
    disk = service.objects.disk()
    m.DISK_FREE.set(math.nan if disk is None else disk[1])
    try:
        totals = await process_totals.totals(service.database)
        now = await process_totals.now(service.database)
    except ServiceUnavailable:
        m.DATABASE_UP.set(0)
        shown = m.LOCAL.collect()
    else:
        m.DATABASE_UP.set(1)
        shown = of_all_processes(totals, now)
    headers = {"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE_LATEST}
    return Response(generate_latest(OursFirst(shown)), headers=headers)


@dataclass(frozen=True, slots=True)
class OursFirst:
    """Our metrics before those of Python and of the process."""

    families: Iterable[Metric]

    def collect(self) -> list[Metric]:
        return sorted(self.families, key=lambda each: not each.name.startswith("foremask_"))


def of_all_processes(totals: dict[Series, float], now: Now) -> Iterator[Metric]:
    yield from m.LOCAL.collect()
    for name, (says, labels) in m.NOW.items():
        gauge = GaugeMetricFamily(name, says, labels=labels)
        for (of, values), number in now.items():
            if of == name:
                gauge.add_metric(values, number)
        yield gauge
    for family in m.SHARED.collect():
        yield _summed(family, totals)


def _summed(family: Metric, totals: dict[Series, float]) -> Metric:
    known = {m.series(sample): 0.0 for sample in family.samples}
    names = {family.name + ending for ending in ("_total", "_bucket", "_sum", "_count")}
    known |= {series: value for series, value in totals.items() if series[0] in names}
    shown = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in sorted(known.items(), key=_order):
        shown.add_sample(name, dict(labels), value)
    return shown


def _order(item: tuple[Series, float]) -> tuple[object, ...]:
    (name, labels), _ = item
    le = float(dict(labels).get("le", "inf"))  # a number, so that 10 comes after 9
    return name, tuple(each for each in labels if each[0] != "le"), le
