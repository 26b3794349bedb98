"""A worker in which everything is real but the network: red is the foreground."""

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from benchmarks.stand_in import OPERATIONS

from foremask.errors import ForemaskError
from foremask.fetch.client import Outbound
from foremask.service.jobs.database import Database
from foremask.service.jobs.steps import IngestDone, JobClip, MaskDone, StoredSegment
from foremask.service.sandbox.messages import ChildProgress, Make, Refusal, Request
from foremask.service.sandbox.pool import MediaPool, OnProgress
from foremask.service.storage.objects import STRIP, sibling_key
from foremask.service.worker.job_stages import WorkerContext
from foremask.service.worker.queues import serve_queues
from tests.service.api.conftest import PATH, Running, http, post
from tests.service.worker.conftest import LOOPBACK, announce_slots
from tests.support.jobs import done, report_of
from tests.support.patience import PATIENT, wait_until

REQUESTS: list[Make] = []
"""The requests that the masker got, oldest first."""
KEPT: list[bytes] = []
"""The masker's files for later jobs, oldest first."""


class RedIsForeground:
    async def run[R](
        self, request: Request[R], *, on_progress: OnProgress | None = None, **_: object
    ) -> R:
        assert isinstance(request, Make)
        REQUESTS.append(request)
        if request.files.cache is not None:
            known = b"" if request.known is None else request.known.read_bytes()
            KEPT.append(known + b"said. ")
            request.files.cache.write_bytes(KEPT[-1])
        try:
            mask: Callable[..., Any] = OPERATIONS[type(request)]
            report = await asyncio.to_thread(mask, request, NoParent())
        except ForemaskError as error:
            raise Refusal.of(error).error() from error
        if on_progress is not None:
            await on_progress(ChildProgress(report.frames_out))
        return cast(R, report)


class NoParent:
    def progress(self, *_: object) -> None: ...


@contextmanager
def working(service: Running, scratch: Path, *, networks: Sequence[str] = ()) -> Generator[None]:
    """``networks`` are those that jobs may name, all of which take red for the foreground."""
    stop_requested = threading.Event()
    files = dict.fromkeys(networks, scratch)
    work = _work(service, scratch, stop_requested, files)
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    try:
        yield
    finally:
        stop_requested.set()
        thread.join(120)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def worker(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    with working(service, tmp_path_factory.mktemp("scratch")):
        yield service


async def _work(
    service: Running, scratch: Path, stop_requested: threading.Event, networks: dict[str, Path]
) -> None:
    async with (
        MediaPool(scratch / "files") as files,
        Database(service.database_url, **PATIENT) as database,
        Outbound(allow_private=LOOPBACK) as outbound,
    ):
        await announce_slots(database, 100)
        work = WorkerContext(
            database=database,
            objects=await service.objects(),
            outbound=outbound,
            masks=RedIsForeground(),
            files=files,
            scratch=scratch / "files",
            worker="test",
            result_ttl_s=0,
            networks=networks,
        )
        queue_workers = asyncio.create_task(
            serve_queues(work, {"files": 2, "masks": 1, "webhooks": 2}, 0.0)
        )
        while not stop_requested.is_set():  # noqa: ASYNC110  # told from another thread
            await asyncio.sleep(0.05)
        queue_workers.cancel()
        await asyncio.gather(queue_workers, return_exceptions=True)


async def complete(service: Running, job: str, mask: Path) -> str:
    objects = await service.objects()
    key = f"results/{job}/1/{job}{mask.suffix}"
    await objects.put(key, mask)
    strip = mask.with_suffix(".strip.json")
    strip.write_text("[[0.0, 0.25, 0.0]]")
    await objects.put(sibling_key(key, STRIP), strip)
    async with service.database() as database:
        found = IngestDone(JobClip(frames=25), f"sources/{job}/source", (StoredSegment(),))
        await done(database, job, "ingest", found)
        report = report_of(25)
        await done(database, job, "segment", MaskDone(key, report))
    return key


def completed(service: Running, video: str, mask: Path) -> dict[str, Any]:
    made: dict[str, Any] = post(service, PATH, video=video).json()
    asyncio.run(complete(service, made["request_id"], mask))
    return made


def upload(
    service: Running, path: Path, media_type: str = "video/mp4", name: str = "", **headers: str
) -> str:
    form = post(service, "/v2/video/upload", headers, media_type=media_type).json()["result"]
    file = (name or path.name, path.read_bytes(), media_type)
    sent = http.post(form["upload_url"], data=form["upload_fields"], files={"file": file})
    assert sent.status_code == 204, sent.text
    return str(form["file_url"])


def ended(service: Running, request_id: str) -> dict[str, Any]:
    url = f"{service.url}/v2/status/{request_id}"

    def over() -> dict[str, Any] | None:
        status: dict[str, Any] = http.get(url, headers=service.headers).json()
        return None if status["status"] == "IN_PROGRESS" else status

    return wait_until(over)
