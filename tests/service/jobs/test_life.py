import uuid

import pytest

from foremask.errors import CorruptVideo
from foremask.service.jobs import records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import LIFE, MAX_CRASHES, Event, Status, change
from foremask.service.jobs.schema import VERSION
from foremask.service.jobs.steps import IngestDone, JobClip, StoredSegment
from tests.support.jobs import begun, done, new_job, value

STEPS = ("waiting", "todo", "running", "done", "dropped")
JOBS = tuple(each for each in Status if each is not Status.UNREADABLE)
OF_STEPS = [event for event, rule in LIFE.items() if rule.step and event is not Event.CLAIMED]
ROWS = "select to_jsonb(j) from jobs j where id = %s"


async def job_with_two_segments(database: Database, token: uuid.UUID) -> steps.Step:
    job = await admit(database, new_job(token))
    cut = IngestDone(JobClip(), "sources/x", (StoredSegment(), StoredSegment()))
    await done(database, job, "ingest", cut)
    return await begun(database, job, "segment")


async def put(database: Database, step: steps.Step, state: str) -> None:
    await database.all(
        "update steps set status = %s where job = %s and stage = 'segment' and number = 0",
        (state, step.job),
    )


async def state_of(database: Database, step: steps.Step) -> str:
    found = "select status from steps where job = %s and stage = 'segment' and number = 0"
    return str(await value(database, found, (step.job,)))


@pytest.mark.parametrize("event", OF_STEPS)
async def test_an_event_of_a_step_brings_it_from_the_states_of_the_table_to_the_next(
    database: Database, token: uuid.UUID, event: Event
) -> None:
    step = await job_with_two_segments(database, token)
    for state in STEPS:
        if state in LIFE[event].of:
            continue
        await put(database, step, state)
        assert not await database.value_of("end_attempt", *step.key, change(event), 1.0)
        assert await state_of(database, step) == state
    for state in LIFE[event].of:
        await put(database, step, state)
        assert await database.value_of("end_attempt", *step.key, change(event), 1.0)
    assert await state_of(database, step) == LIFE[event].step
    record = await records.read_any(database, step.job)
    ends_at_once = LIFE[event].job is not None and not LIFE[event].crash
    assert record.status == (LIFE[event].job if ends_at_once else Status.RUNNING)


@pytest.mark.parametrize("event", [Event.CANCELLED, Event.TIMED_OUT])
async def test_an_event_of_a_job_brings_it_from_the_states_of_the_table_to_the_next(
    database: Database, token: uuid.UUID, event: Event
) -> None:
    for state in JOBS:
        job = await admit(database, new_job(token))
        ended = "update jobs set status = %s, ended_at = case when %s then now() end where id = %s"
        await database.all(ended, (state, state.ended, job))
        counts = state in LIFE[event].of
        assert await database.value_of("end_job", job, change(event)) is counts
        now = (await records.read_any(database, job)).status
        assert now == (LIFE[event].job if counts else state)
        await database.all("delete from jobs where id = %s", (job,))


@pytest.mark.parametrize("event", [each for each in OF_STEPS if LIFE[each].crash])
async def test_a_step_is_tried_again_until_it_has_crashed_too_often(
    database: Database, token: uuid.UUID, event: Event
) -> None:
    step = await job_with_two_segments(database, token)
    for crashes in range(1, MAX_CRASHES + 1):
        error = CorruptVideo("crash {crashes}")
        assert await steps.fail(database, step, error, event)
        record = await records.read_any(database, step.job)
        if crashes < MAX_CRASHES:
            assert record.status is Status.RUNNING
            assert record.error is None
            step = await begun(database, step.job, "segment")
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error.details == f"crash {MAX_CRASHES}"


async def test_the_functions_of_the_database_are_of_this_version(database: Database) -> None:
    assert await value(database, "select schema_version()") == VERSION
