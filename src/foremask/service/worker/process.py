"""A worker process: claims steps, renews their leases, and masks in child processes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog
import uvloop

from foremask.errors import SettingsInvalid
from foremask.fetch.client import Outbound
from foremask.machine import process_setup
from foremask.machine.hardware import nvidia_cards, share_of_memory
from foremask.options import Resources, Runtime
from foremask.pipeline.trackers import tracker_folders
from foremask.service.jobs import admission
from foremask.service.jobs.database import Database, OtherTables
from foremask.service.jobs.process_totals import CountReporter, keep_reporting
from foremask.service.jobs.schema import check_schema
from foremask.service.observability import metrics
from foremask.service.sandbox.confine import check_device, is_gpu
from foremask.service.sandbox.messages import Load
from foremask.service.sandbox.pool import MediaPool, own_directory
from foremask.service.storage.objects import open_objects
from foremask.service.worker.compilation import compile_ahead
from foremask.service.worker.job_stages import SERVICE_RESOURCES, MediaRunner, WorkerContext
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.queues import serve_queues
from foremask.settings import Sandbox, Settings
from foremask.weights.catalogue import files_of, model_named, model_path

QUEUES = ("files", "masks", "webhooks")  # files: the steps ingest and join; masks: segment
FILES_AT_ONCE = 8  # an ingest mostly waits for the origin server
WEBHOOKS_AT_ONCE = 16  # a receiver that hangs blocks only its own attempt
SPARE_FROM_BYTES = 4 << 30  # a slot with so much memory has a spare child: docs/adr/0041
DRAIN_S = 3.0  # time for steps to end after a stop signal; other workers repeat unfinished steps
# Longest time from a stop signal to the exit: `DRAIN_S`, a child's `SAVE_S`, the store's `KEEP_S`,
# and two seconds in which the steps are given back.
LEAVE_S = 10.0
DATABASE_PATIENCE_S = 60.0
DATABASE_CONNECTIONS = 1  # statements are short; a listening worker opens one more
GPU_ADDRESSES_BYTES = 1 << 42  # CUDA reserves address space that it does not use

log = structlog.get_logger(__name__)


def run_worker(settings: Settings, queues: Sequence[str] = QUEUES, slots: int = 1) -> None:
    unknown = [queue for queue in queues if queue not in QUEUES]
    if unknown or not queues:
        raise SettingsInvalid(
            f"no such queue: {', '.join(unknown)}; there are {', '.join(QUEUES)}", param="queues"
        )
    process_setup.give_memory_back()
    uvloop.run(_work(settings, queues, slots))


async def _work(settings: Settings, queues: Sequence[str], slots: int) -> None:
    scratch = settings.data_dir / "scratch" / "worker"
    model: Path | None = None
    networks: dict[str, Path] = {}
    readable: list[Path] = []
    load: Load | None = None
    check_device(settings.device, settings.sandbox)
    if "masks" in queues:
        model = model_path(settings.model_dir, settings.model_file, settings.network)
        networks = _networks(settings, model)
        readable = [file for path in {model, *networks.values()} for file in files_of(path)]
        if settings.trackers:
            readable += tracker_folders(settings.trackers, settings.model_dir)
        load = Load(model, settings.device)
    job_memory = settings.job_memory or share_of_memory(slots)
    if not _may_use_gpu(settings):
        _check_memory(networks, settings, job_memory)
    if model and settings.device.runtime in (Runtime.AUTO, Runtime.CPU):
        await compile_ahead(model)
    child_memory = job_memory
    if _may_use_gpu(settings):
        child_memory += GPU_ADDRESSES_BYTES
    limits = settings.limits(job_memory)
    resources = replace(
        SERVICE_RESOURCES,
        device=settings.device,
        limits=limits,
        model=model,
        tracker_dir=settings.model_dir,
    )
    async with (
        MediaPool(scratch, sandbox=settings.sandbox) as files,
        MediaPool(
            scratch,
            slots=slots,
            sandbox=settings.sandbox,
            readable=readable,
            memory_bytes=child_memory,
            spares=load is not None and job_memory >= SPARE_FROM_BYTES,
            prepare=load,
        ) as masks,
        open_work(settings, scratch, masks, files, resources, networks) as work,
    ):
        if load is not None and settings.device.runtime not in (Runtime.AUTO, Runtime.CPU):
            await masks.run(load)  # fail now: a worker that cannot mask would fail all jobs
        await work_until_stopped(work, queues, slots, sandbox=str(masks.level))


def _networks(settings: Settings, model: Path) -> dict[str, Path]:
    """The files of the networks that a job may name. Raises ModelUnavailable."""
    found = {name: model_path(settings.model_dir, network=name) for name in settings.networks}
    if settings.model_file is None:
        found[settings.network] = model
    return found


def _check_memory(networks: Iterable[str], settings: Settings, job_memory: int) -> None:
    """Raise SettingsInvalid for a network that would run out of a job's memory on any clip."""
    for name in networks:
        needed = model_named(name, settings.model_dir).memory_bytes or 0
        if needed > job_memory:
            raise SettingsInvalid(
                f"the network {name} takes {needed / 1e9:.1f} GB, and a job may take"
                f" {job_memory / 1e9:.1f} GB: raise FOREMASK_JOB_MEMORY, start fewer workers, or"
                " leave the network out",
                param="FOREMASK_NETWORKS",
            )


def _may_use_gpu(settings: Settings) -> bool:
    takes_card = settings.device.runtime is Runtime.AUTO and settings.sandbox is Sandbox.OFF
    return is_gpu(settings.device) or (takes_card and bool(nvidia_cards()))


@asynccontextmanager
async def open_work(
    settings: Settings,
    scratch: Path,
    masks: MediaRunner,
    files: MediaRunner,
    resources: Resources = SERVICE_RESOURCES,
    networks: Mapping[str, Path] | None = None,
) -> AsyncIterator[WorkerContext]:
    if settings.database_url is None:
        raise SettingsInvalid("a worker needs the URL of a database", param="FOREMASK_DATABASE_URL")
    async with (
        Database(
            settings.database_url, connections=DATABASE_CONNECTIONS, patience_s=DATABASE_PATIENCE_S
        ) as database,
        Outbound(
            allow_private=settings.allow_private, on_wait=metrics.HELD_BACK.labels("resolver").inc
        ) as outbound,
    ):
        await check_schema(database)
        objects = await open_objects(settings.store_url, settings.base_url)
        with own_directory(scratch, "steps-") as steps:
            yield WorkerContext(
                database=database,
                objects=objects,
                outbound=outbound,
                masks=masks,
                files=files,
                resources=resources,
                networks=networks or {},
                scratch=steps,
                worker=process_setup.name(),
                result_ttl_s=settings.result_ttl_s,
                storage_limit=admission.limit_of_token(settings.storage_per_token, objects.disk()),
            )


async def work_until_stopped(
    work: WorkerContext, queues: Sequence[str], slots: int, sandbox: str
) -> None:
    """Serve until SIGTERM or SIGINT; raises ServiceUnavailable if the database was migrated."""
    at_once = {"files": FILES_AT_ONCE, "masks": slots, "webhooks": WEBHOOKS_AT_ONCE}
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stop_requested.set()
        # Without a database, the steps that are under way cannot be given back.
        loop.call_later(LEAVE_S, os._exit, os.EX_TEMPFAIL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("worker.started", worker=work.worker, queues=list(queues), slots=slots)
    mask_slots = 0
    if "masks" in queues:
        mask_slots = slots
    reporter = CountReporter("worker", mask_slots, sandbox)
    reporting = asyncio.create_task(keep_reporting(work.database, reporter, work.fleet))
    is_outdated = False
    try:
        async with asyncio.TaskGroup() as tasks:
            serving = serve_queues(work, {queue: at_once[queue] for queue in queues}, DRAIN_S)
            running = [tasks.create_task(each) for each in (serving, run_maintenance(work))]
            await stop_requested.wait()
            for task in running:
                task.cancel()
    except* OtherTables:
        is_outdated = True
    finally:
        reporting.cancel()  # last, so that the final report counts everything
        await asyncio.wait({reporting})
        log.info("worker.stopped", worker=work.worker)
    if is_outdated:
        await check_schema(work.database)
