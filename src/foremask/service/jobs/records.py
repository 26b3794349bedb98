"""Reads and changes jobs, and defines the JSON of responses and webhooks."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Literal
from weakref import WeakValueDictionary

import msgspec
import structlog
from msgspec import Meta, Struct, convert

from foremask import errors
from foremask.facts import Report
from foremask.hints.kinds import Hint
from foremask.options import JobSpec, ResultKind
from foremask.service.jobs.database import Database, Row
from foremask.service.jobs.life import Event, Status, change

log = structlog.get_logger(__name__)

IDLE_S = 60.0  # a shorter time without progress is normal, and not reported


class JobError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The error of a request or a job."""

    code: Annotated[int, Meta(ge=400, le=599, description="The HTTP status.")]
    message: Annotated[str, Meta(description="The name of the HTTP status.")]
    details: Annotated[str, Meta(description="What happened, with numbers, and what to do.")]
    reason: Annotated[str, Meta(description="A stable error code: docs/errors.md.")]
    param: Annotated[str, Meta(description="The field or header at fault.")] | None = None
    limit: Annotated[int | float, Meta(description="The bound that is violated.")] | None = None
    actual: Annotated[int | float, Meta(description="The value that violates it.")] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    request_id: str
    token_id: uuid.UUID
    status: Status
    stage: str
    progress: int  # percent
    frames_done: int
    frames_total: int | None
    queue_position: int | None  # 1 is next; None unless queued
    eta_s: float | None
    idle_s: float | None  # time since a running job's last progress; None below IDLE_S
    spec: JobSpec  # without its hints: `hints_of` reads them
    result_key: str | None  # None before the job completes, and after its result has expired
    report: Report | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    name: str | None  # the clip's file name
    source_key: str | None  # of the stored clip, which may be deleted
    mask_key: str | None  # of the stored mask that the job used instead of the network
    background_key: str | None
    key_points: int


@dataclass(frozen=True, slots=True)
class Attempt:
    stage: str
    number: int
    attempt: int
    worker: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    details: str | None


# eta_s: a waiting segment is expected to start when a running one ends, and to take `usual` s.
# `usual` is the shortest time from the start of masking to the estimated end of a segment.
# queue_position: a token's n-th queued job waits for n - 1 jobs of each token of the same priority,
# and for all jobs of tokens of higher priority. At most 1000 jobs of a token are counted.
_RECORD = """
    j.id as request_id, j.token as token_id, j.status, j.stage, j.frames_total, j.report, j.error,
    j.spec - 'hints' as spec, j.created_at, j.started_at, j.ended_at, j.name, j.source_key,
    j.mask_key, j.background_key, j.key_points,
    case when j.expired_at is null then j.result_key end as result_key,
    case when j.status = 'running' then (
        select extract(epoch from clock() - max(s.moved_at))::float8 from steps s
        where s.job = j.id and s.status = 'running'
    ) end as idle_s,
    case when j.status = 'running' then (
        select sum(s.frames_done)::bigint from steps s where s.job = j.id and s.stage = 'segment'
    ) end as frames_done,
    case when j.status = 'running' and j.stage = 'segment' then (
        select greatest(
            lefts[mod(waiting + slots - 1, slots) + 1] + ceil(waiting::float8 / slots) * usual,
            lefts[slots] + waiting / slots * usual)
        from (
            select array_agg(greatest(coalesce(left_s, usual), 0)
                    order by greatest(coalesce(left_s, usual), 0))
                    filter (where status = 'running') as lefts,
                nullif(count(*) filter (where status = 'running'), 0)::integer as slots,
                count(*) filter (where status in ('todo', 'waiting'))::integer as waiting, usual
            from (
                select s.status, extract(epoch from s.ends_at - clock())::float8 as left_s,
                    min(extract(epoch from s.ends_at - j.masking_at)::float8) over () as usual
                from steps s where s.job = j.id and s.stage = 'segment'
            ) each where usual is not null group by usual
        ) segments
    ) end as eta_s,
    case when j.status = 'queued' then (
        select 1 + mine.n + coalesce(sum(theirs.n), 0)::bigint
        from (select count(*) as n from (
            select from jobs q where q.status = 'queued' and q.token = j.token and q.seq < j.seq
            limit 1000) older) mine
        left join tokens o on o.unfinished > 0 and o.id <> j.token and o.priority >= j.priority
        left join lateral (select count(*) as n from (
            select from jobs q where q.status = 'queued' and q.token = o.id
            limit case when o.priority > j.priority then 1000 else mine.n end) turns) theirs on true
        group by mine.n
    ) end as queue_position,
    (j.clip ->> 'duration_s')::float8 * (j.clip ->> 'fps')::float8 as frames_expected
"""
_NOT_DELETED = "j.expired_at is distinct from 'epoch'"


async def read(database: Database, token_hash: bytes, request_id: str) -> Record:
    """Read a job of the token. Raises token_invalid, or RequestUnknown if deleted or not found."""
    row = await database.one(
        f"""select {_RECORD} from tokens t
            left join jobs j on j.id = %s and j.token = t.id and {_NOT_DELETED}
            where t.hash = %s and is_good(t)""",  # noqa: S608  # a constant
        (request_id, token_hash),
    )
    if row is None:
        raise errors.Denied("the token is unknown, revoked or expired", reason="token_invalid")
    if row["request_id"] is None:
        raise _unknown(request_id)
    return _record(row)


async def of_token(
    database: Database,
    token_hash: bytes,
    *,
    limit: int,
    before: str | None,
    conversions: bool,
    key_prefix: str = "",
) -> list[Record]:
    """Return at most ``limit`` jobs of the token, newest first.

    If ``before`` is a job's id, only older jobs are returned. Jobs that reuse a stored mask are
    only returned if ``conversions``. If ``key_prefix`` is not empty, only jobs are returned whose
    Idempotency-Key begins with it. Raises token_invalid, or RequestUnknown for an unknown job.
    """
    rows = await database.all(
        f"""select b.seq as before, {_RECORD} from tokens t
            left join jobs b on b.id = %s and b.token = t.id
            left join lateral (
                select j.* from jobs j where j.token = t.id and {_NOT_DELETED}
                and j.seq < coalesce(b.seq, 1::bigint << 62) and (%s or j.mask_key is null)
                and (%s = '' or starts_with(j.idempotency_key, %s))
                order by j.seq desc limit %s) j on true
            where t.hash = %s and is_good(t) order by j.seq desc""",  # noqa: S608  # constants
        (before, conversions, key_prefix, key_prefix, limit, token_hash),
    )
    if not rows:
        raise errors.Denied("the token is unknown, revoked or expired", reason="token_invalid")
    if before is not None and rows[0]["before"] is None:
        raise errors.RequestUnknown(
            f"no request {before[:64]!r} of this token to go on behind", param="before"
        )
    return [_record(row) for row in rows if row["request_id"] is not None]


async def read_any(database: Database, request_id: str) -> Record:
    row = await database.one(f"select {_RECORD} from jobs j where j.id = %s", (request_id,))  # noqa: S608
    if row is None:
        raise _unknown(request_id)
    return _record(row)


async def latest(database: Database, most: int, *, unfinished: bool) -> list[Record]:
    waiting = ""
    if unfinished:
        waiting = "where j.status in ('queued', 'running')"
    rows = await database.all(
        f"select {_RECORD} from jobs j {waiting} order by j.created_at desc limit %s",  # noqa: S608
        (most,),
    )
    return [_record(row) for row in rows]


async def hints_of(database: Database, request_id: str) -> tuple[Hint, ...]:
    row = await database.one(
        "select spec -> 'hints' as hints from jobs where id = %s", (request_id,)
    )
    if row is None:
        return ()
    return msgspec.convert(row["hints"], tuple[Hint, ...])


async def newest_mask(database: Database, request_id: str) -> bytes | None:
    row = await database.one("select png from newest_masks where job = %s", (request_id,))
    if row is None:
        return None
    png: bytes = row["png"]
    return png


async def cancel(database: Database, token_hash: bytes, request_id: str) -> Record:
    """Cancel the job unless it has ended. Raises the errors of `read`."""
    record = await read(database, token_hash, request_id)
    if record.ended_at is None:
        error = errors.Ended("the job was cancelled by its owner", reason="cancelled")
        cancelled = change(Event.CANCELLED, {"error": error.facts()})
        await database.value_of("end_job", request_id, cancelled)
        record = await read(database, token_hash, request_id)
    return record


async def rename(database: Database, token_hash: bytes, request_id: str, name: str) -> Record:
    record = await read(database, token_hash, request_id)
    await database.all("update jobs set name = %s where id = %s", (name, request_id))
    return replace(record, name=name)


async def delete(database: Database, token_hash: bytes, request_id: str) -> Record:
    """Hide the job, and cancel it if unfinished. Maintenance deletes its row and files later."""
    record = await cancel(database, token_hash, request_id)
    await database.all("update jobs set expired_at = 'epoch' where id = %s", (request_id,))
    return replace(record, result_key=None)


async def history(database: Database, request_id: str) -> list[Attempt]:
    rows = await database.all(
        """select stage, number, attempt, worker, started_at, ended_at, outcome, details
           from attempts where job = %s order by started_at, stage, number, attempt""",
        (request_id,),
    )
    return [Attempt(**row) for row in rows]


def _unknown(request_id: str) -> errors.RequestUnknown:
    return errors.RequestUnknown(
        f"this token has no request {request_id[:64]!r}: it never had, or its record has expired",
        param="request_id",
    )


def _record(row: Row) -> Record:
    try:
        return _readable(row)
    except (ValueError, KeyError, TypeError):
        job = row["request_id"]
        log.exception("job.unreadable", job=job)
        error = errors.Internal(f"The record of this job cannot be read; report request {job}.")
        kept = ("request_id", "token_id", "created_at", "ended_at", "name")
        unknown: Row = {
            "status": "unreadable",
            "stage": "unreadable",
            "progress": 0,
            "frames_done": 0,
        }
        unknown |= {"spec": {}, "key_points": 0, "error": error.facts()}
        row = dict.fromkeys(row) | unknown | {name: row[name] for name in kept}
        return msgspec.convert(row, Record)


def _readable(row: Row) -> Record:
    status = Status(row["status"])
    stage = row["stage"]
    report = msgspec.convert(row["report"], Report | None)
    total: int | None = row["frames_total"]
    if total is None and status is Status.RUNNING and row["frames_expected"]:
        total = max(1, round(row["frames_expected"]))  # as `Clip.expected_frames`
    done: int = row["frames_done"] or 0
    if status is Status.COMPLETED:
        if report is not None and report.frames_out:
            total = report.frames_out
        total = total or 0
        done = total
    elif total is not None:
        done = min(done, total)  # the clip's header may declare too few frames
    silent_s: float = row["idle_s"] or 0.0
    idle_s = None
    if silent_s >= IDLE_S:
        idle_s = round(silent_s)
    left_s = row["eta_s"]
    if stage == "join":
        left_s = 0.0  # joining takes seconds
    if idle_s:
        left_s = None
    computed = {
        "progress": _progress(status, stage, done, total),
        "frames_done": done,
        "frames_total": total,
        "idle_s": idle_s,
        "eta_s": None if left_s is None else round(left_s, 1),
    }
    return msgspec.convert(row | computed, Record)


def _progress(status: Status, stage: str, done: int, total: int | None) -> int:
    if status is Status.COMPLETED:
        return 100
    if status is not Status.RUNNING:
        return 0
    if stage == "segment":
        share = done / total if total else 0.0
        return 2 + int(95 * share)  # ingest and join share the other 5 %
    if stage == "join":
        return 98
    return 1


ASK_EVERY_S = 0.25


class Ends:
    def __init__(self, database: Database) -> None:
        self._database = database
        # An event lives while a `wait` call holds it.
        self._waiting = WeakValueDictionary[str, asyncio.Event]()
        self._asking: asyncio.Task[None] | None = None
        self.is_stopping = False

    def stop(self) -> None:
        self.is_stopping = True
        for ended in self._waiting.values():
            ended.set()

    async def wait(self, request_id: str, seconds: float) -> None:
        """Return when the job has ended, after ``seconds``, or on `stop`."""
        if self.is_stopping:
            return
        ended = self._waiting.setdefault(request_id, asyncio.Event())
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()

    async def _ask(self) -> None:
        while self._waiting:
            try:
                rows = await self._database.all(
                    "select id from jobs where id = any(%s) and ended_at is not null",
                    (list(self._waiting),),
                )
            except errors.ServiceUnavailable:
                rows = []  # callers get this error when they read the job
            for row in rows:
                with suppress(KeyError):
                    self._waiting[row["id"]].set()  # a variable would keep the event alive
            await asyncio.sleep(ASK_EVERY_S)


LINK_S = 7 * 86400  # lifetime of a result's link, the longest that S3 allows

type Word = Literal["IN_PROGRESS", "COMPLETED", "ERROR", "UNKNOWN"]
RequestId = Annotated[str, Meta(description="The job's id, or the request's if there is no job.")]
Count = Annotated[int, Meta(ge=0)]


class Accepted(Struct):
    request_id: RequestId
    status_url: Annotated[
        str, Meta(description="The URL of the job's status, which needs the token.")
    ]


class Answer[T](Struct):
    request_id: RequestId
    result: T


class Problem(Struct, omit_defaults=True):
    """The body of every error response."""

    request_id: RequestId
    error: JobError
    status: Annotated[Literal["NOT_FOUND"], Meta(description="For an unknown job.")] | None = None


class Result(Struct, omit_defaults=True):
    """The result of a completed job. After it expires, the job's status is ERROR (410)."""

    video_url: Annotated[str, Meta(description="A signed link to the result.")]
    kind: ResultKind
    mask_url: Annotated[str, Meta(description="video_url, if it is a mask.")] | None = None
    report: Report | None = None


class JobStatus(Struct, kw_only=True, omit_defaults=True):
    """The status of a job; UNKNOWN means that its record cannot be read."""

    request_id: RequestId
    status: Word
    progress: Annotated[int, Meta(ge=0, le=100, description="Percent.")] | None = None
    stage: Annotated[str, Meta(description="The current step.")] | None = None
    frames_done: Count | None = None
    frames_total: Count | None = None
    queue_position: Annotated[int, Meta(ge=1, description="1 is next.")] | None = None
    eta_s: Annotated[float, Meta(ge=0, description="Seconds until the mask is done.")] | None = None
    idle_s: Annotated[float, Meta(ge=60, description="Seconds without progress.")] | None = None
    result: Result | None = None
    error: JobError | None = None


def file_name(record: Record) -> str:
    """Return the result's file name, such as flower.mask.mp4; "" if the clip has no name."""
    stem = (record.name or "").rpartition(".")[0] or record.name
    suffix = (record.result_key or "").rpartition(".")[2]
    if not stem:
        return ""
    return f"{stem}.{record.spec.kind.value}.{suffix}"


def status_body(
    record: Record, link: Callable[[str, int, str], str], link_s: int = LINK_S
) -> JobStatus:
    """Make a job's status. ``link`` returns a URL for a key, a lifetime in s and a file name."""
    if record.status is Status.UNREADABLE:
        return JobStatus(request_id=record.request_id, status="UNKNOWN", error=record.error)
    word: Word = "IN_PROGRESS"
    if record.status.ended:
        word = "ERROR"
    error = record.error
    result = None
    if record.result_key is not None:
        url = link(record.result_key, link_s, file_name(record))
        result = Result(url, record.spec.kind, report=record.report)
        if record.spec.kind is ResultKind.MASK:
            result.mask_url = url  # clients read either field
    if record.status is Status.COMPLETED and result is not None:
        word = "COMPLETED"
    elif record.status is Status.COMPLETED:  # not "COMPLETED", which promises a URL
        gone = errors.Ended(
            "The result was kept for its time, or was lost, and is deleted; submit it again.",
            reason="result_expired",
        )
        error = convert(gone.facts(), JobError)
    return JobStatus(
        request_id=record.request_id,
        status=word,
        progress=record.progress,
        stage=record.stage,
        frames_done=record.frames_done,
        frames_total=record.frames_total,
        queue_position=record.queue_position,
        eta_s=record.eta_s,
        idle_s=record.idle_s,
        result=result,
        error=error,
    )
