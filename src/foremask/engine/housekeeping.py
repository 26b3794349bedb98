"""What every worker does beside its steps, in turns: rescue, reconcile, sweep, expire."""

import asyncio
import time

import structlog

from foremask import meters
from foremask.engine.work import Work
from foremask.errors import ServiceUnavailable
from foremask.jobs import retention, steps

ENGINE_S = 60.0

log = structlog.get_logger(__name__)


async def keep_house(work: Work) -> None:
    """Look after leases, wake-ups and what is kept no longer; runs until cancelled.

    In the worker's own loop and not a task of the engine: a worker whose slots are all taken looks
    after the others all the same (docs/adr/0020).
    """
    sweep_at = engine_at = 0.0
    while True:
        try:
            tended = await steps.tend(work.database, work.pace.wall_clock_s, work.pace.lease_s)
            if tended != steps.Tended():
                meters.RESCUES.inc(tended.lost)
                meters.WAKE_UPS.inc(tended.woken)
                log.warning(
                    "house.tended",
                    lost=tended.lost,
                    woken=tended.woken,
                    timed_out=tended.timed_out,
                )
            if time.monotonic() > sweep_at:
                await sweep(work)
                sweep_at = time.monotonic() + work.pace.sweep_s
            if time.monotonic() > engine_at:
                await retention.drop_dead_engine_rows(work.database)
                await retention.forget_records(work.database, work.result_ttl_s)
                engine_at = time.monotonic() + ENGINE_S
        except ServiceUnavailable as error:
            log.warning("house.unavailable", details=error.details)
        await asyncio.sleep(work.pace.tend_s)


async def sweep(work: Work) -> None:
    """Delete the sources and segments of ended jobs, and the results whose time is over."""
    for request_id in await retention.to_sweep(work.database):
        for kind in ("sources", "segments", "parts"):
            await work.objects.delete_under(f"{kind}/{request_id}")
        _count(await retention.swept(work.database, request_id))
    for request_id, _ in await retention.to_expire(work.database, work.result_ttl_s):
        await work.objects.delete_under(f"results/{request_id}")
        await retention.expired(work.database, request_id)


def _count(ended: retention.Ended | None) -> None:
    """A job is swept once, whoever does it, so that is where it is counted."""
    if ended is None:
        return
    meters.JOBS_ENDED.labels(ended.status, ended.reason).inc()
    meters.JOB_SECONDS.labels(ended.status).observe(ended.seconds)
    if ended.wait_s is not None:
        meters.JOB_WAIT.observe(ended.wait_s)
