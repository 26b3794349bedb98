"""Wakes held callers when their jobs have ended, by one query for all of them."""

import asyncio

from foremask.errors import ServiceUnavailable
from foremask.service.jobs.database import Database

ASK_EVERY_S = 0.25


class Ends:
    """The ends of jobs; for one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._asking: asyncio.Task[None] | None = None
        self.is_stopping = False

    def stop(self) -> None:
        """Hold nobody any more."""
        self.is_stopping = True
        for ended in set().union(*self._waiting.values()):
            ended.set()

    async def wait(self, request_id: str, seconds: float) -> None:
        """Return when the job has ended, or after this time; at once when the process stops."""
        if self.is_stopping:
            return
        ended = asyncio.Event()
        self._waiting.setdefault(request_id, set()).add(ended)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[request_id].discard(ended)
            if not self._waiting[request_id]:
                del self._waiting[request_id]

    async def _ask(self) -> None:
        while self._waiting:
            try:
                rows = await self._database.all(
                    "select id from jobs where id = any(%s) and ended_at is not null",
                    (list(self._waiting),),
                )
            except ServiceUnavailable:
                rows = []  # callers see that when they read the record
            for row in rows:
                for ended in self._waiting.get(row["id"], ()):
                    ended.set()
            await asyncio.sleep(ASK_EVERY_S)
