"""What several areas' tests share.

One PostgreSQL server for the session, one database for a module.
"""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from foremask.service.jobs.database import Database, open_database
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.worker.queue_schema import migrate


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The real server, in a directory of its own that its user gets to."""
    root = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    root.chmod(0o755)
    server = EmbeddedPostgres(root)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres) -> str:
    """A migrated database that only this module uses."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        # Tests kill processes, not the machine: no commit needs to wait for the disk.
        connection.execute(f"alter database {name} set synchronous_commit = off".encode())
    url = postgres.url.replace("/postgres?", f"/{name}?")
    asyncio.run(migrate(url))
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The module's database, open for one test."""
    async with open_database(database_url, connections=16, patience_s=5.0) as opened:
        yield opened
