"""The metrics page for Prometheus, with the counters of this process and of all."""

import math
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from foremask.errors import ServiceUnavailable
from foremask.service.jobs import process_totals, stored
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import Now
from foremask.service.observability import metrics
from foremask.service.observability.metrics import Series
from foremask.service.storage.objects import Objects


async def page(database: Database, objects: Objects) -> tuple[bytes, str]:
    """The metrics as text, and their media type; without a database those of this process only."""
    disk = objects.disk()
    metrics.DISK_FREE.set(math.nan if disk is None else disk[1])
    try:
        totals, now = await process_totals.totals(database), await process_totals.now(database)
        metrics.STORED.set(await stored.total(database))
    except ServiceUnavailable:
        metrics.DATABASE_UP.set(0)
        for gauge in (metrics.JOBS, metrics.QUEUE_DEPTH, metrics.QUEUE_WAIT, metrics.PROCESSES):
            gauge.clear()
        metrics.SLOTS.set(math.nan)
        metrics.STORED.set(math.nan)
        return generate_latest(metrics.LOCAL), CONTENT_TYPE_LATEST
    metrics.DATABASE_UP.set(1)
    _show(now)
    return generate_latest(_Page(totals)), CONTENT_TYPE_LATEST


def _show(now: Now) -> None:
    for status, number in now.jobs.items():
        metrics.JOBS.labels(status).set(number)
    for queue, (number, wait_s) in now.waiting.items():
        metrics.QUEUE_DEPTH.labels(queue).set(number)
        metrics.QUEUE_WAIT.labels(queue).set(wait_s)
    metrics.PROCESSES.clear()
    for (kind, sandbox), number in now.processes.items():
        metrics.PROCESSES.labels(kind, sandbox).set(number)
    metrics.SLOTS.set(now.slots)


class _Page(CollectorRegistry):
    """This process's metrics, with the sums of all processes where they are added up."""

    def __init__(self, totals: dict[Series, float]) -> None:
        super().__init__()
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        yield from metrics.LOCAL.collect()
        for family in metrics.SHARED.collect():
            yield self._summed(family)

    def _summed(self, family: Metric) -> Metric:
        """The family with the sums of all processes; 0 where none has counted."""
        known = {metrics.series(sample): 0.0 for sample in family.samples}
        names = {family.name + ending for ending in ("_total", "_bucket", "_sum", "_count")}
        known |= {series: value for series, value in self._totals.items() if series[0] in names}
        shown = Metric(family.name, family.documentation, family.type)
        for (name, labels), value in sorted(known.items(), key=_order):
            shown.add_sample(name, dict(labels), value)
        return shown


def _order(item: tuple[Series, float]) -> tuple[object, ...]:
    """The order of samples: buckets from the smallest up."""
    (name, labels), _ = item
    le = float(dict(labels).get("le", "inf"))
    return name, tuple(each for each in labels if each[0] != "le"), le
