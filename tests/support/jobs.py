"""Jobs that tests make and advance by the functions of the API and the workers."""

from typing import Any, LiteralString
from uuid import UUID, uuid4

import msgspec

from foremask.facts import Report
from foremask.options import JobSpec
from foremask.service.jobs import steps
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.database import Database, Params, Row
from foremask.service.jobs.life import Event, change
from foremask.service.jobs.steps import Step, StepDone

WAITING: LiteralString = "select pid from pg_locks where not granted"


def new_job(token: UUID, **facts: Any) -> NewJob:  # noqa: ANN401
    usual: dict[str, Any] = {
        "request_id": str(uuid4()),
        "spec": JobSpec(),
        "video_url": "https://example.org/a.mp4",
    }
    return NewJob(token_id=token, **usual | facts)


async def begun(
    database: Database,
    job: str,
    stage: str = "ingest",
    lease_s: float = 60.0,
    worker: str = "any",
    number: int = 0,
) -> Step:
    """Begin a step of the job, although another step may be next in the queue."""
    return msgspec.convert(
        await database.value_of(
            "begin_step", change(Event.CLAIMED), job, stage, number, worker, lease_s
        ),
        Step,
    )


async def done(database: Database, job: str, stage: str, result: StepDone) -> None:
    assert await steps.finish(database, await begun(database, job, stage), result)


async def cancel_all(database: Database) -> None:
    for row in await database.all("select id from jobs where ended_at is null"):
        await cancel(database, row["id"])


async def cancel(database: Database, job: str) -> None:
    await database.value_of("end_job", job, change(Event.CANCELLED))


def report_of(frames: int = 1, **facts: Any) -> Report:  # noqa: ANN401
    usual: dict[str, Any] = {
        "frames_in": frames,
        "frames_out": frames,
        "duration_s": frames / 25,
        "fps": 25.0,
        "duration_drift_ms": 0.0,
        "audio": (),
        "warnings": (),
        "coverage": 0.5,
        "flicker": 0.0,
        "runtime": "none",
        "stage_cpu_s": {},
        "sha256": "",
        "bytes": 0,
        "kind": "mask",
    }
    return Report(**usual | facts)


class CountingDatabase(Database):
    asked = 0

    async def all(self, statement: LiteralString, params: Params = ()) -> list[Row]:
        self.asked += 1
        return await super().all(statement, params)


async def value(database: Database, statement: LiteralString, params: Params = ()) -> Any:  # noqa: ANN401
    (row,) = await database.all(statement, params)
    (found,) = row.values()
    return found
