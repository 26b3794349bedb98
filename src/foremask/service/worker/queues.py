"""Serves a worker's queues with Procrastinate, whose jobs are called tickets here."""

import asyncio
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import structlog
from procrastinate import App, PsycopgConnector, sql
from procrastinate.connector import Notify
from procrastinate.exceptions import NoResult
from procrastinate.manager import get_channel_for_queues
from procrastinate.worker import Worker

from foremask import errors
from foremask.service.jobs import deliveries, records, steps
from foremask.service.jobs.database import Database, OtherTables, Refused
from foremask.service.jobs.deliveries import sign
from foremask.service.jobs.process_totals import Fleet
from foremask.service.jobs.records import status_body
from foremask.service.jobs.steps import Beat, Step, StepKey
from foremask.service.observability import metrics
from foremask.service.observability.traces import TraceSpan, span
from foremask.service.sandbox.pool import ChildDied
from foremask.service.worker.job_stages import RunningStep, StepProgress, WorkerContext

WEBHOOK_S = 10.0
RESTART_S = 1.0
HEARTBEAT_S = 10.0  # Procrastinate forgets a worker that is silent for 30 s
LISTENERS = 2  # workers that listen at a time: few, since a notification announces only one ticket
TURN_S = 30.0  # after this time, other workers listen, so that all get steps
POLLS_PER_S = 20.0  # polls of each queue by all workers that do not listen
POLL_S = 1.0, 5.0  # least and most time between polls of a worker that does not listen
LISTENERS_POLL_S = 2.0  # listeners poll too, since no notification says that a retry is due
NEVER_S = 1e9
EVERY_JOB = '{"type": "job_inserted", "job_id": 0}'  # makes Procrastinate fetch all tickets

log = structlog.get_logger(__name__)


class Leases:
    def __init__(self) -> None:
        self._held: dict[StepKey, tuple[Step, StepProgress, asyncio.Future[None]]] = {}

    @contextmanager
    def held(self, step: Step, progress: StepProgress) -> Iterator[asyncio.Future[None]]:
        """Let `keep` renew the step's lease during the block.

        The future gets None when the lease is lost, or WorkerCrashed when the step stalls.
        """
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt = step.key
        self._held[attempt] = step, progress, lost
        try:
            yield lost
        finally:
            del self._held[attempt]
            lost.cancel()

    async def keep(self, work: WorkerContext) -> None:
        while True:
            await asyncio.sleep(work.timing.renew_s)
            for _, progress, lost in self._held.values():
                if progress.idle_s > work.timing.stall_s and not lost.done():
                    done, idle_s = progress.frames_done, progress.idle_s
                    text = f"no frame was finished for {idle_s:.0f} s after {done} frames"
                    limit = work.timing.stall_s
                    lost.set_exception(errors.WorkerCrashed(text, limit=limit, actual=idle_s))
            asked = {key: held for key, held in self._held.items() if not held[2].done()}
            beats = [
                Beat(step, now.frames_done, now.idle_s, now.left_s, now.take_newest())
                for step, now, _ in asked.values()
            ]
            try:
                kept = await steps.renew(work.database, beats, work.timing.lease_s)
            except errors.ServiceUnavailable:
                continue  # without the database, no other worker claims these steps: docs/adr/0020
            for attempt, (_, _, lost) in asked.items():
                if attempt not in kept and not lost.done():
                    lost.set_result(None)


async def deliver_next(work: WorkerContext) -> None:
    delivery = await deliveries.begin(work.database)
    if delivery is None:
        return
    with (
        structlog.contextvars.bound_contextvars(
            request_id=delivery.request_id, attempt=delivery.attempt
        ),
        span("webhook", delivery.traceparent) as made,
    ):
        body = delivery.payload
        if body is None:
            record = await records.read_any(work.database, delivery.request_id)
            body = msgspec.json.encode(status_body(record, work.objects.link))
            body = await deliveries.freeze(work.database, delivery.id, body)
        timestamp = str(int(time.time()))
        signature = sign(delivery.webhook_key, delivery.request_id, timestamp, body)
        headers = {
            "Content-Type": "application/json",
            "Bria-Webhook-Id": delivery.request_id,
            "Bria-Webhook-Timestamp": timestamp,
            "Bria-Webhook-Signature": signature,
        }
        status: int | None = None
        problem: str | None = None
        began = time.monotonic()
        try:
            status = await work.outbound.post(delivery.url, body, headers, timeout_s=WEBHOOK_S)
        except errors.ForemaskError as error:
            problem = error.details
            if isinstance(error, errors.UrlForbidden | errors.UrlStatus) and error.actual:
                status = int(error.actual)
        seconds = time.monotonic() - began
        outcome = await deliveries.record(work.database, delivery, status)
        metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc()
        made.note(**{"http.response.status_code": status, "outcome": outcome})
        log.info(
            "webhook.attempted", http_status=status, outcome=outcome, error=problem, seconds=seconds
        )


async def do_next(work: WorkerContext, queue: str, leases: Leases) -> None:
    """Claim the next step of the queue and run it, if any step is ready (docs/adr/0090)."""
    try:
        step = await steps.claim(
            work.database, queue, work.worker, work.timing.lease_s, work.last_served.get(queue)
        )
    except OtherTables:
        return  # run_maintenance raises OtherTables too, which ends the worker
    if step is not None:
        work.last_served[queue] = step.token
        await run_step(work, step, leases)


async def run_step(work: WorkerContext, step: Step, leases: Leases) -> None:
    scratch = work.scratch / f"{step.stage}-{uuid.uuid4()}"
    with (
        structlog.contextvars.bound_contextvars(request_id=step.job, attempt=step.attempt),
        span(step.stage, step.traceparent, number=step.number) as made,
    ):
        began = time.monotonic()
        try:
            outcome = await _run_with_lease(work, step, scratch, leases, made)
            made.note(outcome=outcome)
            if outcome in ("lost", "stale"):
                await steps.charge_lost(work.database, step)
            if outcome != "done":
                await _tidy(work, step)
            metrics.STEP_SECONDS.labels(step.stage, outcome).observe(time.monotonic() - began)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def _run_with_lease(
    work: WorkerContext, step: Step, scratch: Path, leases: Leases, made: TraceSpan
) -> str:
    """Run the step until it ends or its lease is lost; record and return the outcome."""
    step_log = log.bind(step=step.name, attempt=step.attempt)
    advance = StepProgress()
    doing = asyncio.ensure_future(RunningStep(work, step, scratch, advance).run())
    try:
        with leases.held(step, advance) as lost:
            either: set[asyncio.Future[Any]] = {doing, lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                await _stop(doing)
                step_log.info("step.lost", reason=lost.exception() or "taken away")
                lost.result()  # raises WorkerCrashed if the step made no progress
                return "lost"
            done = doing.result()
            if not await _recorded(lambda: steps.finish(work.database, step, done), step_log):
                metrics.FENCED.inc()
                step_log.warning("step.stale")
                return "stale"
    except asyncio.CancelledError:
        leaving = errors.ServiceUnavailable("the worker was stopped")
        giving_back = steps.fail(work.database, step, leaving, outcome="given back", retry_s=0.0)
        await asyncio.shield(giving_back)
        raise
    except Exception as error:  # noqa: BLE001  # the one catch-all: every error is recorded
        known, outcome, retry_s = _classified(work, step, error)
        kept = await _recorded(
            lambda: steps.fail(work.database, step, known, outcome=outcome, retry_s=retry_s),
            step_log,
        )
        if not kept:
            metrics.FENCED.inc()
        metrics.refused(known.reason)
        made.note(**{"error.type": known.reason})
        step_log.warning(
            "step.failed",
            kept=kept,
            error=repr(error),
            notes=getattr(error, "__notes__", None),  # the child's traceback or stderr
            exc_info=not isinstance(error, errors.ForemaskError | ChildDied | OSError),
        )
        return outcome
    else:
        return "done"
    finally:
        await _stop(doing)


async def _recorded(
    record: Callable[[], Awaitable[bool]], step_log: structlog.stdlib.BoundLogger
) -> bool:
    """Record how a step ended, once the database can. An unrecorded end would count as a crash."""
    while True:
        try:
            return await record()
        except OtherTables:
            raise
        except errors.ServiceUnavailable as error:
            step_log.warning("step.unrecorded", details=error.details)


async def _tidy(work: WorkerContext, step: Step) -> None:
    """Delete the files of an unsuccessful attempt, since its job may already be swept."""
    prefixes = {
        "ingest": (f"sources/{step.job}/{step.attempt}", f"segments/{step.job}/{step.attempt}"),
        "segment": (
            f"parts/{step.job}/{step.number}/{step.attempt}",
            f"results/{step.job}/segment-{step.attempt}",
        ),
        "join": (f"results/{step.job}/join-{step.attempt}",),
    }
    try:
        # A successful `finish` that is repeated after a lost connection also reports "stale".
        if not await steps.is_done(work.database, step):
            for prefix in prefixes[step.stage]:
                await work.objects.delete_under(prefix)
    except errors.ServiceUnavailable as error:
        log.warning("step.not_tidied", step=step.name, details=error.details)


def _classified(
    work: WorkerContext, step: Step, error: Exception
) -> tuple[errors.ForemaskError, str, float | None]:
    timing = work.timing
    match error:
        # An unreachable store or a full disk is not the clip's fault: retry until the time limit.
        case errors.ServiceUnavailable() | errors.Overloaded() | errors.StorageFull():
            return error, "unavailable", timing.unavailable_retry_s
        case OSError():
            known = errors.ServiceUnavailable(f"the worker's disk says: {error}")
            return known, "unavailable", timing.unavailable_retry_s
        case errors.UrlUnreachable():
            return error, "crashed", timing.unreachable_retry_s
        case ChildDied():
            died = errors.WorkerCrashed(f"the process that worked on this clip died: {error}")
            return died, "crashed", 0.0
        case errors.Failed() if not isinstance(error, errors.ObjectLost | errors.TimedOut):
            return error, "crashed", 0.0
        case errors.ForemaskError():
            return error, "failed", None
        case _:
            unforeseen = f"an unforeseen error; quote the request id {step.job}"
            return errors.Internal(unforeseen), "crashed", 0.0


async def _stop(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


async def serve_queues(work: WorkerContext, at_once: Mapping[str, int], drain_s: float) -> None:
    """Run up to ``at_once`` tasks of each queue; when cancelled, give them ``drain_s`` to end."""
    connector, leases = SharedConnector(work.database, work.fleet, at_once), Leases()
    app = App(connector=connector)
    for name in ("files", "masks"):
        app.task(name=name, queue=name)(partial(do_next, work, name, leases))
    app.task(name="webhooks", queue="webhooks")(partial(deliver_next, work))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leases.keep(work))
        tasks.create_task(connector.keep_listening())
        for queue, number in at_once.items():
            tasks.create_task(_serve_queue(app, work.fleet, queue, number, drain_s))


def is_listener(fleet: Fleet, now_s: float) -> bool:
    turn = int(now_s // TURN_S)
    return (fleet.index - turn * LISTENERS) % fleet.workers < LISTENERS


def poll_s(fleet: Fleet, now_s: float) -> float:
    if is_listener(fleet, now_s):
        return LISTENERS_POLL_S
    shortest, longest = POLL_S
    return min(max(fleet.workers / POLLS_PER_S, shortest), longest)


class SharedConnector(PsycopgConnector):
    """Runs Procrastinate's statements on the worker's connections, and listens on another one.

    If a connection is lost, the statement is repeated. If the result with a ticket is lost,
    `steps.recover` replaces the ticket.
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
        while True:
            try:
                return await self._database.all(query, self._wrap_json(arguments))
            except Refused:
                if query != sql.queries["finish_job"]:  # refused if the ticket's row is missing
                    raise
                return []
            except OtherTables:
                raise
            except errors.ServiceUnavailable as error:
                # Procrastinate would end, and cancel steps that are under way.
                log.warning("queue.waits", details=error.details)
            await asyncio.sleep(RESTART_S)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Let `keep_listening` call ``on_notification`` for the channels, until cancelled."""
        mine = dict.fromkeys(channels, on_notification)
        self._heard |= mine
        try:
            await asyncio.sleep(NEVER_S)
        finally:
            for channel in mine:
                self._heard.pop(channel, None)

    async def keep_listening(self) -> None:
        while True:
            if is_listener(self._fleet, time.time()):
                try:
                    await self._listen()
                except errors.ServiceUnavailable as error:
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
    """Serve one queue until cancelled; restart when Procrastinate loses the database."""
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
        except Exception as error:  # noqa: BLE001  # Procrastinate passes on errors of its driver
            log.warning("queue.lost", queue=queue, error=repr(error))
            if (task := asyncio.current_task()) and task.cancelling():
                return  # cancelled: Procrastinate failed to unregister the worker
        finally:
            pacing.cancel()
        await asyncio.sleep(RESTART_S)


async def _pace(worker: Worker, fleet: Fleet) -> None:
    while True:
        worker.fetch_job_polling_interval = poll_s(fleet, time.time())
        await asyncio.sleep(RESTART_S)
