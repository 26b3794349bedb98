import asyncio
import io
import json

from foremask.service.jobs import process_totals
from foremask.service.worker.queues import Leases, do_next, run_step
from tests.service.observability.test_logs import lines
from tests.service.worker.conftest import Caller, Risen, working
from tests.support.jobs import begun
from tests.support.patience import until_so

__all__ = ["lines"]  # a fixture


async def test_a_job_is_counted_once_in_every_part_and_lines_name_it(
    caller: Caller, risen: Risen, lines: io.StringIO
) -> None:
    caller.site.statuses = [500]
    async with working(caller.work):
        job = await caller.submit(caller.site.clip(17), caller.site.hook)
        await caller.ended(job)
        failed = await caller.submit(caller.site.page())
        await caller.ended(failed)
        await until_so(lambda: risen("jobs_ended_total", status="completed", reason=""))
        await until_so(lambda: risen("jobs_ended_total", status="failed", reason="not_a_video"))
        await until_so(lambda: risen("webhook_attempts_total", outcome="pending"))
    assert risen("jobs_ended_total", status="completed", reason="") == 1
    assert risen("jobs_ended_total", status="failed", reason="not_a_video") == 1
    assert risen("step_seconds_count", stage="ingest", outcome="failed") == 1
    assert risen("webhook_attempts_total", outcome="pending") == 1
    assert risen("frames_masked_total", quality="balanced") == 17
    for stage, times in (("ingest", 1), ("segment", 2), ("join", 1)):
        assert risen("step_seconds_count", stage=stage, outcome="done") == times
    assert risen("job_wait_seconds_count") == 2
    assert risen("job_seconds_count", status="completed") == 1
    assert risen("rescues_total") == 0
    logged = {line["event"]: line for line in map(json.loads, lines.getvalue().splitlines())}
    for event, named in (("step.failed", failed), ("webhook.attempted", job)):
        assert (logged[event]["request_id"], logged[event]["attempt"]) == (named, 1)


async def test_a_late_result_of_a_lost_step_is_a_fenced_write(caller: Caller, risen: Risen) -> None:
    job = await caller.submit(caller.site.clip(3))
    await do_next(caller.work, "files", Leases())
    step = await begun(caller.database, job, "segment", lease_s=0.05)
    await asyncio.sleep(0.1)
    async with working(caller.work):
        await caller.ended(job)
    assert (risen("rescues_total"), risen("fenced_writes_total")) == (1, 0)
    await run_step(caller.work, step, Leases())
    assert risen("fenced_writes_total") == 1


async def test_waiting_work_is_a_queue_with_a_length(caller: Caller) -> None:
    before = await process_totals.now(caller.database)
    for _ in range(3):
        await caller.submit(caller.site.clip(3))
    await asyncio.sleep(0.1)
    now = await process_totals.now(caller.database)
    for gauge in (("foremask_jobs", ("queued",)), ("foremask_queue_depth", ("files",))):
        assert now[gauge] == before[gauge] + 3
    assert now["foremask_queue_oldest_wait_seconds", ("files",)] >= 0.1
