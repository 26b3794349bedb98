"""A worker's queues: one Procrastinate worker for each, so that none waits for another."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any, LiteralString

import structlog
from procrastinate import App, PsycopgConnector, sql
from procrastinate.connector import Notify
from procrastinate.exceptions import NoResult
from procrastinate.manager import get_channel_for_queues
from procrastinate.worker import Worker

from foremask.errors import ServiceUnavailable
from foremask.service.jobs.database import Database, Refused
from foremask.service.jobs.process_totals import Fleet
from foremask.service.worker.tasks import Leases, make_app
from foremask.service.worker.worker_context import WorkerContext

RESTART_S = 1.0
HEARTBEAT_S = 10.0  # leases are ours; the engine forgets a worker after 30 s
LISTENERS = 2  # so many hear a notification: of more, most would ask in vain for its one ticket
TURN_S = 30.0  # then others listen, so that the same ones do not get all
POLLS_PER_S = 20.0  # of all who do not listen, for each queue
POLL_S = 1.0, 5.0  # at least and at most, between two polls of one worker
LISTENERS_POLL_S = 2.0  # no notification is sent when a retry falls due
NEVER_S = 1e9
EVERY_JOB = '{"type": "job_inserted", "job_id": 0}'
"""The notification that the engine gets for tickets that may have come before we listened."""

log = structlog.get_logger(__name__)


async def serve_queues(work: WorkerContext, at_once: Mapping[str, int], drain_s: float) -> None:
    """Serve each queue, so many tasks at once, until cancelled; they have ``drain_s`` to end."""
    connector, leases = SharedConnector(work.database, work.fleet, at_once), Leases()
    app = make_app(work, connector, leases)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leases.keep(work))
        tasks.create_task(connector.keep_listening())
        for queue, number in at_once.items():
            tasks.create_task(_serve_queue(app, work.fleet, queue, number, drain_s))


def is_listener(fleet: Fleet, now_s: float) -> bool:
    """Whether this worker listens for new work now; workers take turns, and the others poll."""
    turn = int(now_s // TURN_S)
    return (fleet.place - turn * LISTENERS) % fleet.workers < LISTENERS


def poll_s(fleet: Fleet, now_s: float) -> float:
    """Seconds between this worker's polls for work that no notification has announced."""
    if is_listener(fleet, now_s):
        return LISTENERS_POLL_S
    shortest, longest = POLL_S
    return min(max(fleet.workers / POLLS_PER_S, shortest), longest)


class SharedConnector(PsycopgConnector):
    """The engine on the worker's own pool of connections, with one more while it listens.

    Like all others, its statements are repeated when a connection was lost. A ticket that was taken
    while its answer was lost is missed, and replaced by `steps.recover`.
    """

    def __init__(self, database: Database, fleet: Fleet, queues: Iterable[str]) -> None:
        super().__init__()
        self._database, self._fleet = database, fleet
        self._channels = list(get_channel_for_queues(queues))
        self._heard: dict[str, Notify] = {}

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:  # noqa: ANN401
        await self.execute_query_all_async(query, **arguments)

    async def execute_query_one_async(
        self,
        query: LiteralString,
        **arguments: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        rows = await self.execute_query_all_async(query, **arguments)
        if not rows:
            raise NoResult
        return rows[0]

    async def execute_query_all_async(
        self,
        query: LiteralString,
        **arguments: Any,  # noqa: ANN401
    ) -> list[dict[str, Any]]:
        """As documented there; a row that is gone already is as good as finished."""
        try:
            return await self._database.all(query, self._wrap_json(arguments))
        except Refused:
            if query != sql.queries["finish_job"]:
                raise
            return []

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Have ``on_notification`` called by `keep_listening`, until cancelled."""
        mine = dict.fromkeys(channels, on_notification)
        self._heard |= mine
        try:
            await asyncio.sleep(NEVER_S)
        finally:
            for channel in mine:
                self._heard.pop(channel, None)

    async def keep_listening(self) -> None:
        """Listen for all queues on one connection while it is our turn; until cancelled."""
        while True:
            if is_listener(self._fleet, time.time()):
                try:
                    await self._listen()
                except ServiceUnavailable as error:
                    log.info("queue.not_listening", error=error.details)
            await asyncio.sleep(RESTART_S)

    async def _listen(self) -> None:
        notifications = self._database.notifications(self._channels, TURN_S / 4)
        async with aclosing(notifications):
            async for notification in notifications:
                if notification is None:
                    if not is_listener(self._fleet, time.time()):
                        return
                    heard = [(channel, EVERY_JOB) for channel in self._heard]
                else:
                    heard = [notification]
                for channel, payload in heard:
                    if (hear := self._heard.get(channel)) is not None:
                        await hear(channel=channel, payload=payload)


async def _serve_queue(app: App, fleet: Fleet, queue: str, at_once: int, drain_s: float) -> None:
    """Serve one queue; starts over whenever the engine loses its database."""
    while True:
        worker = Worker(
            app,
            queues=[queue],
            name=queue,
            concurrency=at_once,
            fetch_job_polling_interval=POLL_S[0],
            abort_job_polling_interval=NEVER_S,
            update_heartbeat_interval=HEARTBEAT_S,
            delete_jobs="always",
            shutdown_graceful_timeout=drain_s,
            install_signal_handlers=False,
        )
        pacing = asyncio.create_task(_pace(worker, fleet))
        try:
            await worker.run()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001  # the engine lets its driver's errors through
            log.warning("queue.lost", queue=queue, error=repr(error))
            if (task := asyncio.current_task()) and task.cancelling():
                return  # it was unregistering itself
        finally:
            pacing.cancel()
        await asyncio.sleep(RESTART_S)


async def _pace(worker: Worker, fleet: Fleet) -> None:
    while True:
        worker.fetch_job_polling_interval = poll_s(fleet, time.time())
        await asyncio.sleep(RESTART_S)
