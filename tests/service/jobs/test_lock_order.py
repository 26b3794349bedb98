import asyncio
import uuid
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from foremask.service.jobs import steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.steps import Beat, IngestDone, JobClip, Step, StoredSegment
from tests.support.jobs import WAITING, begun, cancel, done, new_job
from tests.support.patience import until

SEGMENTS = 3
LEASE_S = 1e6


@pytest.fixture
async def held(database: Database, token: uuid.UUID) -> list[Step]:
    """The begun segments of two jobs; those that are first in the locking order were begun last."""
    found = []
    for _ in range(2):
        job = await admit(database, new_job(token))
        cut = IngestDone(JobClip(), "sources/x", tuple(StoredSegment() for _ in range(SEGMENTS)))
        await done(database, job, "ingest", cut)
        found += [
            await begun(database, job, "segment", LEASE_S, number=number)
            for number in reversed(range(SEGMENTS))
        ]
    return sorted(found, key=lambda step: (step.job, -step.number))


async def lock(other: psycopg.AsyncConnection, step: Step) -> None:
    await other.execute(
        "select from steps where job = %s and stage = %s and number = %s for update nowait",
        (step.job, step.stage, step.number),
    )


def renewal(database: Database, held: list[Step]) -> Awaitable[object]:
    return steps.renew(database, [Beat(step, 1) for step in reversed(held)], LEASE_S)


def end_of_a_job(database: Database, held: list[Step]) -> Awaitable[object]:
    return cancel(database, held[0].job)


def rescue(database: Database, _: list[Step]) -> Awaitable[steps.Recovered]:
    return steps.recover(database, 1e6, 1000.0)


@pytest.mark.parametrize(
    ("call", "away_s"), [(renewal, 0.0), (end_of_a_job, 0.0), (rescue, 0.0), (rescue, 3600.0)]
)
async def test_steps_are_locked_in_order(
    database: Database,
    database_url: str,
    held: list[Step],
    call: Callable[[Database, list[Step]], Awaitable[object]],
    away_s: float,
) -> None:
    """A call that waits for the first step has locked no other."""
    for job, seconds in {held[0].job: 1, held[-1].job: 2}.items():
        await database.all(
            "update steps set lease_until = clock() - make_interval(secs => %s) where job = %s"
            " and status = 'running'",
            (seconds, job),
        )
    await database.all(
        "update housekeeping set last_at = clock() - make_interval(secs => %s)", (away_s,)
    )
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await lock(other, min(held, key=lambda step: (step.job, step.number)))
        calling = asyncio.ensure_future(call(database, held))
        await until(lambda: database.all(WAITING))
        for step in held:
            await lock(other, step)
        await other.rollback()
        await calling


async def test_a_rescue_that_ends_a_job_locks_no_step_of_a_job_that_another_call_ends(
    database: Database, database_url: str, held: list[Step]
) -> None:
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
        rescuing = asyncio.ensure_future(rescue(database, held))
        await until(lambda: database.all(WAITING))
        for step in held:
            if step.job == job:
                await lock(other, step)
        await other.rollback()
        assert (await rescuing).lost == 1
