import asyncio
from pathlib import Path

import psycopg
import pytest

from foremask.errors import ServiceUnavailable
from foremask.service.jobs import records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from foremask.service.jobs.schema import migrate
from foremask.service.jobs.tokens import create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from tests.support.databases import new_database
from tests.support.jobs import new_job
from tests.support.patience import PATIENCE_S, PATIENT
from tests.support.programs import worker_process


async def test_a_database_that_is_not_in_utf_8_is_refused_with_the_command_for_one_that_is(
    postgres: EmbeddedPostgres,
) -> None:
    url = new_database(postgres, options="encoding 'SQL_ASCII' locale 'C' template template0")
    with pytest.raises(ServiceUnavailable, match=r"encoding is SQL_ASCII, .* encoding 'UTF8'"):
        await migrate(url)


async def test_a_second_migration_changes_nothing(database_url: str) -> None:
    assert await migrate(database_url) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [("foremask/1000", "of a newer foremask"), ("foremask/26", "make a new database")],
)
def test_tables_that_are_too_new_or_too_old_are_refused_with_a_sentence(
    postgres: EmbeddedPostgres, found: str, sentence: str
) -> None:
    url = new_database(postgres)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table schema_scripts (name text primary key)")
        connection.execute("insert into schema_scripts (name) values (%s)", (found,))
        with pytest.raises(ServiceUnavailable, match=sentence):
            asyncio.run(migrate(url))
        rows = connection.execute("select name from schema_scripts where name not like 'procr%'")
        assert rows.fetchall() == [(found,)]


async def test_a_process_whose_tables_were_changed_says_so(database: Database) -> None:
    for statement in ("select * from no_such_function()", "select no_such_column from jobs"):
        with pytest.raises(ServiceUnavailable, match="tables of another foremask"):
            await database.all(statement)


async def test_a_worker_left_running_over_a_migration_claims_nothing_and_ends(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path
) -> None:
    url = new_database(postgres, options=f"template {template}")
    words = "foremask", "worker", "--queues", "files"
    async with worker_process(url, tmp_path, *words) as worker:
        assert worker.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            await worker.stderr.readuntil(b"worker.started")
            async with Database(url, connections=1, **PATIENT) as database:
                await database.all("insert into schema_scripts values ('foremask/1000')")
                await database.all(
                    "create or replace function schema_version() returns integer language sql"
                    " as 'select 1000'"
                )
                _, token = await create_token(database, "caller")
                job = await admit(database, new_job(token.id))
                with pytest.raises(ServiceUnavailable, match="tables of another foremask"):
                    await steps.claim(database, "files", "by hand")
                said = await worker.stderr.read()
                record = await records.read_any(database, job)
                assert await records.history(database, job) == []
    assert worker.returncode == 1
    assert b"tables of version 1000, of a newer foremask; update this one" in said.splitlines()[-1]
    assert record.status is Status.QUEUED
