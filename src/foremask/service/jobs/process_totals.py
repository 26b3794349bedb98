"""Sums the counters of all processes, and reads the gauges of queues and live processes."""

import asyncio
import uuid
from dataclasses import dataclass, field

import structlog

from foremask.errors import ServiceUnavailable
from foremask.service.jobs.database import Database, json_value
from foremask.service.observability import metrics
from foremask.service.observability.metrics import Series

REPORT_EVERY_S = 5.0
ALIVE_FOR_S = 20.0  # after a process's last report; schema.sql has the same 20 s
LAST_REPORT_S = 1.0  # timeout of the last report, which a process sends when it stops

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Fleet:
    workers: int = 1  # live worker processes
    index: int = 0  # the index of this process among the live workers


@dataclass(slots=True)
class CountReporter:
    kind: str
    slots: int  # segments that this process can mask at once
    sandbox: str
    process_id: uuid.UUID = field(default_factory=uuid.uuid4)
    _number: int = 0
    _reported: dict[Series, float] = field(default_factory=dict)

    async def report(self, database: Database, fleet: Fleet | None = None) -> None:
        """Add the counts since the last successful report to the database; update ``fleet``."""
        counted = metrics.counted()
        fresh = {
            series: value - self._reported.get(series, 0.0)
            for series, value in counted.items()
            if value > self._reported.get(series, 0.0)
        }
        self._number += 1
        row = await database.row_of(
            "report_process",
            *(self.process_id, self.kind, self.slots, self.sandbox, self._number),
            [name for name, _ in fresh],
            [json_value(dict(labels)) for _, labels in fresh],
            list(fresh.values()),
        )
        self._reported = counted
        if fleet is not None and row is not None:
            fleet.workers = max(1, row["workers"])
            fleet.index = row["place"]


async def keep_reporting(
    database: Database, reporter: CountReporter, fleet: Fleet | None = None
) -> None:
    try:
        while True:
            try:
                await reporter.report(database, fleet)
            except ServiceUnavailable as error:
                log.warning("counts.unavailable", details=error.details)
            await asyncio.sleep(REPORT_EVERY_S)
    finally:
        try:
            async with asyncio.timeout(LAST_REPORT_S):
                await reporter.report(database)
        except (ServiceUnavailable, TimeoutError):
            log.warning("counts.lost")


async def totals(database: Database) -> dict[Series, float]:
    rows = await database.all("select sample, labels, value from counts")
    return {(row["sample"], tuple(sorted(row["labels"].items()))): row["value"] for row in rows}


type Now = dict[tuple[str, tuple[str, ...]], float]  # a gauge's value, by its name and label values


async def now(database: Database) -> Now:
    rows = await database.all(
        """with waiting as (
               select queue_of(stage) as queue, count(*) as n,
                   extract(epoch from clock() - min(touched_at)) as wait_s
               from steps where status = 'todo' group by 1
               union all
               select 'webhooks', count(*), greatest(0, extract(epoch from clock() - min(next_at)))
               from deliveries where status = 'pending' and next_at <= clock()),
           alive as (select * from processes where seen_at > clock() - make_interval(secs => %s))
           select 'foremask_jobs' as metric, array['queued'] as labels, count(*)::float8 as value
           from jobs where status = 'queued'
           union all select 'foremask_jobs', array['running'], count(*)
           from jobs where status = 'running'
           union all select 'foremask_queue_depth', array[queue], coalesce(n, 0)
           from queues left join waiting using (queue)
           union all select 'foremask_queue_oldest_wait_seconds', array[queue], coalesce(wait_s, 0)
           from queues left join waiting using (queue)
           union all select 'foremask_processes', array[kind, sandbox], count(*)
           from alive group by kind, sandbox
           union all select 'foremask_mask_slots', '{}', coalesce(sum(slots), 0) from alive
           union all select 'foremask_stored_bytes', '{}', coalesce(sum(stored), 0) from tokens""",
        (ALIVE_FOR_S,),
    )
    return {(row["metric"], tuple(row["labels"])): row["value"] for row in rows}
