"""A worker's part of a job, played by its own functions: the file is given instead of made."""

import asyncio
from pathlib import Path
from typing import Any

from foremask.service.jobs.steps import IngestDone, JobClip, JobReport, MaskDone, StepArgs
from foremask.service.storage.objects import STRIP, sibling_key
from tests.service.api.conftest import Running
from tests.service.api.patient import http
from tests.support.jobs import done
from tests.support.patience import wait_until

REPORT = JobReport(frames_in=25, frames_out=25, duration_drift_ms=0.0)


async def complete(service: Running, job: str, mask: Path) -> str:
    objects = await service.objects()
    key = f"results/{job}/1/{job}{mask.suffix}"
    await objects.put(key, mask)
    strip = mask.with_suffix(".strip.json")
    strip.write_text("[[0.0, 0.25, 0.0]]")
    await objects.put(sibling_key(key, STRIP), strip)
    async with service.database() as database:
        found = IngestDone(JobClip(frames=25), f"sources/{job}/source", (StepArgs(),))
        await done(database, job, "ingest", found)
        await done(database, job, "segment", MaskDone(key, 25, REPORT))
    return key


def completed(service: Running, video: str, mask: Path, **headers: str) -> dict[str, Any]:
    url = f"{service.url}/v2/video/segment/foreground_mask"
    made: dict[str, Any] = http.post(
        url, json={"video": video}, headers=headers or service.headers
    ).json()
    asyncio.run(complete(service, made["request_id"], mask))
    return made


def newest_job(service: Running) -> str:
    newest = "select id from jobs where status = 'queued' order by seq desc limit 1"
    (row,) = wait_until(lambda: service.sql(newest))
    return str(row["id"])


def upload(
    service: Running, path: Path, media_type: str = "video/mp4", name: str = "", **headers: str
) -> str:
    form = http.post(
        f"{service.url}/v2/video/upload",
        json={"media_type": media_type},
        headers=headers or service.headers,
    ).json()["result"]
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
