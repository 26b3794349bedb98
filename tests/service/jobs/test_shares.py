import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foremask.errors import CorruptVideo
from foremask.service.jobs import records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import IN_FLIGHT
from foremask.service.jobs.steps import (
    IngestDone,
    JobClip,
    PartDone,
    Step,
    StoredSegment,
)
from foremask.service.jobs.tokens import TokenLimits, create_token
from foremask.service.observability import metrics
from tests.support.jobs import cancel_all, new_job, report_of, value

HELD_BACK = "foremask_held_back_total", (("limit", "files"),)


class Tokens:
    def __init__(self, database: Database) -> None:
        self.database, self.names = database, dict[uuid.UUID, str]()

    async def new(self, name: str, **limits: int) -> uuid.UUID:
        _, token = await create_token(self.database, name, TokenLimits(concurrent=10_000, **limits))
        self.names[token.id] = name
        return token.id

    async def submit(self, token: uuid.UUID, count: int = 1) -> list[str]:
        return [await admit(self.database, new_job(token)) for _ in range(count)]

    async def claimed(self, queue: str = "files") -> Step:
        step = await steps.claim(self.database, queue, "worker", 100.0)
        assert step is not None
        return step

    async def allow(self, per_token: int | None) -> None:
        await self.database.all(
            "update queues set per_token = %s where queue = 'files'", (per_token,)
        )

    async def served(self, count: int, seconds: float = 1.0) -> str:
        """The names of the tokens that are served next, by steps that take ``seconds``."""
        names = ""
        for _ in range(count):
            step = await self.claimed()
            names += self.names[step.token]
            await steps.fail(self.database, lasted(step, seconds), CorruptVideo("broken"))
        return names


def lasted(step: Step, seconds: float) -> Step:
    return replace(step, taken_at=time.monotonic() - seconds)


@pytest.fixture
async def tokens(database: Database) -> AsyncIterator[Tokens]:
    made = Tokens(database)
    await made.allow(None)
    yield made
    await cancel_all(database)


async def test_two_hundred_jobs_of_one_token_hold_up_no_other(tokens: Tokens) -> None:
    a, b = await tokens.new("a"), await tokens.new("b")
    await tokens.submit(a, 200)
    assert await tokens.served(3) == "aaa"
    await tokens.submit(b)
    assert "b" in await tokens.served(2)


async def test_a_token_with_a_double_share_is_served_twice_as_often(tokens: Tokens) -> None:
    await tokens.submit(await tokens.new("a", share=2), 30)
    await tokens.submit(await tokens.new("b"), 30)
    assert (await tokens.served(30)).count("a") in (19, 20, 21)


async def test_long_steps_count_as_what_they_take(tokens: Tokens) -> None:
    a, b = await tokens.new("a"), await tokens.new("b")
    await tokens.submit(a, 10)
    await tokens.submit(b, 60)
    times = {"a": 0.0, "b": 0.0}
    for _ in range(55):
        step = await tokens.claimed()
        name = tokens.names[step.token]
        seconds = 10.0 if name == "a" else 1.0
        times[name] += seconds
        await steps.fail(tokens.database, lasted(step, seconds), CorruptVideo("broken"))
    assert abs(times["a"] - times["b"]) <= 11.0


async def test_who_waited_while_another_was_served_comes_first_for_ten_seconds(
    tokens: Tokens,
) -> None:
    a, b = await tokens.new("a"), await tokens.new("b")
    await tokens.submit(a, 80)
    await tokens.submit(b, 1)
    await tokens.served(32)  # b has had as much as a, then a has 30 s alone
    await tokens.submit(b, 40)
    assert await tokens.served(9) == "b" * 9
    assert 8 <= (await tokens.served(20)).count("a") <= 12


async def test_a_worker_stays_with_its_token_for_some_seconds(tokens: Tokens) -> None:
    a, b = await tokens.new("a"), await tokens.new("b")
    await tokens.submit(a, 50)
    await tokens.submit(b, 50)
    last: list[uuid.UUID | None] = [None, None]  # of two workers
    served, changes = Counter[str](), 0
    for turn in range(60):
        worker = turn % 2
        step = await steps.claim(tokens.database, "files", f"{worker}", 100.0, last=last[worker])
        assert step is not None
        changes += last[worker] not in (None, step.token)
        last[worker] = step.token
        served[tokens.names[step.token]] += 1
        await steps.fail(tokens.database, lasted(step, 1.0), CorruptVideo("broken"))
    assert changes <= 8
    assert abs(served["a"] - served["b"]) <= 8


async def test_a_higher_priority_goes_first(tokens: Tokens) -> None:
    await tokens.submit(await tokens.new("a"), 3)
    await tokens.submit(await tokens.new("b", priority=1), 3)
    assert await tokens.served(6) == "bbbaaa"


async def test_one_token_holds_a_limited_number_of_file_steps(tokens: Tokens) -> None:
    await tokens.allow(4)
    a, b = await tokens.new("a"), await tokens.new("b")
    await tokens.submit(a, 6)
    first, *_ = [await tokens.claimed() for _ in range(4)]
    before = metrics.counted()[HELD_BACK]
    assert await steps.claim(tokens.database, "files", "worker", 100.0) is None
    assert metrics.counted()[HELD_BACK] == before + 1
    await tokens.submit(b)
    assert (await tokens.claimed()).token == b
    await steps.fail(tokens.database, first, CorruptVideo("broken"))
    assert (await tokens.claimed()).token == a


async def test_masks_are_shared_apart_from_files(tokens: Tokens) -> None:
    a, b = await tokens.new("a"), await tokens.new("b")
    for token in (a, a, a, b):
        await tokens.submit(token)
        step = await tokens.claimed()
        found = IngestDone(JobClip(), "x", (StoredSegment(),))
        await steps.finish(tokens.database, lasted(step, 5.0), found)
    assert {(await tokens.claimed("masks")).token for _ in range(2)} == {a, b}


async def test_a_job_has_a_limited_number_of_segments_in_flight(tokens: Tokens) -> None:
    await tokens.submit(await tokens.new("a"))
    ingest = await tokens.claimed()
    await steps.finish(tokens.database, ingest, IngestDone(JobClip(), "x", (StoredSegment(),) * 6))
    in_flight = (
        "select count(*) from steps where job = %s and stage = 'segment'"
        " and status in ('todo', 'running')"
    )
    for left in range(6, 0, -1):
        counted = await value(tokens.database, in_flight, (ingest.job,))
        assert counted == min(IN_FLIGHT, left)
        part = PartDone("x", report_of(1))
        await steps.finish(tokens.database, await tokens.claimed("masks"), part)


async def test_a_place_in_the_queue_counts_turns(tokens: Tokens) -> None:
    a, b = await tokens.new("a"), await tokens.new("b")
    of_a = await tokens.submit(a, 50)
    of_b = await tokens.submit(b, 2)
    places = [
        (await records.read_any(tokens.database, job)).queue_position
        for job in (of_b[0], of_b[1], of_a[0], of_a[49])
    ]
    assert places == [1, 3, 1, 52]
