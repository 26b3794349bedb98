"""Recovers lost steps, ends jobs over their time limit, and deletes expired files."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from foremask.errors import ServiceUnavailable
from foremask.service.jobs import admission, retention, steps
from foremask.service.jobs.database import OtherTables
from foremask.service.jobs.retention import NETWORK_KEPT_S
from foremask.service.observability import metrics
from foremask.service.storage.objects import NETWORK, sibling_key
from foremask.service.worker.job_stages import WorkerContext

RECORDS_S = 60.0
ABANDONED_S = 60.0
UPLOADS_S = 3600.0
FORM_KEPT = timedelta(hours=1)
# Longer than an upload's URL is valid, which is a day: no new job can name an older upload.
UPLOAD_KEPT = timedelta(days=3)
TENDING = 4  # with more workers, pauses are longer
SLOWEST = 10.0  # at most so many times as long
KINDS = ("sources", "segments", "parts", "results")

log = structlog.get_logger(__name__)


async def run_maintenance(work: WorkerContext) -> None:
    """Run until cancelled. Raises OtherTables, in an ExceptionGroup, after a migration."""
    # Deletions have tasks of their own: if they delayed `_recover`, it would renew the leases of
    # dead workers.
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_repeat(work, work.timing.recover_every_s, _recover))
        for sweep in (sweep_sources, sweep_results):
            tasks.create_task(_repeat(work, work.timing.sweep_every_s, sweep))
        tasks.create_task(_repeat(work, RECORDS_S, _forget))
        tasks.create_task(_repeat(work, ABANDONED_S, sweep_abandoned))
        tasks.create_task(_repeat(work, UPLOADS_S, sweep_uploads))


async def _repeat(
    work: WorkerContext, every_s: float, do: Callable[[WorkerContext], Awaitable[bool | None]]
) -> None:
    """Call ``do`` with pauses, which grow beyond `TENDING` workers unless it returned True."""
    while True:
        is_alone = None
        try:
            is_alone = await do(work)
        except OtherTables:
            raise
        except ServiceUnavailable as error:
            log.warning("maintenance.unavailable", details=error.details)
        except Exception:
            log.exception("maintenance.failed", sweep=do.__name__)
        slower = 1.0
        if not is_alone:
            slower = min(max(1.0, work.fleet.workers / TENDING), SLOWEST)
        await asyncio.sleep(every_s * slower * random.uniform(0.5, 1.5))  # noqa: S311


async def _recover(work: WorkerContext) -> bool:
    timing = work.timing
    recovered = await steps.recover(work.database, timing.wall_clock_s, timing.lease_s, work.worker)
    if recovered != steps.Recovered():
        metrics.RESCUES.inc(recovered.lost)
        log.warning(
            "maintenance.recovered",
            lost=recovered.lost,
            timed_out=recovered.timed_out,
        )
    return recovered.alone


async def _forget(work: WorkerContext) -> None:
    for request_id in await retention.forget_records(work.database, work.result_ttl_s):
        await _delete(work, request_id, KINDS)


async def sweep_abandoned(work: WorkerContext) -> None:
    """Delete uploads that were under way when their API process was killed."""
    for key in await admission.abandoned(work.database):
        if not await admission.keep_if_needed(work.database, key):
            await work.objects.delete_under(key.rpartition("/")[0])
            await admission.give_back(work.database, key)


async def sweep_sources(work: WorkerContext) -> None:
    for request_id, result_key in await retention.due(work.database, "sources"):
        await _delete(work, request_id, KINDS[:3] if result_key else KINDS)
        if result_key:
            kept = result_key.rpartition("/")[0] + "/"
            async for stored in work.objects.list(f"results/{request_id}"):
                if not stored["path"].startswith(kept):  # made by a stale attempt
                    await work.objects.delete(stored["path"])
        ended = await retention.deleted(work.database, "sources", request_id)
        if ended is not None:  # None if the job was counted before
            metrics.JOBS_ENDED.labels(ended["status"], ended["reason"]).inc()
            metrics.JOB_SECONDS.labels(ended["status"]).observe(ended["seconds"])
            if ended["wait_s"] is not None:
                metrics.JOB_WAIT.observe(ended["wait_s"])


async def sweep_results(work: WorkerContext) -> None:
    for request_id, result_key in await retention.due(work.database, "network", NETWORK_KEPT_S):
        await work.objects.delete(sibling_key(result_key, NETWORK))
        await retention.deleted(work.database, "network", request_id)
    if work.result_ttl_s:
        for request_id, _ in await retention.due(work.database, "result", work.result_ttl_s):
            await _delete(work, request_id, KINDS)
            await retention.deleted(work.database, "result", request_id)


async def sweep_uploads(work: WorkerContext) -> None:
    """Delete uploads older than `UPLOAD_KEPT`, but for those that unfinished jobs read."""
    before = datetime.now(UTC) - UPLOAD_KEPT
    uploads = work.objects.list("uploads")
    old = [each["path"] async for each in uploads if each["last_modified"] < before]
    in_use = await retention.uploads_in_use(work.database)
    await work.objects.delete(*[path for path in old if path not in in_use])
    await work.objects.delete_half_written("uploads", before)
    await admission.forget(work.database, before - FORM_KEPT, in_use)


async def _delete(work: WorkerContext, request_id: str, kinds: Sequence[str]) -> None:
    for kind in kinds:
        await work.objects.delete_under(f"{kind}/{request_id}")
