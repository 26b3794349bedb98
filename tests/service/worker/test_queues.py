from collections import Counter
from dataclasses import replace

import pytest

from foremask.options import Form, JobSpec
from foremask.service.jobs.life import Status
from foremask.service.jobs.process_totals import Fleet
from foremask.service.worker import queues
from foremask.service.worker.job_stages import Timing
from foremask.service.worker.process import DATABASE_CONNECTIONS
from foremask.service.worker.queues import LISTENERS, TURN_S, is_listener, poll_s, serve_queues
from tests.service.worker.conftest import Caller
from tests.support.jobs import CountingDatabase, value
from tests.support.patience import PATIENT, running, until, until_so

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


async def test_a_worker_has_two_connections_and_a_job_takes_twenty_statements(
    caller: Caller, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "LISTENERS_POLL_S", 1e6)
    open_ones = "select count(*) from pg_stat_activity where application_name = 'counted'"
    url = f"{database_url}&application_name=counted"
    async with CountingDatabase(url, connections=DATABASE_CONNECTIONS, **PATIENT) as counted:
        work = replace(caller.work, database=counted, timing=Timing(lease_s=2e6, renew_s=1e6))
        async with running(serve_queues(work, AT_ONCE, 0.0)):
            await until(lambda: value(caller.database, open_ones), lambda count: count >= 2)
            await until_so(lambda: counted.asked >= len(AT_ONCE))
            before = counted.asked
            record = await caller.ended(await caller.submit(caller.site.clip(7)))
            assert record.status is Status.COMPLETED
            assert counted.asked - before <= 20
            assert await value(caller.database, open_ones) == 2


async def test_a_step_that_no_notification_announced_is_found_by_looking(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "LISTENERS", 0)
    assert not is_listener(Fleet(), 0.0)
    record = await caller.served(caller.site.clip(7))
    assert record.status is Status.COMPLETED


async def test_a_slot_that_is_free_again_is_used_at_once(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second job is ready while the only slot is taken, and nothing is announced later."""
    monkeypatch.setattr(queues, "LISTENERS_POLL_S", 1e6)
    monkeypatch.setattr(queues, "TURN_S", 1e6)  # else a listener looks every few seconds
    url = caller.site.clip(5, pause_s=0.1)
    async with running(serve_queues(caller.work, AT_ONCE, 0.0)):
        jobs = [await caller.submit(url, spec=JobSpec(form=Form.GIF)) for _ in range(3)]
        for job in jobs:
            assert (await caller.ended(job)).status is Status.COMPLETED
