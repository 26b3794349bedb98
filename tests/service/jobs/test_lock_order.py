import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import psycopg
import pytest

from foremask.service.jobs import steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.steps import Beat, IngestDone, JobClip, Step, StepArgs
from foremask.service.jobs.tokens import create_token
from tests.support.jobs import begun, done, new_job
from tests.support.patience import until

SEGMENTS = 3
LEASE_S = 1e6


@pytest.fixture
async def held(database: Database) -> list[Step]:
    """The segments of two jobs, all begun; those that come first were written last."""
    _, token = await create_token(database, "a")
    found = []
    for _ in range(2):
        job = await admit(database, new_job(token.id))
        cut = IngestDone(JobClip(), "sources/x", tuple(StepArgs() for _ in range(SEGMENTS)))
        await done(database, job, "ingest", cut)
        found += [
            await begun(database, job, "segment", LEASE_S, number=number)
            for number in reversed(range(SEGMENTS))
        ]
    return sorted(found, key=lambda step: (step.job, -step.number))


@asynccontextmanager
async def while_waiting(
    database: Database, url: str, first: Step, call: Awaitable[object]
) -> AsyncIterator[psycopg.AsyncConnection]:
    """``first`` is locked, and the call waits for it during the block; then it ends."""
    async with await psycopg.AsyncConnection.connect(url) as other:
        await lock(other, first)
        calling = asyncio.ensure_future(call)
        await until(lambda: waiting(database))
        yield other
        await other.rollback()
        await calling


async def waiting(database: Database) -> object:
    return await database.one(
        "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        " and datname = current_database()"
    )


async def lock(other: psycopg.AsyncConnection, step: Step) -> None:
    await other.execute(
        "select from steps where job = %s and stage = %s and number = %s for update nowait",
        (step.job, step.stage, step.number),
    )


async def test_a_renewal_locks_in_order_however_it_is_asked(
    database: Database, database_url: str, held: list[Step]
) -> None:
    first = min(held, key=lambda step: (step.job, step.number))
    beats = [Beat(step, 1) for step in reversed(held)]
    call = steps.renew(database, beats, LEASE_S)
    async with while_waiting(database, database_url, first, call) as other:
        for step in held:
            await lock(other, step)
    assert len(await steps.renew(database, beats, LEASE_S)) == len(held)


async def test_the_end_of_a_job_locks_in_order(
    database: Database, database_url: str, held: list[Step]
) -> None:
    job = held[0].job
    of_job = [step for step in held if step.job == job]
    first = min(of_job, key=lambda step: step.number)
    call = database.all("select end_job(%s, 'cancelled', null, null, null)", (job,))
    async with while_waiting(database, database_url, first, call) as other:
        for step in of_job:
            await lock(other, step)


@pytest.mark.parametrize("away_s", [0.0, 3600.0])
async def test_a_rescue_locks_in_order(
    database: Database, database_url: str, held: list[Step], away_s: float
) -> None:
    first = min(held, key=lambda step: (step.job, step.number))
    for job, seconds in zip(sorted({step.job for step in held}), (1, 2), strict=True):
        await database.all(
            "update steps set lease_until = clock() - make_interval(secs => %s) where job = %s"
            " and status = 'running'",
            (seconds, job),
        )
    await database.all(
        "update housekeeping set last_at = clock() - make_interval(secs => %s)", (away_s,)
    )
    call = steps.recover(database, 1e6, 1000.0)
    async with while_waiting(database, database_url, first, call) as other:
        for step in held:
            await lock(other, step)


async def test_a_rescue_that_ends_a_job_locks_no_step_of_a_job_that_another_call_ends(
    database: Database, database_url: str, held: list[Step]
) -> None:
    """Both end jobs of one token: the rescue waits for it, and the other call takes its steps."""
    job = held[0].job
    await database.all(
        "update steps set lease_until = clock() - interval '1 minute', crashes = 2"
        " where status = 'running' and job = any(%s)",
        ([step.job for step in held],),
    )
    await database.all("update housekeeping set last_at = clock()")
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("select from jobs where id = %s for update", (job,))
        await other.execute("select from tokens where id = %s for update", (held[0].token,))
        rescuing = asyncio.ensure_future(steps.recover(database, 1e6, 1000.0))
        await until(lambda: waiting(database))
        for step in held:
            if step.job == job:
                await lock(other, step)
        await other.rollback()
        assert (await rescuing).lost == 1
