"""Creates and upgrades the database's tables, and checks their version."""

import asyncio
import re
import time
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import psycopg

from foremask.errors import ServiceUnavailable
from foremask.service.jobs.database import Database

VERSION = 26
OLDEST = 16  # oldest tables that can be upgraded, those of commit 427503c
MIGRATING = 0x666F7265  # "fore": key of the advisory lock held while the schema changes
WAIT_S = 0.2  # lock timeout, and pause before a retry; below PostgreSQL's deadlock_timeout (1 s)
PATIENCE_S = 120.0
ENGINE = "procrastinate/"


async def migrate(url: str) -> list[str]:
    """Create or upgrade our tables and Procrastinate's; return the names of the applied scripts.

    Each script is one transaction; concurrent callers wait for each other. Raises
    ServiceUnavailable if the database cannot be reached, is not in UTF-8, has tables newer than
    `VERSION` or older than `OLDEST`, or if other processes lock a table for `PATIENCE_S`.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"the database cannot be reached: {error}") from error
    async with connection:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise ServiceUnavailable(
                f"the database's encoding is {encoding}, and names can have any character: make one"
                " with `create database NAME encoding 'UTF8' template template0`"
            )
        await connection.execute("select pg_advisory_lock(%s)", (MIGRATING,))
        await connection.execute(
            "create table if not exists schema_scripts"
            " (name text primary key, applied_at timestamptz not null default now())"
        )
        cursor = await connection.execute("select name from schema_scripts")
        applied = {name for (name,) in await cursor.fetchall()}
        scripts = _engine_scripts(applied) | {f"foremask/{VERSION}": _script(_version(applied))}
        missing = {name: sql for name, sql in scripts.items() if name not in applied}
        await connection.execute(f"set lock_timeout = '{WAIT_S}s'".encode())
        for name, sql in missing.items():
            await _apply(connection, name, sql)
    return [name for name, sql in missing.items() if sql]


async def _apply(connection: psycopg.AsyncConnection, name: str, sql: str) -> None:
    # A script that waits for a lock while it holds others can deadlock with another process. So it
    # is rolled back at its lock timeout, and starts again.
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with connection.transaction():
                if sql:
                    await connection.execute(sql.encode())
                await connection.execute("insert into schema_scripts (name) values (%s)", (name,))
                return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > end:
                raise ServiceUnavailable(
                    f"the tables are in use for {PATIENCE_S:.0f} s: stop the API and the workers"
                ) from error
        await asyncio.sleep(WAIT_S)


async def check_schema(database: Database) -> None:
    """Raise ServiceUnavailable unless the tables are of version `VERSION`."""
    known = await database.one("select to_regclass('schema_scripts') is not null as there")
    rows = await database.all("select name from schema_scripts") if known and known["there"] else []
    found = _version(row["name"] for row in rows)
    if found > VERSION:
        raise _newer(found)
    if found < VERSION:
        has = f"tables of version {found}" if found else "no tables of foremask"
        raise ServiceUnavailable(
            f"the database has {has}: run `foremask migrate` for version {VERSION}"
        )


def _engine_scripts(applied: Iterable[str]) -> dict[str, str]:
    from procrastinate.schema import SchemaManager  # imported here: the API does not need it

    changes = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    if any(name.startswith(ENGINE) for name in applied):
        return {ENGINE + each.name: each.read_text(encoding="utf-8") for each in changes}
    whole = {ENGINE + "schema.sql": str(SchemaManager.get_schema())}
    return whole | {ENGINE + each.name: "" for each in changes}


def _script(found: int) -> str:
    if found > VERSION:
        raise _newer(found)
    if 0 < found < OLDEST:
        raise ServiceUnavailable(
            f"the database has tables of version {found}, older than {OLDEST}:"
            " run the `foremask migrate` of commit 427503c first"
        )
    sql = resources.files(__package__) / "sql"
    whole = (sql / "schema.sql").read_text(encoding="utf-8")
    if not found:
        return whole
    functions = whole[whole.index("\n-- Functions.") :]
    functions = re.sub(r"(?m)^create (function|trigger)", r"create or replace \1", functions)
    return (sql / "upgrade.sql").read_text(encoding="utf-8") + functions


def _newer(found: int) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the database has tables of version {found}, of a newer foremask; update this one"
    )


def _version(names: Iterable[str]) -> int:
    # Up to version 16, a script's name is its version and a title, without `foremask/`.
    numbers = (re.match(r"(?:foremask/)?(\d+)", name) for name in names)
    return max((int(number[1]) for number in numbers if number), default=0)
