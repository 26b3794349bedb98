import asyncio

import pytest
from prometheus_client import generate_latest

from foremask.service.api import operator_routes
from foremask.service.jobs import process_totals, records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import CountReporter, keep_reporting
from foremask.service.jobs.records import ASK_EVERY_S, Ends, status_body
from foremask.service.jobs.steps import Beat, IngestDone, JobClip, StoredSegment
from foremask.service.jobs.tokens import create_token, token_hash
from foremask.service.observability import metrics
from tests.support.jobs import CountingDatabase, begun, done, new_job
from tests.support.patience import PATIENCE_S, PATIENT, until


async def admitted(database: Database) -> tuple[str, str]:
    secret, token = await create_token(database, "any")
    return secret, await admit(database, new_job(token.id))


async def test_a_job_without_progress_for_a_minute_says_so_and_goes_on(database: Database) -> None:
    _, name = await admitted(database)
    step = await begun(database, name, lease_s=1000.0)
    said = []
    for idle_s in (59.0, 75.0, 0.0):
        assert await steps.renew(database, [Beat(step, 1, idle_s)], 1000.0)
        record = await records.read_any(database, name)
        assert not record.status.ended
        said.append(status_body(record, lambda *_: "").idle_s)
    assert said == [None, pytest.approx(75, abs=5), None]


async def test_where_the_header_has_no_count_of_frames_progress_moves_by_the_duration(
    database: Database,
) -> None:
    _, name = await admitted(database)
    await done(database, name, "ingest", IngestDone(JobClip(), "sources/x", (StoredSegment(),)))
    step = await begun(database, name, "segment", 1000.0)
    clip = '{"duration_s": 2, "fps": 30}'
    await database.all("update jobs set clip = %s::jsonb where id = %s", (clip, name))
    shown = []
    for frames in (0, 30, 70):
        await steps.renew(database, [Beat(step, frames)], 1000.0)
        record = await records.read_any(database, name)
        shown.append((record.frames_done, record.frames_total, record.progress))
    assert shown == [(0, 60, 2), (30, 60, 49), (60, 60, 97)]


async def test_three_hundred_that_wait_ask_one_question_at_a_time(database_url: str) -> None:
    async with CountingDatabase(database_url, connections=4, **PATIENT) as database:
        jobs = [await admitted(database) for _ in range(3)]
        ends, before = Ends(database), database.asked
        waiting = [asyncio.create_task(ends.wait(jobs[n % 3][1], 60.0)) for n in range(300)]
        await asyncio.sleep(4 * ASK_EVERY_S)
        assert database.asked - before <= 5
        for secret, name in jobs:
            await records.cancel(database, token_hash(secret), name)
        await asyncio.gather(*waiting)
        await ends.wait(jobs[0][1], 30.0)  # it has ended already


async def test_nothing_is_asked_once_nobody_waits(database: Database) -> None:
    secret, name = await admitted(database)
    await records.cancel(database, token_hash(secret), name)
    before = asyncio.all_tasks()
    await Ends(database).wait(name, PATIENCE_S)
    _, still_asking = await asyncio.wait(asyncio.all_tasks() - before, timeout=PATIENCE_S)
    assert not still_asking


async def test_what_a_lost_attempt_says_counts_what_was_lost(database: Database) -> None:
    _, name = await admitted(database)
    for number in (1, 2, 3):
        await begun(database, name, lease_s=0.0)
        await database.all("update housekeeping set last_at = clock()")
        assert (await steps.recover(database, 1e6, 1000.0)).lost == 1
        said = (await records.history(database, name))[-1].details
        assert said is not None
        assert f"crash {number} of the 3 " in said
    error = (await records.read_any(database, name)).error
    assert error is not None
    assert (error.reason, error.details) == ("worker_crashed", said)


# Totals of all processes

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
    text = generate_latest(
        operator_routes.OursFirst(operator_routes.of_all_processes(totals, now))
    ).decode()
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
