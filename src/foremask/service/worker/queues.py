"""Serves a worker's queues: listens to PostgreSQL, claims what is ready, and runs it."""

import asyncio
import math
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from foremask import errors
from foremask.service.jobs import admission, deliveries, records, steps
from foremask.service.jobs.database import OtherTables
from foremask.service.jobs.deliveries import sign
from foremask.service.jobs.life import Event
from foremask.service.jobs.process_totals import Fleet
from foremask.service.jobs.records import status_body
from foremask.service.jobs.steps import Beat, Step, StepDone, StepKey
from foremask.service.observability import metrics
from foremask.service.observability.traces import TraceSpan, span
from foremask.service.sandbox.pool import ChildDied
from foremask.service.worker.job_stages import (
    Given,
    RunningStep,
    StepProgress,
    WorkerContext,
    may_be_cut,
)

WEBHOOK_S = 10.0
RESTART_S = 1.0
TICK_S = 0.5
LISTENERS = 2  # workers that listen at a time: few, since all that listen ask for the same step
TURN_S = 30.0  # after this time, other workers listen, so that all get steps
POLLS_PER_S = 20.0  # polls of each queue by all workers that do not listen
POLL_S = 1.0, 5.0  # least and most time between polls of a worker that does not listen
LISTENERS_POLL_S = 2.0  # listeners poll too, since no notification says that a retry is due
CHANNEL = "foremask_"  # and the queue's name: the channel of its notifications

type OnClaim = Callable[[], None]
"""Is called when something has been claimed; the rest of the call is an attempt at it."""

log = structlog.get_logger(__name__)


class Leases:
    def __init__(self) -> None:
        self._held: dict[StepKey, tuple[Step, StepProgress, asyncio.Future[None]]] = {}
        self._ticked_at = math.inf  # on the monotonic clock
        self._resumed_at = -math.inf  # after the last pause

    @contextmanager
    def held(self, step: Step, progress: StepProgress) -> Iterator[asyncio.Future[None]]:
        """Let `keep` renew the step's lease during the block.

        The future gets None when the lease is lost, or worker_crashed when the step stalls.
        """
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt = step.key
        self._held[attempt] = step, progress, lost
        try:
            yield lost
        finally:
            del self._held[attempt]
            lost.cancel()

    def was_paused(self, step: Step, lease_s: float) -> bool:
        """Whether this process has stood still during the step, for longer than its lease.

        All timeouts have then passed, although nothing was late.
        """
        now_s = time.monotonic()
        return now_s - self._ticked_at > lease_s or now_s - self._resumed_at < step.seconds

    async def watch_for_pauses(self, lease_s: float) -> None:
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            if now_s - self._ticked_at > lease_s:
                self._resumed_at = now_s

    async def keep(self, work: WorkerContext) -> None:
        while True:
            await asyncio.sleep(work.timing.renew_s)
            for _, progress, lost in self._held.values():
                if progress.idle_s > work.timing.stall_s and not lost.done():
                    idle_s = progress.idle_s
                    text = (
                        f"no frame was finished for {idle_s:.0f} s"
                        f" after {progress.frames_done} frames"
                    )
                    limit = work.timing.stall_s
                    lost.set_exception(
                        errors.Failed(text, reason="worker_crashed", limit=limit, actual=idle_s)
                    )
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


def no_matter() -> None: ...


async def deliver_next(work: WorkerContext, on_claim: OnClaim = no_matter) -> None:
    """Claim the next due webhook and send it, if any is due."""
    delivery = await deliveries.begin(work.database)
    if delivery is None:
        return
    on_claim()
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
            if error.reason in ("url_forbidden", "url_status") and error.actual:
                status = int(error.actual)
        seconds = time.monotonic() - began
        outcome = await deliveries.record(work.database, delivery, status)
        metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc()
        made.note(**{"http.response.status_code": status, "outcome": outcome})
        log.info(
            "webhook.attempted", http_status=status, outcome=outcome, error=problem, seconds=seconds
        )


async def do_next(
    work: WorkerContext, queue: str, leases: Leases, on_claim: OnClaim = no_matter
) -> None:
    """Claim the next step of the queue and run it, if any step is ready (docs/adr/0090)."""
    try:
        step = await steps.claim(
            work.database, queue, work.worker, work.timing.lease_s, work.last_served.get(queue)
        )
    except OtherTables:
        return  # run_maintenance raises OtherTables too, which ends the worker
    if step is not None:
        on_claim()
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
    running = RunningStep(
        work,
        step,
        scratch,
        advance,
        lambda size, optional: admission.reserve_result(
            work.database, step, size, optional, work.storage_limit
        ),
    )
    doing = asyncio.ensure_future(_run_with_given(work, running))
    try:
        with leases.held(step, advance) as lost:
            either: set[asyncio.Future[Any]] = {doing, lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                await _stop(doing)
                step_log.info("step.lost", reason=lost.exception() or "taken away")
                lost.result()  # raises worker_crashed if the step made no progress
                return "lost"
            done = doing.result()
            if not await _recorded(lambda: steps.finish(work.database, step, done), step_log):
                metrics.FENCED.inc()
                step_log.warning("step.stale")
                return "stale"
    except asyncio.CancelledError:
        await _stop(doing)
        await running.keep_network()  # before another worker may claim the step
        leaving = errors.ServiceUnavailable("the worker was stopped")
        await asyncio.shield(steps.fail(work.database, step, leaving, Event.GIVEN_BACK))
        raise
    except Exception as error:  # noqa: BLE001  # the one catch-all: every error is recorded
        known, event, retry_s = _classified(work, step, error)
        if leases.was_paused(step, work.timing.lease_s):
            known = errors.ServiceUnavailable(f"the worker was paused; after it: {known.details}")
            event, retry_s = Event.UNAVAILABLE, work.timing.unavailable_retry_s
        kept = await _recorded(
            lambda: steps.fail(work.database, step, known, event, retry_s=retry_s), step_log
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
        return event
    else:
        return "done"
    finally:
        await _stop(doing)


async def _run_with_given(work: WorkerContext, running: RunningStep) -> StepDone:
    """Read from the database what the step needs, and run it."""
    step = running.step
    given = Given()
    if step.stage == "ingest" and step.mask_key is None and may_be_cut(step.spec):
        given = Given(free_slots=await steps.free_slots(work.database, step.job))
    elif step.stage == "join":
        given = Given(results=await steps.segment_results(work.database, step.job))
    return await running.run(given)


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
) -> tuple[errors.ForemaskError, Event, float]:
    """Return the error to record, its event, and the seconds until the next attempt."""
    timing = work.timing
    match error:
        # An unreachable store or a full disk is not the clip's fault: retry until the time limit.
        case errors.ServiceUnavailable() | errors.Busy(reason="overloaded" | "storage_full"):
            return error, Event.UNAVAILABLE, timing.unavailable_retry_s
        case OSError():
            known = errors.ServiceUnavailable(f"the worker's disk says: {error}")
            return known, Event.UNAVAILABLE, timing.unavailable_retry_s
        case errors.UrlRefused(reason="url_unreachable"):
            return error, Event.CRASHED, timing.unreachable_retry_s
        case ChildDied():
            died = errors.Failed(
                f"the process that worked on this clip died: {error}", reason="worker_crashed"
            )
            return died, Event.CRASHED, 0.0
        case errors.Failed() if not isinstance(error, errors.ObjectLost | errors.TimedOut):
            return error, Event.CRASHED, 0.0
        case errors.ForemaskError():
            return error, Event.FAILED, 0.0
        case _:
            unforeseen = f"an unforeseen error; quote the request id {step.job}"
            return errors.Internal(unforeseen), Event.CRASHED, 0.0


async def _stop(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


async def serve_queues(work: WorkerContext, at_once: Mapping[str, int], drain_s: float) -> None:
    """Run up to ``at_once`` attempts of each queue.

    When this call is cancelled, they have ``drain_s`` to end.
    """
    leases = Leases()
    wakes = {queue: asyncio.Event() for queue in at_once}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leases.keep(work))
        tasks.create_task(leases.watch_for_pauses(work.timing.lease_s))
        tasks.create_task(_keep_listening(work, wakes))
        for queue, number in at_once.items():
            attempt = partial(do_next, work, queue, leases)
            if queue == "webhooks":
                attempt = partial(deliver_next, work)
            served = _Queue(queue, work.fleet, attempt, number, wakes[queue])
            tasks.create_task(served.serve(drain_s))


def is_listener(fleet: Fleet, now_s: float) -> bool:
    turn = int(now_s // TURN_S)
    return (fleet.index - turn * LISTENERS) % fleet.workers < LISTENERS


def poll_s(fleet: Fleet, now_s: float) -> float:
    if is_listener(fleet, now_s):
        return LISTENERS_POLL_S
    shortest, longest = POLL_S
    return min(max(fleet.workers / POLLS_PER_S, shortest), longest)


async def _keep_listening(work: WorkerContext, wakes: Mapping[str, asyncio.Event]) -> None:
    while True:
        if is_listener(work.fleet, time.time()):
            try:
                await _listen(work, wakes)
            except errors.ServiceUnavailable as error:
                log.info("queue.not_listening", error=error.details)
        await asyncio.sleep(RESTART_S)


async def _listen(work: WorkerContext, wakes: Mapping[str, asyncio.Event]) -> None:
    """Wake the queues that notifications name, while it is this worker's turn to listen."""
    channels = {CHANNEL + queue: wake for queue, wake in wakes.items()}
    notifications = work.database.notifications(channels, TURN_S / 4)
    async with aclosing(notifications):
        async for channel in notifications:
            if channel is not None:
                channels[channel].set()
                continue
            if not is_listener(work.fleet, time.time()):
                return
            for wake in wakes.values():  # something may have come before the worker listened
                wake.set()


class _Queue:
    """Claims what is ready in one queue, one after the other, and runs up to ``at_once`` of it."""

    def __init__(
        self,
        name: str,
        fleet: Fleet,
        attempt: Callable[[OnClaim], Awaitable[None]],
        at_once: int,
        wake: asyncio.Event,
    ) -> None:
        self._name = name
        self._fleet = fleet
        self._attempt = attempt
        self._at_once = at_once
        self._wake = wake
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self, drain_s: float) -> None:
        try:
            while True:
                self._wake.clear()
                if len(self._running) < self._at_once and await self._begins():
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(poll_s(self._fleet, time.time())):
                        await self._wake.wait()
        finally:
            await self._drain(drain_s)

    async def _begins(self) -> bool:
        """Start an attempt, and return whether there was anything to claim."""
        claimed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        attempt = asyncio.create_task(self._run(claimed))
        self._running.add(attempt)
        attempt.add_done_callback(partial(self._ended, claimed))
        # If this call is cancelled, the attempt has time to give back what it has claimed.
        return await asyncio.shield(claimed)

    async def _run(self, claimed: asyncio.Future[bool]) -> None:
        try:
            await self._attempt(partial(claimed.set_result, True))
        except Exception as error:  # noqa: BLE001  # the next attempt may succeed
            log.warning("queue.lost", queue=self._name, error=repr(error))
        finally:
            if not claimed.done():
                claimed.set_result(False)

    def _ended(self, claimed: asyncio.Future[bool], attempt: asyncio.Task[None]) -> None:
        self._running.discard(attempt)
        if claimed.done() and claimed.result():
            self._wake.set()  # its slot is free

    async def _drain(self, drain_s: float) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=drain_s)
        for attempt in self._running:
            attempt.cancel()
        if self._running:
            await asyncio.wait(self._running)
