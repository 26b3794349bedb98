"""A worker's lanes: one Procrastinate worker for each queue, so that none waits for another."""

import asyncio
from collections.abc import Mapping

import structlog
from procrastinate import App

from foremask.service.worker.tasks import make_app
from foremask.service.worker.worker_context import WorkerContext

RESTART_S = 1.0
POLL_S = 3.0  # notifications come at once; this finds what they miss, and every idle worker pays it
HEARTBEAT_S = 5.0  # leases are ours; the engine forgets a worker after 30 s

log = structlog.get_logger(__name__)


async def serve_queues(work: WorkerContext, at_once: Mapping[str, int], drain_s: float) -> None:
    """Serve each queue, so many steps of it at once, until cancelled.

    Then what runs has ``drain_s`` to end before it is given back.
    """
    app = make_app(work)
    async with app.open_async(), asyncio.TaskGroup() as queue_tasks:
        for queue, number in at_once.items():
            queue_tasks.create_task(_serve_queue(app, queue, number, drain_s))


async def _serve_queue(app: App, queue: str, at_once: int, drain_s: float) -> None:
    """Serve one queue; starts over whenever the engine loses its database."""
    while True:
        try:
            await app.run_worker_async(
                queues=[queue],
                name=queue,
                concurrency=at_once,
                fetch_job_polling_interval=POLL_S,
                update_heartbeat_interval=HEARTBEAT_S,
                delete_jobs="always",
                shutdown_graceful_timeout=drain_s,
                install_signal_handlers=False,
            )
        except Exception as error:  # noqa: BLE001  # the engine lets its driver's errors through
            log.warning("queue.lost", queue=queue, error=repr(error))
            if (task := asyncio.current_task()) and task.cancelling():
                return  # it was taking leave
        await asyncio.sleep(RESTART_S)
