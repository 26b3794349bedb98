import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from foremask.errors import RateLimited, TooManyJobs
from foremask.service.jobs.admission import admit, charge_rate, token_hash
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import TokenLimits, create_token, list_tokens
from tests.support.jobs import new_job, value
from tests.support.patience import PATIENT


async def test_a_repeated_call_admits_the_job_once(database: Database) -> None:
    _, token = await create_token(database, "again")
    same = new_job(token.id)
    assert await admit(database, same) == await admit(database, same)
    assert (await list_tokens(database))[-1].used == 1


@pytest.fixture
async def stopped(database: Database) -> AsyncIterator[Callable[[float], Awaitable[object]]]:
    """Stop the database's clock; the function sets it to so many seconds after its stop."""
    stopped_at = await value(database, "select clock_timestamp()")
    clock = "create or replace function clock() returns timestamptz language sql as $$ select {} $$"

    async def set_to(seconds: float) -> None:
        at = f"timestamptz '{stopped_at}' + interval '{seconds} seconds'"
        await database.all(clock.format(at))

    await set_to(0)
    yield set_to
    await database.all(clock.format("clock_timestamp()"))


async def test_the_rate_is_exact_over_two_nodes(
    database: Database, database_url: str, stopped: Callable[[float], Awaitable[object]]
) -> None:
    secret, _ = await create_token(database, "rate", TokenLimits(rate_per_minute=6000, burst=30))
    async with Database(database_url, **PATIENT) as other:
        for at_s, due in ((0.0, 30), (0.1, 10), (0.15, 5), (9.0, 30)):
            await stopped(at_s)
            asked = (charge_rate(node, token_hash(secret)) for node in [database, other] * 20)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            refused = [each for each in answers if isinstance(each, RateLimited)]
            assert len(refused) == 40 - due
            assert {round(each.retry_after_s, 6) for each in refused} == {0.01}
            assert {round(each.reset_s, 6) for each in refused} == {0.3}


async def test_the_cap_on_unfinished_jobs_holds_under_concurrency(database: Database) -> None:
    _, token = await create_token(database, "cap", TokenLimits(concurrent=7))
    answers = await asyncio.gather(
        *(admit(database, new_job(token.id)) for _ in range(40)), return_exceptions=True
    )
    refused = [each for each in answers if isinstance(each, TooManyJobs)]
    assert (len(answers) - len(refused), len(refused)) == (7, 33)
    assert (refused[0].limit, refused[0].actual) == (7, 7)


async def test_the_token_itself_is_not_stored(database: Database) -> None:
    secret, token = await create_token(database, "secret")
    rows = await database.all("select t::text as stored from tokens t where id = %s", (token.id,))
    assert len(secret) >= 46
    assert secret not in rows[0]["stored"]
    assert secret[3:].encode().hex() not in rows[0]["stored"]
    assert token.prefix == secret[:9]


async def test_an_operators_own_token_is_made_once(database: Database) -> None:
    made = [await create_token(database, "own", secret="an-operators-own-token") for _ in range(2)]
    assert made[0] == made[1]
