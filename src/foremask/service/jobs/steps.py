"""Claims steps of jobs, renews their leases, and records how they end.

An attempt that has lost the lease of its step is stale, and its writes are refused.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from foremask.errors import Failed, ForemaskError, TimedOut
from foremask.facts import Clip, Report, Span
from foremask.options import JobSpec
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import MAX_CRASHES, Change, Event, change
from foremask.service.jobs.process_totals import ALIVE_FOR_S
from foremask.service.jobs.schema import VERSION
from foremask.service.observability import metrics


class JobClip(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    frames: int | None = None
    start_s: float = 0.0
    size_bytes: int = 0
    warnings: tuple[str, ...] = ()


type StoredClip = Clip | JobClip  # stored as either type, read as a JobClip


class StoredSegment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A span of the clip and the key of its file; both are None for the whole clip."""

    span: Span | None = None
    key: str | None = None


WHOLE_CLIP: Final = (StoredSegment(),)


class IngestDone(msgspec.Struct, frozen=True):
    clip: StoredClip | None
    source_key: str | None
    segments: tuple[StoredSegment, ...]
    background_key: str | None = None
    fetched_bytes: int = 0  # downloaded for the background, and for the clip if a mask is reused

    @property
    def columns(self) -> dict[str, Any]:
        """The job's columns that are known now. A result is about as large as its clip."""
        known: dict[str, Any] = {
            "clip": self.clip,
            "source_key": self.source_key,
            "background_key": self.background_key,
            "fetched": self.fetched_bytes,
        }
        if self.clip is not None and self.clip.frames is not None:
            known["frames_total"] = self.clip.frames
        if self.clip is not None and self.clip.size_bytes:
            known["reserved"] = self.clip.size_bytes
        return known


class PartDone(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    report: Report
    mask_key: str | None = None  # key of the mask, if stored with a cut-out


class MaskDone(msgspec.Struct, frozen=True):
    result_key: str
    report: Report


type StepDone = IngestDone | PartDone | MaskDone


LEASE_S = 5.0  # allows one missed renewal; the steps of a dead worker restart after 3 to 7 s
RENEW_S = 2.0


type StepKey = tuple[str, str, int, int]  # job, stage, number, attempt


@dataclass(frozen=True, slots=True)
class Step:
    job: str
    stage: str
    number: int
    token: uuid.UUID
    attempt: int
    args: StoredSegment  # of a stage "segment"
    spec: JobSpec
    video_url: str | None
    source_key: str | None
    mask_key: str | None  # of a stored mask to use instead of the network
    background_url: str | None
    background_key: str | None
    network_key: str | None  # of an earlier job's network results
    key_points: int
    clip: JobClip | None
    traceparent: str | None  # the W3C header of the job's first span
    used_s: float  # running time of the job before this attempt
    # Monotonic, so time while the machine is suspended does not count.
    taken_at: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return f"{self.job}/{self.stage}-{self.number}"

    @property
    def key(self) -> StepKey:
        return self.job, self.stage, self.number, self.attempt

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.taken_at


async def claim(
    database: Database,
    queue: str,
    worker: str,
    lease_s: float = LEASE_S,
    last: uuid.UUID | None = None,
) -> Step | None:
    """Claim the next step of ``queue`` (``files`` or ``masks``); return None if none is ready.

    API tokens of higher priority come first. Among equal priorities, the smallest quotient of used
    seconds and share comes first. The token ``last``, which this worker served last, may be 5 s
    ahead of others. Raises OtherTables after a migration to another version.
    """
    begun = change(Event.CLAIMED)
    row = await database.row_of("claim_step", VERSION, begun, queue, worker, lease_s, last)
    if row is None:
        return None
    metrics.HELD_BACK.labels("files").inc(row["held"])
    return msgspec.convert(row["step"], Step | None)


async def free_slots(database: Database, job: str) -> int:
    """Return the slots of all live workers that no other job than ``job`` needs, at least 0.

    A segment that runs or is ready needs one. So does an ingest under way, whose clip comes next.
    """
    row = await database.one(
        """select (select coalesce(sum(slots), 0) from processes
                where kind = 'worker' and seen_at > clock() - make_interval(secs => %s))
            - (select count(*) from steps
                where job <> %s and (status = 'running' and stage = 'ingest'
                    or status in ('todo', 'running') and stage = 'segment')) as free""",
        (ALIVE_FOR_S, job),
    )
    if row is None:
        return 0
    return max(0, int(row["free"]))


@dataclass(frozen=True, slots=True)
class Beat:
    step: Step
    frames_done: int
    idle_s: float = 0.0  # seconds since the step's last progress
    left_s: float | None = None  # estimated time to the step's end
    newest_png: bytes | None = None


async def renew(
    database: Database, beats: Sequence[Beat], lease_s: float = LEASE_S
) -> set[StepKey]:
    """Renew leases and record progress; return the keys of the steps whose leases were renewed."""
    if not beats:
        return set()
    rows = [(*b.step.key, b.frames_done, b.idle_s, b.left_s, b.newest_png) for b in beats]
    held = await database.all(
        """select * from renew_steps(%s, %s, %s, %s::integer[], %s::integer[], %s::bigint[],
               %s::float8[], %s::float8[], %s::bytea[])""",
        [lease_s, *([row[column] for row in rows] for column in range(len(rows[0])))],
    )
    return {(row["job"], row["stage"], row["number"], row["attempt"]) for row in held}


async def finish(database: Database, step: Step, done: StepDone) -> bool:
    """Record the step's result and queue the next steps; return False if the attempt is stale."""
    match done:
        case IngestDone():
            what = change(Event.STORED, done.columns, steps=done.segments)
        case PartDone():
            what = change(Event.PART_MADE, result=done, frames=done.report.frames_out)
        case MaskDone():
            columns = {"result_key": done.result_key, "report": done.report}
            what = change(Event.RESULT_MADE, columns, frames=done.report.frames_out)
    return await _end_attempt(database, step, what)


async def _end_attempt(database: Database, step: Step, what: Change) -> bool:
    ended = await database.value_of("end_attempt", *step.key, what, step.seconds)
    return bool(ended)


async def fail(
    database: Database,
    step: Step,
    error: ForemaskError,
    event: Event = Event.FAILED,
    *,
    retry_s: float = 0.0,
) -> bool:
    """Record a failed attempt; return False if it is stale.

    `life.LIFE` says for each ``event`` whether the step is tried again, which is after ``retry_s``,
    or whether the job ends with ``error``.
    """
    facts = {"error": error.facts()}
    what = change(event, facts, details=error.details, retry_s=retry_s)
    return await _end_attempt(database, step, what)


async def charge_lost(database: Database, step: Step) -> None:
    """Charge the token for the seconds of a stale attempt, such as that of a cancelled job."""
    await database.value_of("charge_share", step.stage, step.token, step.seconds)


async def is_done(database: Database, step: Step) -> bool:
    row = await database.one(
        """select 1 as n from attempts where job = %s and stage = %s and number = %s
           and attempt = %s and outcome = 'done'""",
        step.key,
    )
    return row is not None


async def segment_results(database: Database, request_id: str) -> list[PartDone]:
    rows = await database.all(
        """select result from steps
           where job = %s and stage = 'segment' and status = 'done' order by number""",
        (request_id,),
    )
    return [msgspec.convert(row["result"], PartDone) for row in rows]


@dataclass(frozen=True, slots=True)
class Recovered:
    lost: int = 0  # attempts whose lease had expired
    timed_out: int = 0  # jobs that reached their time limit
    alone: bool = field(default=False, compare=False)  # last call: this worker's, or long ago


async def recover(
    database: Database, wall_clock_s: float, lease_s: float = LEASE_S, worker: str = ""
) -> Recovered:
    """Retry the steps of dead workers, and end jobs that ran for ``wall_clock_s``."""
    crashed = Failed(
        f"the worker process died or hung: crash {{crashes}} of the {MAX_CRASHES} that fail a job",
        reason="worker_crashed",
    )
    timed_out = TimedOut(
        f"the job was not done after {wall_clock_s:.0f} s, the longest that one may take",
        limit=wall_clock_s,
    )
    row = await database.row_of(
        "recover",
        VERSION,
        worker,
        lease_s,
        wall_clock_s,
        change(Event.LOST, {"error": crashed.facts()}, details=crashed.details),
        change(Event.TIMED_OUT, {"error": timed_out.facts()}),
    )
    return Recovered(**(row or {}))
