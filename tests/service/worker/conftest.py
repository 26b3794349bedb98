import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from foremask.fetch.client import Outbound
from foremask.service.jobs import records
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from foremask.service.jobs.records import Record
from foremask.service.jobs.tokens import TokenLimits, create_token, token_hash
from foremask.service.observability import metrics
from foremask.service.storage.objects import open_objects
from foremask.service.worker.job_stages import Timing, WorkerContext
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.queues import serve_queues
from tests.service.worker import stand_in
from tests.service.worker.stand_in import TextMedia
from tests.support.jobs import new_job
from tests.support.origin import Origin, Request, gives, head, listening
from tests.support.patience import running, until

LOOPBACK = (ip_network("127.0.0.0/8"),)
HURRY = Timing(  # all is done often; no deadline is one that a slow machine could miss
    lease_s=60.0,
    renew_s=0.2,
    stall_s=120.0,
    recover_every_s=0.1,
    sweep_every_s=0.2,
    unreachable_retry_s=0.1,
    unavailable_retry_s=0.2,
)


class Site:
    """A small web server: it has ``files`` by their path, and takes POSTs."""

    def __init__(self, origin: Origin) -> None:
        self.url, self.hook, self._requests = origin.url(""), origin.url("/hook"), origin.requests
        self.files: dict[str, bytes] = {}
        self.statuses: list[int] = []  # of the answers to the next POSTs, which else are 204
        self.hanging = set[str]()  # paths whose POSTs are answered once ``released`` is set
        self.released = asyncio.Event()
        origin.answers = defaultdict(lambda: self._answer)

    def clip(self, frames: int, *, pause_s: float = 0.0, die_at: int | None = None) -> str:
        self.files["/a.mp4"] = stand_in.clip(frames, pause_s=pause_s, die_at=die_at)
        return self.url + "/a.mp4"

    def page(self) -> str:
        self.files["/page.mp4"] = b"<html>"
        return self.url + "/page.mp4"

    def posts_to(self, path: str) -> list[Request]:
        return [each for each in self._requests if (each.method, each.target) == ("POST", path)]

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST":
            if request.target in self.hanging:
                await self.released.wait()
            status = self.statuses.pop(0) if self.statuses else 204
            writer.write(head(f"{status} X", Content_Length=0))
        elif (content := self.files.get(request.target)) is not None:
            await gives(content, Content_Type="video/mp4")(request, writer)
        else:
            writer.write(head("404 Not Found", Content_Length=0))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with listening() as origin:
        yield Site(origin)


@pytest.fixture
async def work(database: Database, tmp_path: Path) -> AsyncIterator[WorkerContext]:
    objects = await open_objects((tmp_path / "objects").as_uri(), "http://127.0.0.1:1")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    await announce_slots(database, 100)
    async with Outbound(allow_private=LOOPBACK) as outbound:
        yield WorkerContext(
            database=database,
            objects=objects,
            outbound=outbound,
            masks=TextMedia(),
            files=TextMedia(),
            scratch=scratch,
            worker="first",
            result_ttl_s=0,
            timing=HURRY,
        )


async def announce_slots(database: Database, slots: int) -> None:
    await database.all("delete from processes")
    await database.all(
        "insert into processes (id, kind, slots, sandbox, seen_at)"
        " values (%s, 'worker', %s, 'off', 'infinity')",
        (uuid.uuid4(), slots),
    )


@asynccontextmanager
async def working(work: WorkerContext, masks: int = 4) -> AsyncIterator[None]:
    at_once = {"files": 4, "masks": masks, "webhooks": 4}
    async with running(serve_queues(work, at_once, 0.0)), running(run_maintenance(work)):
        yield


type Risen = Callable[..., float]


@pytest.fixture
def risen() -> Risen:
    """By how much a counter, named with its labels, has risen in the test."""
    before = metrics.counted()

    def since(name: str, **labels: str) -> float:
        series = f"foremask_{name}", tuple(sorted(labels.items()))
        return metrics.counted().get(series, 0.0) - before.get(series, 0.0)

    return since


@dataclass(frozen=True, slots=True)
class Caller:
    work: WorkerContext
    site: Site
    secret: str
    token_id: uuid.UUID

    @property
    def database(self) -> Database:
        return self.work.database

    async def submit(self, url: str, webhook_url: str | None = None, **facts: Any) -> str:  # noqa: ANN401
        new = new_job(self.token_id, video_url=url, webhook_url=webhook_url, **facts)
        return await admit(self.database, new)

    async def record(self, request_id: str) -> Record:
        return await records.read_any(self.database, request_id)

    async def ended(self, request_id: str) -> Record:
        return await until(lambda: self.record(request_id), lambda record: record.status.ended)

    async def served(self, url: str, work: WorkerContext | None = None, **facts: Any) -> Record:  # noqa: ANN401
        """Submit a job, let a worker end it, and return its record."""
        async with working(work or self.work):
            return await self.ended(await self.submit(url, **facts))

    async def result(self, record: Record) -> bytes:
        assert record.status is Status.COMPLETED, record.error
        assert record.result_key is not None
        path = self.work.scratch.with_name("result")
        await self.work.objects.get(record.result_key, path)
        return path.read_bytes()

    async def outcomes(self, request_id: str) -> list[tuple[str, str | None]]:
        history = await records.history(self.database, request_id)
        return [(each.stage, each.outcome) for each in history]

    async def masking(self, request_id: str, frames: int = 1) -> None:
        await until(lambda: self.record(request_id), lambda record: record.frames_done >= frames)

    async def cancel(self, request_id: str) -> Record:
        return await records.cancel(self.database, token_hash(self.secret), request_id)


@pytest.fixture
async def caller(work: WorkerContext, site: Site) -> Caller:
    secret, token = await create_token(work.database, "caller", TokenLimits(concurrent=1000))
    return Caller(work, site, secret, token.id)
