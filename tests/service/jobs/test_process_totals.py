import asyncio

from prometheus_client import generate_latest

from foremask.service.api import operator_routes
from foremask.service.jobs import process_totals
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import CountReporter, keep_reporting
from foremask.service.observability import metrics
from tests.support.patience import until

RESCUES = ("foremask_rescues_total", ())
SHOWN = ("foremask_processes", ("api", "none"))


async def test_two_processes_are_one_sum(database: Database) -> None:
    one, two = (CountReporter("worker", 2, "seccomp") for _ in range(2))
    await one.report(database)
    await two.report(database)
    before = (await process_totals.totals(database)).get(RESCUES, 0.0)
    metrics.RESCUES.inc(3)
    for reporter in (one, two, one):
        await reporter.report(database)
    assert (await process_totals.totals(database))[RESCUES] == before + 6
    now = await process_totals.now(database)
    assert now["foremask_processes", ("worker", "seccomp")] == 2
    assert now["foremask_mask_slots", ()] == 4


async def test_a_report_that_arrives_twice_counts_once(database: Database) -> None:
    call = "select report_process(%s, 'worker', 1, 'none', %s, %s, %s::jsonb[], %s::float8[])"
    process = "6f1e1d0c-0000-4000-8000-000000000001"
    for number in (1, 1, 2, 1):
        await database.all(call, (process, number, ["twice_total"], ["{}"], [5.0]))
    assert (await process_totals.totals(database))[("twice_total", ())] == 10


async def test_a_process_that_stops_tells_its_last(database: Database) -> None:
    reporting = asyncio.create_task(keep_reporting(database, CountReporter("api", 0, "none")))
    await until(lambda: process_totals.now(database), lambda now: SHOWN in now)
    before = (await process_totals.totals(database))[RESCUES]
    metrics.RESCUES.inc()
    reporting.cancel()
    await asyncio.wait({reporting})
    assert (await process_totals.totals(database))[RESCUES] == before + 1
    await database.all("update processes set seen_at = now() - interval '21 s'")
    assert SHOWN not in await process_totals.now(database)


async def test_the_page_shows_the_sums_in_order(database: Database) -> None:
    await CountReporter("worker", 1, "none").report(database)
    await database.all("insert into counts values ('foremask_of_another_version_total', '{}', 7)")
    totals, now = await process_totals.totals(database), await process_totals.now(database)
    text = generate_latest(operator_routes.OfAllProcesses(totals, now)).decode()
    buckets = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("foremask_job_wait_seconds_bucket")
    ]
    assert len(buckets) == 15
    assert buckets == sorted(buckets)
    assert 'foremask_webhook_attempts_total{outcome="given_up"} 0.0' in text
    assert "another_version" not in text
    assert 'foremask_queue_depth{queue="masks"} 0.0' in text
