import uuid
from collections.abc import AsyncIterator
from typing import LiteralString

import psycopg
import pytest

from foremask.errors import LinkInvalid, RequestUnknown
from foremask.service.jobs import admission, deliveries, process_totals
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database, Params, Row
from tests.support.jobs import new_job, value
from tests.support.patience import PATIENT


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
    await admission.new_upload(database, "uploads/1", token)
    assert await admission.claim_upload(forgetful, "uploads/1", "mine", None) == str(token)
    with pytest.raises(LinkInvalid, match="has been used"):
        await admission.claim_upload(forgetful, "uploads/1", "another", None)
    await admission.reserve(database, "uploads/1", 0, 0)
    assert await admission.claim_upload(forgetful, "uploads/1", "another", None) == str(token)
    now = await process_totals.now(database)
    assert now["foremask_stored_bytes", ()] == 1


async def test_a_job_is_admitted_and_its_webhook_sent_again_once_though_the_answers_were_lost(
    database: Database, forgetful: Forgetful, token: uuid.UUID
) -> None:
    job = await admit(forgetful, new_job(token, webhook_url="https://example.org/hook"))
    assert await value(database, "select used from tokens where id = %s", (token,)) == 1
    with pytest.raises(RequestUnknown):
        await deliveries.redeliver(forgetful, job)
    await database.all("select end_job(%s, 'cancelled', null, null, null)", (job,))
    for expected in (2, 3):
        await deliveries.redeliver(forgetful, job)
        number = "select count(*) from deliveries where job = %s"
        assert await value(database, number, (job,)) == expected
