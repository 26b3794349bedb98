"""Fixtures: a PostgreSQL server per process, and a migrated database per module."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from foremask.service.jobs.database import Database
from foremask.service.jobs.schema import migrate
from foremask.service.jobs.tokens import create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from tests.support.patience import PATIENT
from tests.support.postgres import open_directory, started


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with open_directory() as root, started(root) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    asyncio.run(migrate(new_database(postgres, "template_foremask")))
    return "template_foremask"


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres, template: str) -> str:
    return new_database(postgres, options=f"template {template}")


def new_database(postgres: EmbeddedPostgres, name: str = "", options: str = "") -> str:
    """Make an empty database, or one of the template in ``options``, and return its URL."""
    name = name or f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name} {options}".encode())
        # Tests kill processes, not the machine: no commit needs to wait for the disk.
        connection.execute(f"alter database {name} set synchronous_commit = off".encode())
    return postgres.url.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, connections=16, **PATIENT) as opened:
        yield opened


@pytest.fixture
async def token(database: Database) -> uuid.UUID:
    return (await create_token(database, "any"))[1].id
