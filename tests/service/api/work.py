"""A worker's part of a job, played by its own functions: the file is given instead of made."""

import asyncio
from pathlib import Path

from foremask.service.jobs import steps
from foremask.service.jobs.step_facts import IngestDone, JobClip, JobReport, MaskDone, StepArgs
from foremask.service.jobs.steps import StepName
from foremask.service.storage.keys import strip_key
from tests.service.api.conftest import Running

REPORT = JobReport(frames_in=25, frames_out=25, duration_drift_ms=0.0)


async def complete(service: Running, job: str, mask: Path) -> str:
    """Bring the job to its end with ``mask`` as its result; the key under which it is stored."""
    objects = await service.objects()
    key = f"results/{job}/1/{job}{mask.suffix}"
    await objects.put(key, mask)
    strip = mask.with_suffix(".strip.json")
    strip.write_text("[[0.0, 0.25, 0.0]]")
    await objects.put(strip_key(key), strip)
    async with service.database() as database:
        step = await steps.begin(database, StepName(job, "ingest"), "a worker")
        assert step is not None
        found = IngestDone(JobClip(frames=25), f"sources/{job}/source", (StepArgs(),))
        assert await steps.finish(database, step, found)
        step = await steps.begin(database, StepName(job, "segment"), "a worker")
        assert step is not None
        assert await steps.finish(database, step, MaskDone(key, 25, REPORT))
    return key


async def complete_soon(service: Running, job: str, mask: Path, after_s: float = 1.0) -> None:
    await asyncio.sleep(after_s)
    await complete(service, job, mask)


async def newest_job(service: Running) -> str:
    """The id of the job that came last, once there is one that nobody works on."""
    async with service.database() as database:
        while True:
            row = await database.one(
                "select id from jobs where status = 'queued' order by seq desc limit 1"
            )
            if row is not None:
                job: str = row["id"]
                return job
            await asyncio.sleep(0.02)
