import asyncio
import gzip
import json
import uuid
from pathlib import Path

import psycopg
import pytest

from foremask.errors import ServiceUnavailable
from foremask.options import Form, ResultKind
from foremask.service.jobs import deliveries, records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from foremask.service.jobs.schema import VERSION, check_schema, migrate
from foremask.service.jobs.steps import MaskDone, PartDone
from foremask.service.jobs.tokens import charge_rate, create_token, list_tokens, token_hash
from foremask.service.run.bundled_postgres import EmbeddedPostgres, bundled_binaries
from tests.support.databases import new_database
from tests.support.jobs import WAITING, new_job, report_of, value
from tests.support.patience import PATIENCE_S, PATIENT, until
from tests.support.programs import ran, worker_process

OLD = Path(__file__).with_name("database_of_427503c.sql.gz")
"""A dump of what that commit made: jobs 1 to 7 in every state, two tokens, an upload, webhooks."""
ALPHA = token_hash("fm_alpha-of-427503c")
MIGRATIONS = [f"foremask/{number}" for number in range(26, VERSION + 1)]


@pytest.fixture
def old_database(postgres: EmbeddedPostgres) -> str:
    url = new_database(postgres)
    command = bundled_binaries() / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", url
    ran(*command, input=gzip.decompress(OLD.read_bytes()).decode())
    return url


def name(number: int) -> str:
    return str(uuid.UUID(int=number))


async def test_a_database_that_is_not_in_utf_8_is_refused_with_the_command_for_one_that_is(
    postgres: EmbeddedPostgres,
) -> None:
    url = new_database(postgres, options="encoding 'SQL_ASCII' locale 'C' template template0")
    with pytest.raises(ServiceUnavailable, match=r"encoding is SQL_ASCII, .* encoding 'UTF8'"):
        await migrate(url)


async def shape(url: str) -> list[tuple[object, ...]]:
    async with Database(url, connections=1, **PATIENT) as database:
        rows = await database.all(
            """select table_name, column_name, data_type, is_nullable, column_default
               from information_schema.columns where table_schema = 'public'
               union all
               select tablename, indexname, indexdef, '', '' from pg_indexes
               where schemaname = 'public'
               union all
               select conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
               from pg_constraint where connamespace = 'public'::regnamespace
               union all
               select 'function', oid::regprocedure::text, prosrc, '', '' from pg_proc
               where pronamespace = 'public'::regnamespace
               union all
               select tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), '', ''
               from pg_trigger where not tgisinternal
               union all
               select 'queue', queue, coalesce(per_token::text, ''), '', '' from queues"""
        )
    return sorted(tuple(map(str, row.values())) for row in rows)


async def test_tables_of_any_version_since_become_what_new_ones_are(
    old_database: str, database_url: str
) -> None:
    with psycopg.connect(old_database, autocommit=True) as connection:
        for found in (16, 18, 26):
            if found > 16:
                connection.execute("delete from schema_scripts where name like 'fore%'")
                connection.execute(
                    "insert into schema_scripts (name) values (%s)", (f"foremask/{found}",)
                )
            applied = await migrate(old_database)
            assert applied == [f"foremask/{n}" for n in range(max(26, found + 1), VERSION + 1)]
            assert await shape(old_database) == await shape(database_url)
            assert await migrate(old_database) == []


async def test_jobs_results_and_tokens_of_an_old_database_are_all_there(old_database: str) -> None:
    hints = [{"frame": 0, "time_s": 0.5}, {"frame": 1, "time_s": None}]
    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute(
            "update jobs set preset = 'apng', result = %s where id = %s",
            (json.dumps({"options": {"kind": "cutout"}, "hints": hints}), name(4)),
        )
    await migrate(old_database)
    async with Database(old_database, connections=2, **PATIENT) as database:
        await check_schema(database)
        found = await value(database, "select spec from jobs where id = %s", (name(4),))
        assert found["hints"] == [{"time_s": 0.5}, {"frame": 1}]
        assert (await records.read_any(database, name(4))).spec.form is Form.PNG_ZIP
        jobs = {number: await records.read_any(database, name(number)) for number in range(1, 8)}
        states = "completed failed cancelled queued running completed running"
        assert [job.status for job in jobs.values()] == [Status(each) for each in states.split()]
        first = await records.read(database, ALPHA, name(1))
        assert first.result_key == f"results/{name(1)}/segment-1/{name(1)}.mp4"
        assert first.report is not None
        assert (first.report.bytes, first.report.coverage, first.name) == (700, 0.25, "clip.mp4")
        assert (jobs[6].spec.kind, jobs[6].name) == (ResultKind.CUTOUT, "holiday.mp4")
        assert jobs[2].error is not None
        assert (jobs[2].error.reason, jobs[2].error.details) == ("corrupt", "broken at frame 7")
        keyed = await charge_rate(database, ALPHA, "first")
        assert keyed.request_id == name(1)
        tokens = {token.name: token for token in await list_tokens(database)}
        assert (tokens["alpha"].used, tokens["alpha"].limits.share) == (5, 2)
        assert keyed.allowed == 60
        rows = await database.all("select name, stored, unfinished from tokens order by name")
        assert rows == [
            {"name": "alpha", "stored": 50790, "unfinished": 2},
            {"name": "beta", "stored": 19981, "unfinished": 1},
        ]


async def test_jobs_of_an_old_database_go_on_where_they_were(old_database: str) -> None:
    await migrate(old_database)
    async with Database(old_database, connections=2, **PATIENT) as database:
        await database.all(
            "update steps set lease_until = now() - interval '1 minute',"
            " touched_at = now() - interval '1 minute',"
            " ready_at = least(ready_at, now() - interval '1 minute')"
        )
        await database.all("update housekeeping set last_at = clock()")
        recovered = await steps.recover(database, 1e6, 10.0)
        assert (recovered.lost, recovered.timed_out) == (1, 0)
        taken = []
        while (step := await steps.claim(database, "masks", "worker")) is not None:
            taken.append(step.number)
            await steps.finish(database, step, PartDone("parts/x", report_of(1)))
        assert sorted(taken) == [1, 2, 3, 4, 5]
        join = await steps.claim(database, "files", "worker")
        assert join is not None
        assert (join.job, join.stage) == (name(5), "join")
        owed = await deliveries.begin(database)
        assert owed is not None
        assert owed.request_id == name(2)


@pytest.mark.parametrize(
    ("preset", "result"),
    [
        ("apng", {"options": {"kind": "cutout"}}),
        ("webm_vp9", {"options": {"kind": "cutout", "auto_zoom": True}}),
    ],
)
async def test_a_clip_that_was_cut_and_is_cut_no_more_is_masked_again_in_one_piece(
    old_database: str, preset: str, result: dict[str, object]
) -> None:
    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute(
            "update jobs set preset = %s, result = %s where id = %s",
            (preset, json.dumps(result), name(5)),
        )
    await migrate(old_database)
    async with Database(old_database, connections=2, **PATIENT) as database:
        step = await steps.claim(database, "masks", "worker")
        assert step is not None
        assert (step.job, step.number, step.args.key) == (name(5), 0, None)
        assert await steps.claim(database, "masks", "worker") is None
        await steps.finish(database, step, MaskDone("results/x", report_of(1)))
        assert (await records.read_any(database, name(5))).status is Status.COMPLETED


async def test_an_upgrade_gives_way_to_calls_that_take_the_tables_in_another_order(
    old_database: str,
) -> None:
    async with (
        await psycopg.AsyncConnection.connect(old_database) as caller,
        Database(old_database, connections=1, **PATIENT) as database,
    ):
        await caller.execute("select from steps limit 1")
        migrating = asyncio.ensure_future(migrate(old_database))
        await until(lambda: database.all(WAITING))
        await caller.execute("select from jobs limit 1 for update")
        await caller.commit()
    assert await migrating == MIGRATIONS


@pytest.mark.parametrize(
    ("found", "sentence"),
    [("foremask/1000", "of a newer foremask"), ("0009_webhook_shares.sql", "commit 427503c first")],
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
