import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import Fleet
from foremask.service.jobs.records import Status
from foremask.service.worker import queues
from foremask.service.worker.job_stages import Timing, WorkerContext
from foremask.service.worker.process import DATABASE_CONNECTIONS
from foremask.service.worker.queues import (
    LISTENERS,
    POLLS_PER_S,
    TURN_S,
    is_listener,
    poll_s,
    serve_queues,
)
from tests.service.worker.conftest import Caller
from tests.support.jobs import CountingDatabase, value
from tests.support.patience import PATIENT, until

AT_ONCE = {"files": 8, "masks": 1, "webhooks": 4}


@pytest.mark.parametrize("workers", [1, 2, 3, 50, 200])
def test_two_workers_listen_at_a_time_and_each_in_its_turn(workers: int) -> None:
    """If the same two always listened, they would get all the work."""
    turns = Counter[int]()
    for turn in range(workers):
        listening = [n for n in range(workers) if is_listener(Fleet(workers, n), turn * TURN_S)]
        assert len(listening) == min(LISTENERS, workers)
        turns.update(listening)
    assert set(turns) == set(range(workers))


@pytest.mark.parametrize(("workers", "at_most_per_s"), [(3, 4), (20, 24), (50, 24), (200, 44)])
def test_all_polls_of_a_queue_are_bounded(workers: int, at_most_per_s: float) -> None:
    intervals_s = [poll_s(Fleet(workers, n), 0.0) for n in range(workers)]
    assert max(intervals_s) <= 5.0
    assert sum(1 / each for each in intervals_s) <= at_most_per_s
    assert at_most_per_s > POLLS_PER_S or workers < 20


@pytest.fixture
async def counted(work: WorkerContext, database_url: str) -> AsyncIterator[WorkerContext]:
    url = f"{database_url}&application_name=counted"
    async with CountingDatabase(url, connections=DATABASE_CONNECTIONS, **PATIENT) as database:
        yield replace(work, database=database, timing=Timing(lease_s=2e6, renew_s=1e6))


async def test_a_worker_has_two_connections_and_a_job_takes_twenty_statements(
    counted: WorkerContext, caller: Caller, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "LISTENERS_POLL_S", 1e6)
    assert isinstance(counted.database, CountingDatabase)
    serving = asyncio.create_task(serve_queues(counted, AT_ONCE, 0.0))
    try:
        async with Database(database_url, connections=1, **PATIENT) as other:
            open_ones = "select count(*) from pg_stat_activity where application_name = 'counted'"
            queues_served = "select count(*) from procrastinate_workers"
            await until(lambda: value(other, open_ones), lambda count: count >= 2)
            await until(lambda: value(other, queues_served), lambda count: count == len(AT_ONCE))
            before, url = counted.database.asked, caller.site.clip(7)
            record = await caller.ended(await caller.submit(url))
            assert record.status is Status.COMPLETED
            assert counted.database.asked - before <= 20
            assert await value(other, open_ones) == 2
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
