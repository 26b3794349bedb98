import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from foremask.service.jobs import records
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from tests.service.worker.conftest import Caller, working
from tests.service.worker.stand_in import TextMedia
from tests.support.patience import PATIENCE_S, until_so
from tests.support.programs import worker_process


class Cable:
    """Carries a host's connections to PostgreSQL; what is sent while it is cut arrives later."""

    def __init__(self, real: Path) -> None:
        self.real, self.whole = real, asyncio.Event()
        self.whole.set()
        self.flows: set[asyncio.Task[None]] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self.real)
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            flow = asyncio.create_task(self.forward(source, sink))
            self.flows.add(flow)
            flow.add_done_callback(self.flows.discard)

    async def forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self.whole.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()
            with suppress(ConnectionError):
                await sink.wait_closed()


@pytest.fixture
async def cable(database_url: str) -> AsyncIterator[tuple[Cable, str]]:
    real = database_url.partition("host=")[2]
    with tempfile.TemporaryDirectory() as directory:
        made = Cable(Path(real) / ".s.PGSQL.5432")
        server = await asyncio.start_unix_server(made.connect, f"{directory}/.s.PGSQL.5432")
        yield made, database_url.replace(real, directory)
        server.close()
        for flow in list(made.flows):
            flow.cancel()
        await asyncio.gather(*made.flows, return_exceptions=True)


async def test_a_cut_off_host_loses_its_step_and_is_refused_when_it_returns(
    caller: Caller, cable: tuple[Cable, str], tmp_path: Path
) -> None:
    wire, url = cable
    request_id = await caller.submit(caller.site.clip(8, pause_s=1))
    frames, scratch = asyncio.Semaphore(2), tmp_path / "far"
    scratch.mkdir()
    held = TextMedia(pause=lambda _: frames.acquire())
    near = replace(caller.work, worker="near", masks=TextMedia(pause=lambda _: asyncio.sleep(0)))
    async with Database(url, patience_s=20.0) as database:
        far = replace(near, worker="far", database=database, scratch=scratch, masks=held)
        async with working(far):
            await caller.masking(request_id, 2)
            wire.whole.clear()
            async with working(near):
                expire = "update steps set lease_until = clock() - interval '1 s' where job = %s"
                await caller.database.all(expire, (request_id,))
                record = await caller.ended(request_id)
                wire.whole.set()
                await until_so(lambda: not list(scratch.iterdir()))
    assert record.status is Status.COMPLETED
    assert await records.read_any(caller.database, request_id) == record
    history = await records.history(caller.database, request_id)
    masked = [(each.worker, each.outcome) for each in history if each.stage == "segment"]
    assert masked == [("far", "lost"), ("near", "done")]


async def test_a_cut_off_worker_stops_on_sigterm(cable: tuple[Cable, str], tmp_path: Path) -> None:
    wire, url = cable
    async with worker_process(url, tmp_path, "benchmarks.member", "worker") as worker:
        await until_so(lambda: len(wire.flows) >= 4)  # of two connections: it asks, and it listens
        await asyncio.sleep(1.0)
        wire.whole.clear()
        await asyncio.sleep(0.5)
        worker.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await worker.wait()
    wire.whole.set()
