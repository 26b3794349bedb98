"""The engine's tasks: each looks into one queue, and the database decides what is next."""

import asyncio
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import structlog
from procrastinate import App
from procrastinate.connector import BaseConnector

from foremask.errors import (
    Failed,
    ForemaskError,
    Internal,
    ObjectLost,
    Overloaded,
    ServiceUnavailable,
    StorageFull,
    TimedOut,
    UrlUnreachable,
    WorkerCrashed,
)
from foremask.service.jobs import steps
from foremask.service.jobs.steps import Step
from foremask.service.observability import metrics
from foremask.service.observability.traces import Span, job_span
from foremask.service.sandbox.pool import ChildDied
from foremask.service.worker.job_stages import RunningStep
from foremask.service.worker.leases import Leases, StepProgress
from foremask.service.worker.webhook_delivery import deliver_next
from foremask.service.worker.worker_context import WorkerContext

log = structlog.get_logger(__name__)


def make_app(work: WorkerContext, connector: BaseConnector, leases: Leases) -> App:
    """The Procrastinate application of one worker process: a task for each queue."""
    app = App(connector=connector)

    @app.task(name="files", queue="files")
    async def files() -> None:
        await do_next(work, "files", leases)

    @app.task(name="masks", queue="masks")
    async def masks() -> None:
        await do_next(work, "masks", leases)

    @app.task(name="webhooks", queue="webhooks")
    async def webhooks() -> None:
        await deliver_next(work)

    return app


async def do_next(work: WorkerContext, queue: str, leases: Leases) -> None:
    """Run the next step of the queue, if there is one (docs/adr/0090)."""
    step = await steps.claim(
        work.database, queue, work.worker, work.timing.lease_s, work.last_served.get(queue)
    )
    if step is not None:
        work.last_served[queue] = step.token
        await run_step(work, step, leases)


async def run_step(work: WorkerContext, step: Step, leases: Leases) -> None:
    """Run the step and record its outcome."""
    name = step.name
    scratch = work.scratch / f"{name.stage}-{uuid.uuid4()}"
    traceparent = await work.traceparent_of(name.job)
    with (
        structlog.contextvars.bound_contextvars(request_id=name.job, attempt=step.attempt),
        job_span(name.job, name.stage, traceparent, number=name.number) as span,
    ):
        began = time.monotonic()
        try:
            outcome = await _run_with_lease(work, step, scratch, leases, span)
            span.note(outcome=outcome)
            if outcome in ("lost", "stale"):
                await steps.charge_lost(work.database, step)
            if outcome != "done":
                await _tidy(work, step)
            metrics.STEP_SECONDS.labels(name.stage, outcome).observe(time.monotonic() - began)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def _run_with_lease(
    work: WorkerContext, step: Step, scratch: Path, leases: Leases, span: Span
) -> str:
    """Run the step while its lease is kept; whichever ends first stops the other."""
    step_log = log.bind(step=str(step.name), attempt=step.attempt)
    advance = StepProgress()
    doing = asyncio.ensure_future(RunningStep(work, step, scratch, advance).run())
    try:
        with leases.held(step, advance) as lost:
            either: set[asyncio.Future[Any]] = {doing, lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                await _stop(doing)
                step_log.info("step.lost", reason=lost.exception() or "taken away")
                lost.result()  # raises when no frame came
                return "lost"
            if not await steps.finish(work.database, step, doing.result()):
                metrics.FENCED.inc()
                step_log.warning("step.stale")
                return "stale"
    except asyncio.CancelledError:
        await asyncio.shield(_give_back(work, step))
        raise
    except Exception as error:  # noqa: BLE001  # the one catch-all: whatever it was is recorded
        known, outcome, retry_s = _classified(work, step, error)
        try:
            kept = await steps.fail(work.database, step, known, outcome=outcome, retry_s=retry_s)
        except ServiceUnavailable:
            # Nothing is recorded: the lease runs out.
            step_log.warning("step.unrecorded", error=repr(error))
            return "lost"
        if not kept:
            metrics.FENCED.inc()
        metrics.refused(known.reason)
        span.note(**{"error.type": known.reason})
        step_log.warning(
            "step.failed",
            kept=kept,
            error=repr(error),
            notes=getattr(error, "__notes__", None),  # the child's own words
            exc_info=not isinstance(error, ForemaskError | ChildDied | OSError),
        )
        return outcome
    else:
        return "done"
    finally:
        await _stop(doing)


async def _tidy(work: WorkerContext, step: Step) -> None:
    """Delete what an unsuccessful attempt has stored: its job may have been swept already."""
    name = step.name
    places = {
        "ingest": (f"sources/{name.job}/{step.attempt}", f"segments/{name.job}/{step.attempt}"),
        "segment": (
            f"parts/{name.job}/{name.number}/{step.attempt}",
            f"results/{name.job}/segment-{step.attempt}",
        ),
        "join": (f"results/{name.job}/join-{step.attempt}",),
    }
    try:
        # A call that was made again after its answer was lost reads as stale: the record decides.
        if not await steps.is_done(work.database, step):
            for place in places[name.stage]:
                await work.objects.delete_under(place)
    except ServiceUnavailable as error:
        log.warning("step.not_tidied", step=str(name), details=error.details)


def _classified(
    work: WorkerContext, step: Step, error: Exception
) -> tuple[ForemaskError, str, float | None]:
    timing = work.timing
    match error:
        # A store that is away or a disk that is full is nobody's fault here: until the wall clock.
        case ServiceUnavailable() | Overloaded() | StorageFull():
            return error, "unavailable", timing.unavailable_retry_s
        case OSError():
            known = ServiceUnavailable(f"the worker's disk says: {error}")
            return known, "unavailable", timing.unavailable_retry_s
        case UrlUnreachable():
            return error, "crashed", timing.unreachable_retry_s
        case ChildDied():
            died = WorkerCrashed(f"the process that worked on this clip died: {error}")
            return died, "crashed", 0.0
        case Failed() if not isinstance(error, ObjectLost | TimedOut):
            return error, "crashed", 0.0
        case ForemaskError():
            return error, "failed", None
        case _:
            unforeseen = f"an unforeseen error; quote the request id {step.name.job}"
            return Internal(unforeseen), "crashed", 0.0


async def _give_back(work: WorkerContext, step: Step) -> None:
    """Give the step back at a stop: another worker begins it, and no attempt is counted."""
    leaving = ServiceUnavailable("the worker was stopped")
    await steps.fail(work.database, step, leaving, outcome="given back", retry_s=0.0)


async def _stop(task: asyncio.Future[Any]) -> None:
    """Cancel the task and wait until it is over; what it raises is known already."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
