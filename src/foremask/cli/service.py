"""``foremask migrate`` and ``webhook``: what an operator does to the service's database."""

import asyncio
import os

from cyclopts import App

from foremask.cli.exits import say
from foremask.cli.storage import database_url, migrated
from foremask.engine.schema import migrate as bring_up
from foremask.jobs import deliveries
from foremask.settings import read_settings

webhook = App(name="webhook", help="The callbacks that jobs owe.")


def migrate() -> None:
    """Bring the database's tables up to date; `serve`, `api` and `worker` do it by themselves."""
    with database_url(read_settings(os.environ)) as url:
        applied = asyncio.run(bring_up(url))
    say(*[f"applied {name}" for name in applied] or ["nothing to do"])


@webhook.command
def redeliver(request_id: str, /) -> None:
    """Send a job's webhook once more, with the same id and bytes.

    Args:
        request_id: The job.
    """

    async def owe(url: str) -> None:
        async with migrated(url) as database:
            await deliveries.redeliver(database, request_id)

    with database_url(read_settings(os.environ)) as url:
        asyncio.run(owe(url))
    say(f"{request_id}: its webhook is on its way")
