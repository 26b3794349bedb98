"""Creates the database's tables, and checks their version."""

import re
from collections.abc import Iterable
from importlib import resources

import psycopg

from foremask.errors import ServiceUnavailable
from foremask.service.jobs.database import Database, Row

VERSION = 27  # the first of 1.0: older tables were never released
MIGRATING = 0x666F7265  # "fore": key of the advisory lock held while the schema changes
SQL = resources.files("foremask.service.jobs") / "sql"


async def migrate(url: str) -> list[str]:
    """Create the tables and functions in a new database; return the names of the applied scripts.

    It is one transaction, and concurrent callers wait for each other. Raises ServiceUnavailable
    if the database cannot be reached, is not in UTF-8, or has tables of another version.
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
        found = _version(name for (name,) in await cursor.fetchall())
        if found == VERSION:
            return []
        if found > VERSION:
            raise _newer(found)
        if found:
            raise ServiceUnavailable(
                f"the database has tables of version {found}, from before foremask 1.0, which no"
                " version upgrades: make a new database"
            )
        script = f"foremask/{VERSION}"
        async with connection.transaction():
            for file in ("tables.sql", "functions.sql"):
                await connection.execute((SQL / file).read_bytes())
            await connection.execute("insert into schema_scripts (name) values (%s)", (script,))
    return [script]


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


def _newer(found: int) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the database has tables of version {found}, of a newer foremask; update this one"
    )


def _version(names: Iterable[str]) -> int:
    # Up to version 16, a script's name is its version and a title, without `foremask/`.
    numbers = (re.match(r"(?:foremask/)?(\d+)", name) for name in names)
    return max((int(number[1]) for number in numbers if number), default=0)
