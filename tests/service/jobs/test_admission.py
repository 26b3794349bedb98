import asyncio

from foremask.errors import RateLimited, TooManyJobs
from foremask.service.jobs.admission import admit, charge_rate, token_hash
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import TokenLimits, create_token
from tests.support.jobs import new_job, value
from tests.support.patience import PATIENT


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


async def test_the_rate_is_exact_over_two_nodes(database: Database, database_url: str) -> None:
    secret, _ = await create_token(database, "rate", TokenLimits(rate_per_minute=6000, burst=30))
    stopped_at = await value(database, "select clock_timestamp()")
    async with Database(database_url, **PATIENT) as other:
        for at_s, due in ((0.0, 30), (0.1, 10), (0.15, 5), (9.0, 30)):
            await database.all(
                f"""create or replace function clock() returns timestamptz language sql as
                    $$ select timestamptz '{stopped_at}' + interval '{at_s} seconds' $$"""
            )
            asked = (charge_rate(node, token_hash(secret)) for node in [database, other] * 20)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            refused = [each for each in answers if isinstance(each, RateLimited)]
            assert len(refused) == 40 - due
            assert {round(each.retry_after_s, 6) for each in refused} == {0.01}
            assert {round(each.reset_s, 6) for each in refused} == {0.3}
