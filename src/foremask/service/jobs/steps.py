"""A worker's lease on a step of a job: claimed, renewed while frames advance, finished or failed.

Every write names the attempt it belongs to and is refused when that attempt has lost its lease.
Fields that the JSON of a row lacks keep their defaults, and fields that it has besides are ignored,
so rows of other versions can be read.
"""

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import msgspec

from foremask.errors import FieldInvalid, ForemaskError, TimedOut, WorkerCrashed
from foremask.facts import Clip, SoundTrack, Span
from foremask.hints.kinds import Hint, check_hints
from foremask.options import Form, ResultOptions, form_of
from foremask.service.jobs.database import Database, json_value
from foremask.service.jobs.process_totals import ALIVE_FOR_S
from foremask.service.jobs.schema import VERSION
from foremask.service.observability import metrics


class JobClip(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Facts of a job's clip for its steps."""

    frames: int | None = None
    size_bytes: int = 0
    warnings: tuple[str, ...] = ()


type StoredClip = Clip | JobClip
"""What is written to a row; it is read as a `JobClip`."""


class JobReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The report of a job, as its caller reads it.

    A field that is None is absent from the JSON. ``strip`` is only in the reports of parts:
    of each frame its time in seconds, its coverage, and its change since the previous frame.
    ``mask_bytes`` is the size of the mask that is stored beside a cut-out or a composite,
    ``network_bytes`` that of the network's results, for as long as it is kept.
    """

    frames_out: int
    frames_in: int | None = None
    duration_s: float | None = None
    fps: float | None = None
    duration_drift_ms: float | None = None
    audio: tuple[SoundTrack, ...] | None = None
    sound_warnings: tuple[str, ...] | None = None
    warnings: tuple[str, ...] | None = None
    coverage: float | None = None
    flicker: float | None = None
    strip: tuple[tuple[float, float, float], ...] | None = None
    kind: str | None = None
    runtime: str | None = None
    stage_cpu_s: dict[str, float] | None = None
    segments: int | None = None
    sha256: str | None = None
    bytes: int | None = None
    mask_bytes: int | None = None
    network_bytes: int | None = None


class JobResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job makes of its clip, and where the background comes from: a URL, or an upload.

    ``clip_key`` is the clip of a job that works on a stored mask, where it is an upload. ``hints``
    say what the subject is; the first ``key_points`` of them are key points. ``network_key`` is the
    network cache of an earlier job.
    """

    options: ResultOptions = ResultOptions()
    background_url: str | None = None
    background_key: str | None = None
    clip_key: str | None = None
    hints: tuple[Hint, ...] = ()
    key_points: int = 0
    network_key: str | None = None

    def check_hints(self, clip: Clip | None = None) -> None:
        """Raise FieldInvalid for an impossible hint, or one outside of the clip if it is known."""
        with self.hints_as_sent():
            check_hints(self.hints, clip)

    @contextmanager
    def hints_as_sent(self) -> Iterator[None]:
        """Errors number hints as their caller did, who sent key points in another field."""

        def name(found: re.Match[str]) -> str:
            number = int(found[1]) - self.key_points
            if number >= 0:
                return f"hints[{number}]{found[2]}"
            return "frame_index" if found[2] else f"key_points[{found[1]}]"

        try:
            yield
        except FieldInvalid as error:
            place = r"hints\[(\d+)\]((?:\.frame\b)?)"
            error.details = re.sub(place, name, error.details)
            error.param = error.param and re.sub(place, name, error.param)
            raise


PLAIN_MASK: Final = JobResult()


class StepArgs(msgspec.Struct, frozen=True, omit_defaults=True):
    """The arguments of a step.

    A segment step masks the whole source, or the ``span`` that was cut into a file of its own, of a
    clip that starts at ``clip_start_s``. ``background_key`` is the stored background. ``result`` is
    that of the job.
    """

    span: Span | None = None
    source_key: str | None = None
    background_key: str | None = None
    clip_start_s: float | None = None
    result: JobResult = PLAIN_MASK


class IngestDone(msgspec.Struct, frozen=True):
    """Ingest's result: the stored clip, and the segments to mask.

    ``fetched_bytes`` are stored besides: a background, and the clip of a stored mask.
    """

    clip: StoredClip | None
    source_key: str | None
    segments: tuple[StepArgs, ...]
    fetched_bytes: int = 0


class PartDone(msgspec.Struct, frozen=True, omit_defaults=True):
    """A segment's result: the stored part, and that of a cut-out's mask."""

    key: str
    frames: int
    report: JobReport
    mask_key: str | None = None


class MaskDone(msgspec.Struct, frozen=True):
    """The whole mask is stored."""

    result_key: str
    frames: int
    report: JobReport


type StepDone = IngestDone | PartDone | MaskDone


LEASE_S = 5.0  # two missed renewals; the next attempt begins 3 to 7 s after a worker's death
RENEW_S = 2.0
LOST_TICKET_S = 10.0  # a step that nobody began this long after it could have been gets another
MAX_CRASHES = 3
IN_FLIGHT = 4  # segments of one job at a time: a long clip leaves room for short ones


type StepKey = tuple[str, str, int, int]
"""What a write names: job, stage, number, attempt."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that this worker holds until its lease runs out, with its arguments."""

    job: str
    stage: str
    number: int
    token: uuid.UUID
    attempt: int
    args: StepArgs
    video_url: str | None
    source_key: str | None
    preset: str  # a Form's name
    quality: str  # a Quality, or options.REENCODE_ONLY
    clip: JobClip | None
    traceparent: str | None  # of the job's first span
    used_s: float  # of the job's time, when the step was taken
    taken_at: float = field(default_factory=time.monotonic)  # stands still in a suspended machine

    @property
    def name(self) -> str:
        return f"{self.job}/{self.stage}-{self.number}"

    @property
    def key(self) -> StepKey:
        return self.job, self.stage, self.number, self.attempt

    @property
    def options(self) -> ResultOptions:
        return self.args.result.options

    @property
    def seconds(self) -> float:
        """Since the claim: they count against its token's share."""
        return time.monotonic() - self.taken_at

    @property
    def form(self) -> Form:
        return form_of(self.preset, self.options.kind)


async def claim(
    database: Database,
    queue: str,
    worker: str,
    lease_s: float = LEASE_S,
    last: uuid.UUID | None = None,
) -> Step | None:
    """Claim the next step of the queue ``files`` or ``masks``; None where there is none.

    Tokens take turns by the seconds that each has used, divided by its share; ``last``, which this
    worker served last, keeps its turn for a while. Raises OtherTables after a migration.
    """
    row = await database.row_of(f"claim_step_{VERSION}", queue, worker, lease_s, last)
    if row is None:
        return None
    metrics.HELD_BACK.labels("files").inc(row["held"])
    return msgspec.convert(row["step"], Step | None)


async def free_slots(database: Database) -> int:
    """The number of free slots of all living workers, less the segments that wait."""
    row = await database.one(
        """select (select coalesce(sum(slots), 0) from processes
                where kind = 'worker' and seen_at > clock() - make_interval(secs => %s))
            - (select count(*) from steps
                where stage = 'segment' and status in ('todo', 'running')) as free""",
        (ALIVE_FOR_S,),
    )
    return max(0, int(row["free"])) if row else 0


@dataclass(frozen=True, slots=True)
class Beat:
    """Progress of a step: frames done, seconds since the last one, seconds left, newest picture."""

    step: Step
    frames_done: int
    idle_s: float = 0.0
    left_s: float | None = None
    newest_png: bytes | None = None


async def renew(
    database: Database, beats: Sequence[Beat], lease_s: float = LEASE_S
) -> set[StepKey]:
    """Report the progress of one worker's steps; returns those that it still holds."""
    if not beats:
        return set()
    rows = [(*b.step.key, b.frames_done, b.idle_s, b.left_s, b.newest_png) for b in beats]
    held = await database.all(
        """select * from renew_steps(%s, %s, %s, %s::integer[], %s::integer[], %s::bigint[],
               %s::float8[], %s::float8[], %s::bytea[])""",
        (lease_s, *map(list, zip(*rows, strict=True))),
    )
    return {(row["job"], row["stage"], row["number"], row["attempt"]) for row in held}


async def finish(database: Database, step: Step, done: StepDone) -> bool:
    """Record the step's result and wake what follows; False when the attempt is stale."""
    result = json_value(done)
    ended = await database.value_of("finish_step", *step.key, result, IN_FLIGHT, step.seconds)
    return bool(ended)


async def fail(
    database: Database,
    step: Step,
    error: ForemaskError,
    *,
    outcome: str = "failed",
    retry_s: float | None = None,
) -> bool:
    """Record that the attempt did not succeed; False when it is stale.

    Without ``retry_s`` the job ends with ``error``. With it the step is retried after that time,
    unless ``outcome`` is "crashed" and it was the last of MAX_CRASHES.
    """
    facts = json_value(error.facts())
    return bool(
        await database.value_of(
            "fail_step", *step.key, outcome, facts, retry_s, MAX_CRASHES, step.seconds
        )
    )


async def charge_lost(database: Database, step: Step) -> None:
    """Count the time of a step whose worker has lost it, for instance to a cancel."""
    await database.value_of("charge_share", step.stage, step.token, step.seconds)


async def is_done(database: Database, step: Step) -> bool:
    """Whether this attempt is recorded as the one that did the step."""
    row = await database.one(
        """select 1 as n from attempts where job = %s and stage = %s and number = %s
           and attempt = %s
           and outcome = 'done'""",
        step.key,
    )
    return row is not None


async def segment_results(database: Database, request_id: str) -> list[PartDone]:
    """The results of all segments, in the order of the clip."""
    rows = await database.all(
        """select result from steps
           where job = %s and stage = 'segment' and status = 'done' order by number""",
        (request_id,),
    )
    return [msgspec.convert(row["result"], PartDone) for row in rows]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The repairs of one round: expired leases, lost tickets, jobs over their time.

    ``alone``: no other worker came by lately.
    """

    lost: int = 0
    woken: int = 0
    timed_out: int = 0
    alone: bool = field(default=False, compare=False)


async def recover(
    database: Database, wall_clock_s: float, lease_s: float = LEASE_S, worker: str = ""
) -> Recovered:
    """Free the steps of dead workers, replace lost tickets, end jobs over their time."""
    crashed = WorkerCrashed(
        f"the worker process died or hung: crash {{crashes}} of the {MAX_CRASHES} that fail a job"
    )
    timed_out = TimedOut(
        f"the job was not done after {wall_clock_s:.0f} s, the longest that one may take",
        limit=wall_clock_s,
    )
    row = await database.row_of(
        f"recover_{VERSION}",
        *(worker, lease_s, LOST_TICKET_S, wall_clock_s, MAX_CRASHES),
        json_value(crashed.facts()),
        json_value(timed_out.facts()),
    )
    return Recovered(**row) if row else Recovered()
