import asyncio
from collections.abc import Callable

import pytest

from foremask.service.jobs import process_totals
from foremask.service.observability import metrics
from foremask.service.observability.metrics import Series
from foremask.service.worker.queues import Leases, run_step
from tests.service.worker.conftest import Caller, working
from tests.support.jobs import begun
from tests.support.patience import until_so


def sample(name: str, **labels: str) -> Series:
    return f"foremask_{name}", tuple(sorted(labels.items()))


@pytest.fixture
def risen() -> Callable[[Series], float]:
    before = metrics.counted()
    return lambda series: metrics.counted().get(series, 0.0) - before.get(series, 0.0)


async def test_a_job_is_counted_once_in_every_part(
    caller: Caller, risen: Callable[[Series], float]
) -> None:
    caller.site.statuses[:] = [500]
    async with working(caller.work):
        record = await caller.ended(
            await caller.submit(caller.site.clip(17), caller.site.url + "/hook")
        )
        completed = sample("jobs_ended_total", status="completed", reason="")
        refused = sample("webhook_attempts_total", outcome="pending")
        await until_so(lambda: risen(completed) == risen(refused) == 1)
    assert record.status.ended
    assert risen(sample("frames_masked_total", quality="balanced")) == 17
    for stage, times in (("ingest", 1), ("segment", 2), ("join", 1)):
        assert risen(sample("step_seconds_count", stage=stage, outcome="done")) == times
    assert risen(sample("job_wait_seconds_count")) == 1
    assert risen(sample("job_seconds_count", status="completed")) == 1
    assert risen(sample("rescues_total")) == 0


async def test_a_failed_job_is_counted_by_its_reason(
    caller: Caller, risen: Callable[[Series], float]
) -> None:
    caller.site.files["/page.mp4"] = b"<html>"
    failed = sample("jobs_ended_total", status="failed", reason="not_a_video")
    async with working(caller.work):
        await caller.ended(await caller.submit(caller.site.url + "/page.mp4"))
        await until_so(lambda: risen(failed) == 1)
    assert risen(sample("step_seconds_count", stage="ingest", outcome="failed")) == 1


async def test_a_lost_step_is_a_rescue_and_its_late_result_a_fenced_write(
    caller: Caller, risen: Callable[[Series], float]
) -> None:
    job = await caller.submit(caller.site.clip(3))
    await begun(caller.database, job, lease_s=0.05)
    await asyncio.sleep(0.1)
    async with working(caller.work):
        await caller.ended(job)
    assert risen(sample("rescues_total")) == 1
    assert risen(sample("fenced_writes_total")) == 0
    await caller.database.all("update jobs set status = 'running' where id = %s", (job,))
    await caller.database.all(
        "update steps set status = 'todo' where job = %s and stage = 'segment'", (job,)
    )
    step = await begun(caller.database, job, "segment", worker=caller.work.worker)
    await caller.database.all(
        "update steps set attempt = attempt + 1 where job = %s and stage = 'segment'", (job,)
    )
    await run_step(caller.work, step, Leases())
    assert risen(sample("fenced_writes_total")) == 1


async def test_waiting_work_is_a_queue_with_a_length(caller: Caller) -> None:
    before = await process_totals.now(caller.database)
    for _ in range(3):
        await caller.submit(caller.site.clip(3))
    await asyncio.sleep(0.1)
    now = await process_totals.now(caller.database)
    queued, depth = ("foremask_jobs", ("queued",)), ("foremask_queue_depth", ("files",))
    assert now[queued] == before[queued] + 3
    assert now[depth] == before[depth] + 3
    assert now["foremask_queue_oldest_wait_seconds", ("files",)] >= 0.1
