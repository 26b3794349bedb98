"""Finds a database for a command: the operator's, a running service's, or one started for it."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from foremask.errors import SettingsInvalid
from foremask.service.jobs.database import Database, open_database
from foremask.service.jobs.schema import check_schema
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.settings import Settings, read_settings


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


def ask[T](work: Callable[[Database], Awaitable[T]]) -> T:
    """Do ``work`` with the database that the environment names.

    Raises ServiceUnavailable when its tables are of another foremask.
    """

    async def opened(url: str) -> T:
        async with open_database(url, connections=1) as database:
            await check_schema(database)
            return await work(database)

    with database_url(read_settings(os.environ)) as url:
        return asyncio.run(opened(url))


async def _answers(url: str) -> bool:
    async with open_database(url, connections=1, patience_s=0.0) as database:
        return await database.answers()
