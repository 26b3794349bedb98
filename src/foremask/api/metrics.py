"""The page on which Prometheus reads what this process, and all processes together, have counted."""

import math
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from foremask import meters
from foremask.errors import ServiceUnavailable
from foremask.jobs import counts, stored
from foremask.jobs.counts import Now
from foremask.jobs.database import Database
from foremask.meters import Series
from foremask.objects import Objects


async def page(database: Database, objects: Objects) -> tuple[bytes, str]:
    """The metrics as text, and their media type; without a database, what this process knows by itself."""
    disk = objects.disk()
    meters.DISK_FREE.set(math.nan if disk is None else disk[1])
    try:
        totals, now = await counts.totals(database), await counts.now(database)
        meters.STORED.set(await stored.total(database))
    except ServiceUnavailable:
        meters.DATABASE_UP.set(0)
        for gauge in (
            meters.JOBS,
            meters.QUEUE_DEPTH,
            meters.QUEUE_WAIT,
            meters.QUEUE_TOKENS,
            meters.PROCESSES,
        ):
            gauge.clear()
        meters.SLOTS.set(math.nan)
        meters.STORED.set(math.nan)
        return generate_latest(meters.HERE), CONTENT_TYPE_LATEST
    meters.DATABASE_UP.set(1)
    _show(now)
    return generate_latest(_Page(totals)), CONTENT_TYPE_LATEST


def _show(now: Now) -> None:
    for status, number in now.jobs.items():
        meters.JOBS.labels(status).set(number)
    for queue, (number, wait_s) in now.waiting.items():
        meters.QUEUE_DEPTH.labels(queue).set(number)
        meters.QUEUE_WAIT.labels(queue).set(wait_s)
    for queue, number in now.tokens.items():
        meters.QUEUE_TOKENS.labels(queue).set(number)
    meters.PROCESSES.clear()
    for (kind, sandbox), number in now.processes.items():
        meters.PROCESSES.labels(kind, sandbox).set(number)
    meters.SLOTS.set(now.slots)


class _Page(CollectorRegistry):
    """This process's metrics, and under the names of those that are added up, the sums."""

    def __init__(self, totals: dict[Series, float]) -> None:
        super().__init__()
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Every family once."""
        yield from meters.HERE.collect()
        for family in meters.TOGETHER.collect():
            yield self._summed(family)

    def _summed(self, family: Metric) -> Metric:
        """The family with the sums of all processes; what nobody has counted yet is 0."""
        known = {meters.series(sample): 0.0 for sample in family.samples}
        names = {family.name + ending for ending in ("_total", "_bucket", "_sum", "_count")}
        known |= {series: value for series, value in self._totals.items() if series[0] in names}
        shown = Metric(family.name, family.documentation, family.type)
        for (name, labels), value in sorted(known.items(), key=_order):
            shown.add_sample(name, dict(labels), value)
        return shown


def _order(item: tuple[Series, float]) -> tuple[object, ...]:
    """Buckets from the smallest up, as a reader wants them."""
    (name, labels), _ = item
    le = float(dict(labels).get("le", "inf"))
    return name, tuple(each for each in labels if each[0] != "le"), le
