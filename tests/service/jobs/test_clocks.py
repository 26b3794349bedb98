import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from foremask.errors import CorruptVideo
from foremask.service.jobs import deliveries, process_totals, records, retention, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Event, Status
from foremask.service.jobs.steps import (
    Beat,
    IngestDone,
    JobClip,
    PartDone,
    Step,
    StoredSegment,
)
from foremask.service.jobs.tokens import TokenLimits, charge_rate, create_token, token_hash
from tests.support.jobs import WAITING, begun, cancel, cancel_all, new_job, report_of
from tests.support.patience import until

HOUR_S = 3600.0
LEASE_S = 60.0
LONGEST_S = 2 * HOUR_S
STEPS_OF_THE_CLOCK = pytest.mark.parametrize("shift_s", [-HOUR_S, 5 * HOUR_S])


class Service:
    def __init__(self, database: Database) -> None:
        self.database, self.shift_s = database, 0.0

    async def shift(self, seconds: float) -> None:
        self.shift_s += seconds
        await self.database.all(
            f"""create or replace function clock() returns timestamptz language sql as
                $$ select clock_timestamp() + interval '{self.shift_s} seconds' $$"""
        )

    async def recover(self) -> steps.Recovered:
        return await steps.recover(self.database, LONGEST_S, LEASE_S)

    async def tended(self, seconds: float) -> steps.Recovered:
        """So much time passes, and a worker recovers all the while."""
        lost = timed_out = 0
        for _ in range(round(seconds / (LEASE_S / 3))):
            await self.shift(LEASE_S / 3)
            each = await self.recover()
            lost += each.lost
            timed_out += each.timed_out
        return steps.Recovered(lost, timed_out)

    async def running(self) -> Step:
        _, token = await create_token(self.database, "any")
        await admit(self.database, new_job(token.id, webhook_url="https://example.org/hook"))
        return await self.claimed()

    async def claimed(self, lease_s: float = LEASE_S) -> Step:
        step = await steps.claim(self.database, "files", "worker", lease_s)
        assert step is not None
        return step

    async def fail(self, step: Step, retry_s: float | None = None) -> None:
        event = Event.FAILED
        if retry_s is not None:
            event = Event.UNAVAILABLE
        await steps.fail(self.database, step, CorruptVideo("x"), event, retry_s=retry_s or 0.0)

    async def is_running(self, step: Step) -> bool:
        return (await records.read_any(self.database, step.job)).status is Status.RUNNING

    async def cut(self, segments: int) -> str:
        """A job whose segments may begin."""
        step = await self.running()
        found = IngestDone(JobClip(), "sources/x", (StoredSegment(),) * segments)
        await steps.finish(self.database, step, found)
        return step.job

    async def left_h(self, job: str) -> float | None:
        left_s = (await records.read_any(self.database, job)).eta_s
        return None if left_s is None else left_s / HOUR_S


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    made = Service(database)
    await made.recover()
    yield made
    await made.shift(-made.shift_s)
    await cancel_all(database)
    await database.all("delete from deliveries")
    await made.recover()


async def test_a_clock_that_is_set_back_uses_up_no_rate(service: Service) -> None:
    limits = TokenLimits(rate_per_minute=60, burst=1)
    secret, _ = await create_token(service.database, "rate", limits)
    await charge_rate(service.database, token_hash(secret))
    await service.shift(-HOUR_S)
    await charge_rate(service.database, token_hash(secret))


@STEPS_OF_THE_CLOCK
async def test_a_step_of_the_clock_ends_no_job_and_takes_no_lease(
    service: Service, shift_s: float
) -> None:
    step = await service.running()
    await service.shift(shift_s)
    for _ in range(3):
        assert await service.recover() == steps.Recovered()
        assert await steps.renew(service.database, [Beat(step, 1)], LEASE_S)
        await service.shift(LEASE_S / 3)
    assert await service.is_running(step)


async def test_a_job_that_began_on_a_clock_just_set_back_has_its_time(service: Service) -> None:
    await service.shift(5 * HOUR_S)
    await service.recover()
    await service.shift(-5 * HOUR_S)
    step = await service.running()
    for _ in range(2):
        assert (await service.recover()).timed_out == 0
    assert await service.is_running(step)


@STEPS_OF_THE_CLOCK
async def test_a_dead_workers_step_is_taken_one_lease_after_the_step_of_the_clock(
    service: Service, shift_s: float
) -> None:
    await service.running()
    await service.shift(shift_s)
    assert (await service.recover()).lost == 0
    assert (await service.tended(2 * LEASE_S)).lost == 1


@STEPS_OF_THE_CLOCK
async def test_a_job_has_its_whole_time_whatever_the_clock_does(
    service: Service, shift_s: float
) -> None:
    step = await service.running()
    await service.database.all(
        "update jobs set deadline_from = deadline_from - interval '1 hour' where id = %s",
        (step.job,),
    )
    await service.shift(shift_s)
    await service.recover()
    await service.fail(step, retry_s=0.0)
    assert (await service.claimed(10 * HOUR_S)).used_s == pytest.approx(HOUR_S, abs=30)
    assert (await service.tended(HOUR_S - 120)).timed_out == 0
    assert (await service.tended(240)).timed_out == 1


async def test_a_step_that_is_claimed_right_after_a_jump_has_its_time(service: Service) -> None:
    await service.fail(await service.running(), retry_s=0.0)
    await service.shift(5 * HOUR_S)
    assert (await service.claimed()).used_s < 60


@STEPS_OF_THE_CLOCK
async def test_a_retry_and_a_webhook_wait_as_long_as_they_would_have(
    service: Service, shift_s: float
) -> None:
    await service.fail(await service.running(), retry_s=60.0)
    await service.fail(await service.running())
    first = await deliveries.begin(service.database)
    assert first is not None
    await deliveries.record(service.database, first, 500)
    await service.shift(shift_s)
    await service.recover()
    assert await steps.claim(service.database, "files", "worker") is None
    assert await deliveries.begin(service.database) is None
    await service.tended(80.0)
    await service.claimed()
    assert await deliveries.begin(service.database) is not None


async def test_what_was_due_before_the_clock_was_set_back_is_due_afterwards(
    service: Service,
) -> None:
    await service.fail(await service.running(), retry_s=0.0)
    ended = await service.running()
    await service.fail(ended)
    await service.recover()
    await service.shift(-HOUR_S)
    assert (ended.job, None) in await retention.due(service.database, "sources")
    await service.recover()
    await service.claimed()
    assert await deliveries.begin(service.database) is not None


async def test_what_came_while_every_worker_was_away_waits_no_longer(service: Service) -> None:
    cancelled = await service.running()
    await service.shift(HOUR_S)
    await cancel(service.database, cancelled.job)
    await admit(service.database, new_job(cancelled.token))
    await service.shift(HOUR_S)
    await service.recover()
    assert await deliveries.begin(service.database) is not None
    assert (await service.claimed()).token == cancelled.token


async def test_who_sees_that_the_clock_was_set_locks_jobs_before_steps(service: Service) -> None:
    step = await service.running()
    await service.shift(HOUR_S)
    async with await psycopg.AsyncConnection.connect(service.database.url) as ending:
        await ending.execute("set deadlock_timeout = '10ms'")  # so it is this one that hears of it
        await ending.execute("select from jobs where id = %s for update", (step.job,))
        seeing = asyncio.create_task(service.recover())
        await until(lambda: service.database.all(WAITING))
        await ending.execute("update steps set result = '{}' where job = %s", (step.job,))
    assert await seeing == steps.Recovered()


async def test_a_process_that_died_before_the_clock_was_set_back_is_dead(service: Service) -> None:
    reporter = process_totals.CountReporter("worker", 7, "none")
    await reporter.report(service.database)
    await service.shift(-HOUR_S)
    await service.recover()
    await service.shift(21)
    assert (await process_totals.now(service.database))["foremask_mask_slots", ()] == 0


@pytest.mark.parametrize(("workers", "ends"), [(1, 8), (2, 4), (3, 3), (4, 2)])
async def test_the_time_left_counts_the_segments_that_have_not_begun(
    service: Service, workers: int, ends: int
) -> None:
    database, job = service.database, await service.cut(8)
    for hour in range(ends):
        numbers = range(workers * hour, min(8, workers * (hour + 1)))
        began = [await begun(database, job, "segment", 1e7, number=each) for each in numbers]
        assert await service.left_h(job) == (pytest.approx(ends - hour, abs=0.1) if hour else None)
        for left in (0.75, 0.25, 0.0):
            await service.shift(HOUR_S * (0.5 if left == 0.25 else 0.25))
            await steps.renew(database, [Beat(each, 1, 0.0, left * HOUR_S) for each in began], 1e7)
            assert await service.left_h(job) == pytest.approx(ends - hour - 1 + left, abs=0.1)
        for each in began:
            await steps.finish(database, each, PartDone("x", report_of(1)))
    assert await service.left_h(job) is None  # they are joined


async def test_the_last_segment_follows_on_the_one_that_ends_first(service: Service) -> None:
    database, job = service.database, await service.cut(3)
    for number, left_s in ((0, 3600.0), (1, 5400.0)):
        step = await begun(database, job, "segment", 1e7, number=number)
        await steps.renew(database, [Beat(step, 1, 0.0, left_s)], 1e7)
    assert await service.left_h(job) == pytest.approx(2, rel=0.1)
