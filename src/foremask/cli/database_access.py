"""Finds a database for a command: the operator's, a running service's, or one started for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from foremask.errors import SettingsInvalid
from foremask.service.jobs.database import Database, open_database
from foremask.service.jobs.schema import check_schema
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.settings import Settings


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """Where the database is, for the length of a block."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    server = EmbeddedPostgres(settings.data_dir, settings.postgres_bin)
    try:
        server.start()
    except SettingsInvalid:
        if not asyncio.run(_answers(server.url)):
            raise
        yield server.url  # a foremask that is running has it
        return
    try:
        yield server.url
    finally:
        server.stop()


@asynccontextmanager
async def current_database(url: str) -> AsyncIterator[Database]:
    """The database, open; raises ServiceUnavailable when its tables are of another foremask."""
    async with open_database(url, connections=1) as database:
        await check_schema(database)
        yield database


async def _answers(url: str) -> bool:
    async with open_database(url, connections=1, patience_s=0.0) as database:
        return await database.answers()
