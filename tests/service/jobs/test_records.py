import asyncio

import pytest

from foremask.service.jobs import records, steps
from foremask.service.jobs.admission import admit, token_hash
from foremask.service.jobs.database import Database
from foremask.service.jobs.records import ASK_EVERY_S, Ends, status_body
from foremask.service.jobs.steps import Beat
from foremask.service.jobs.tokens import create_token
from tests.support.jobs import CountingDatabase, begun, new_job
from tests.support.patience import PATIENCE_S, PATIENT


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
