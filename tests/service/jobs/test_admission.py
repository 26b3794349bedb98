import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import LiteralString

import psycopg
import pytest

from foremask.errors import Busy, LinkInvalid, RequestUnknown
from foremask.service.jobs import deliveries, process_totals
from foremask.service.jobs.admission import admit, claim_upload, new_upload, reserve
from foremask.service.jobs.database import Database, Params, Row
from foremask.service.jobs.tokens import TokenLimits, charge_rate, create_token, token_hash
from tests.support.jobs import cancel, new_job, value
from tests.support.patience import PATIENT


async def test_the_cap_on_unfinished_jobs_holds_under_concurrency(database: Database) -> None:
    _, token = await create_token(database, "cap", TokenLimits(concurrent=7))
    answers = await asyncio.gather(
        *(admit(database, new_job(token.id)) for _ in range(40)), return_exceptions=True
    )
    refused = [each for each in answers if isinstance(each, Busy)]
    assert {each.reason for each in refused} == {"too_many_jobs"}
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
            refused = [each for each in answers if isinstance(each, Busy)]
            assert [each.reason for each in refused] == ["rate_limited"] * (40 - due)
            assert {round(each.retry_after_s, 6) for each in refused} == {0.01}
            assert {round(each.reset_s, 6) for each in refused} == {0.3}


class Forgetful(Database):
    """Loses the answer to each statement once, so that the statement is repeated."""

    is_lost = False

    async def _ask(self, statement: LiteralString, params: Params) -> list[Row]:
        answer = await super()._ask(statement, params)
        self.is_lost = not self.is_lost
        if self.is_lost:
            raise psycopg.OperationalError("the connection is lost")
        return answer


@pytest.fixture
async def forgetful(database_url: str) -> AsyncIterator[Forgetful]:
    async with Forgetful(database_url, connections=1, **PATIENT) as made:
        yield made


async def test_a_forms_file_is_taken_though_the_answer_was_lost(
    database: Database, forgetful: Forgetful, token: uuid.UUID
) -> None:
    await new_upload(database, "uploads/1", token)
    assert await claim_upload(forgetful, "uploads/1", "mine", None) == str(token)
    with pytest.raises(LinkInvalid, match="has been used"):
        await claim_upload(forgetful, "uploads/1", "another", None)
    await reserve(database, "uploads/1", 0, 0)
    assert await claim_upload(forgetful, "uploads/1", "another", None) == str(token)
    now = await process_totals.now(database)
    assert now["foremask_stored_bytes", ()] == 1


async def test_a_job_is_admitted_and_its_webhook_sent_again_once_though_the_answers_were_lost(
    database: Database, forgetful: Forgetful, token: uuid.UUID
) -> None:
    job = await admit(forgetful, new_job(token, webhook_url="https://example.org/hook"))
    assert await value(database, "select used from tokens where id = %s", (token,)) == 1
    with pytest.raises(RequestUnknown):
        await deliveries.redeliver(forgetful, job)
    await cancel(database, job)
    for expected in (2, 3):
        await deliveries.redeliver(forgetful, job)
        number = "select count(*) from deliveries where job = %s"
        assert await value(database, number, (job,)) == expected
