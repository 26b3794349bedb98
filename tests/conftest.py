"""Shared fixtures: a PostgreSQL server per process, and a migrated database per module."""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from foremask.service.jobs.database import Database
from foremask.service.jobs.schema import migrate
from foremask.service.jobs.tokens import create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from tests.support.patience import PATIENT
from tests.support.postgres import open_directory, started
from tests.support.programs import Run


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests by the fixtures that they use."""
    for name in ("postgres", "browser"):
        if name in getattr(item, "fixturenames", ()):
            item.add_marker(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as failed in CI, where nobody reads what was skipped."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI is set: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def logging_is_put_back() -> Iterator[None]:
    """Commands that run in this process change the handlers of its log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support import networks  # of few tests

    return networks.redness(tmp_path_factory.mktemp("model"), bias=-5)


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
