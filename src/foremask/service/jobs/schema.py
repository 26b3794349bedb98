"""Creates and upgrades the database's tables, and checks their version."""

import asyncio
import re
import time
from collections.abc import Iterable
from importlib import resources

import psycopg

from foremask.errors import ServiceUnavailable
from foremask.service.jobs.database import Database, Row

VERSION = 27
OLDEST = 16  # oldest tables that can be upgraded, those of commit 427503c
MIGRATING = 0x666F7265  # "fore": key of the advisory lock held while the schema changes
WAIT_S = 0.2  # lock timeout, and pause before a retry; below PostgreSQL's deadlock_timeout (1 s)
PATIENCE_S = 120.0
SQL = resources.files("foremask.service.jobs") / "sql"


async def migrate(url: str) -> list[str]:
    """Create or upgrade the tables and functions; return the names of the applied scripts.

    A new database gets ``tables.sql``. An older one gets the scripts in ``migrations`` of later
    versions, in their order. Both then get ``functions.sql``. Each script is one transaction, the
    last one with the functions; concurrent callers wait for each other. Raises
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
        scripts = _scripts_after(_version(applied))
        await connection.execute(f"set lock_timeout = '{WAIT_S}s'".encode())
        for name, script in scripts.items():
            await _apply(connection, name, script)
    return list(scripts)


async def _apply(connection: psycopg.AsyncConnection, name: str, script: str) -> None:
    # A script that waits for a lock while it holds others can deadlock with another process. So it
    # is rolled back at its lock timeout, and starts again.
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with connection.transaction():
                await connection.execute(script.encode())
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
    rows: list[Row] = []
    if known is not None and known["there"]:
        rows = await database.all("select name from schema_scripts")
    found = _version(row["name"] for row in rows)
    if found > VERSION:
        raise _newer(found)
    if found < VERSION:
        has = "no tables of foremask"
        if found:
            has = f"tables of version {found}"
        raise ServiceUnavailable(
            f"the database has {has}: run `foremask migrate` for version {VERSION}"
        )


def _scripts_after(found: int) -> dict[str, str]:
    """Return the scripts that bring tables of version ``found`` (0: none) to `VERSION`."""
    if found > VERSION:
        raise _newer(found)
    if 0 < found < OLDEST:
        raise ServiceUnavailable(
            f"the database has tables of version {found}, older than {OLDEST}:"
            " run the `foremask migrate` of commit 427503c first"
        )
    latest = f"foremask/{VERSION}"
    functions = (SQL / "functions.sql").read_text(encoding="utf-8")
    if not found:
        return {latest: (SQL / "tables.sql").read_text(encoding="utf-8") + functions}
    numbered = {_version([each.name]): each for each in (SQL / "migrations").iterdir()}
    later = {
        f"foremask/{number}": numbered[number].read_text(encoding="utf-8")
        for number in sorted(numbered)
        if number > found
    }
    if later:
        later[latest] += re.sub(
            r"(?m)^create (function|trigger)", r"create or replace \1", functions
        )
    return later


def _newer(found: int) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the database has tables of version {found}, of a newer foremask; update this one"
    )


def _version(names: Iterable[str]) -> int:
    # Up to version 16, a script's name is its version and a title, without `foremask/`.
    numbers = (re.match(r"(?:foremask/)?(\d+)", name) for name in names)
    return max((int(number[1]) for number in numbers if number), default=0)
