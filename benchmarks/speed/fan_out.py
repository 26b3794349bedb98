"""How well segments spread: a load of one second a segment on one worker and on eight.

The database, the engine, the leases and the object store are real; the seconds are slept, so that
the number says what the service adds and not how many cores this machine has.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tests.service.worker.stand_in import SEGMENT_FRAMES, TextMedia, clip

from foremask.options import Preset
from foremask.service.fetch import Outbound
from foremask.service.jobs.admission import NewJob, admit
from foremask.service.jobs.database import open_database
from foremask.service.jobs.tokens import TokenLimits, create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.storage.local_directory import local_url
from foremask.service.storage.objects import open_objects
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.queue_schema import migrate
from foremask.service.worker.queues import serve_queues
from foremask.service.worker.worker_context import WorkerContext

SEGMENTS = 12  # a clip of 60 s
JOBS = 4


def slow_clip() -> bytes:
    """A clip in which the first frame of each segment takes a second."""
    lines = clip(SEGMENTS * SEGMENT_FRAMES).decode().splitlines()
    for number in reversed(range(0, SEGMENTS * SEGMENT_FRAMES, SEGMENT_FRAMES)):
        lines.insert(1 + number, "sleep 1")
    return ("\n".join(lines) + "\n").encode()


async def measure(workers: int, jobs: int, root: Path, url: str) -> float:
    """Seconds from the first submission to the last result."""
    objects = await open_objects(local_url(root / "objects"), "http://127.0.0.1:1")
    source = root / "clip"
    source.write_bytes(slow_clip())
    async with AsyncExitStack() as stack:
        outbound = await stack.enter_async_context(Outbound())
        database = await stack.enter_async_context(open_database(url))
        _, token = await create_token(database, "fan out", TokenLimits(concurrent=100))
        running = []
        for number in range(workers):
            own = await stack.enter_async_context(open_database(url, connections=2))
            work = WorkerContext(
                database=own,
                objects=objects,
                outbound=outbound,
                masks=TextMedia(),
                files=TextMedia(),
                scratch=root,
                worker=f"worker-{number}",
                result_ttl_s=0,
            )
            queue_workers = serve_queues(replace(work), {"files": 4, "masks": 1}, 0.0)
            running += [
                asyncio.create_task(queue_workers),
                asyncio.create_task(run_maintenance(work)),
            ]
        await asyncio.sleep(1.0)
        began = time.monotonic()
        for number in range(jobs):
            key = f"uploads/{workers}-{number}/clip"
            await objects.put(key, source)
            new = NewJob(token_id=token.id, preset=Preset.MP4_H264, source_key=key)
            await admit(database, new)
        while await database.one("select 1 from jobs where ended_at is null limit 1"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        took_s = time.monotonic() - began
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return took_s


async def main(root: Path, url: str) -> None:
    """Print both, and how much of the machines' time was masking."""
    await migrate(url)
    for workers, jobs in ((1, 1), (8, JOBS)):
        took_s = await measure(workers, jobs, root, url)
        ideal_s = jobs * SEGMENTS / workers
        print(
            f"{workers} workers, {jobs} jobs of {SEGMENTS} segments of 1 s: {took_s:.2f} s,"
            f" ideal {ideal_s:.2f} s, efficiency {ideal_s / took_s:.0%}"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="foremask-fan-out-") as directory:
        Path(directory).chmod(0o755)
        server = EmbeddedPostgres(Path(directory))
        server.start()
        try:
            asyncio.run(main(Path(directory), server.url))
        finally:
            server.stop()
