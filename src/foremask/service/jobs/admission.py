"""Decides whether a request may start a job, and whether a token may store more."""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from foremask import errors
from foremask.options import Form, Quality
from foremask.service.jobs.database import Database, json_value, on_disk
from foremask.service.jobs.steps import JobResult, Step, StoredClip

COLUMNS = {"request_id": "id", "token_id": "token", "fetched_bytes": "fetched"}
FORGOTTEN_AT_ONCE = 10_000  # 0.1 s of the database

QUEUE_LIMIT = 10_000  # a day of 60 s clips on the fastest machine we know
NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Grant:
    """A valid token, and what is left of its rate.

    ``allowed`` requests may come at once, ``remaining`` are left, and all are after ``reset_s``.
    ``request_id`` is the job that the Idempotency-Key has made, of a body with ``body_hash``.
    """

    token_id: uuid.UUID
    allowed: int
    remaining: int
    reset_s: float
    request_id: str | None = None
    body_hash: bytes | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True, rename=COLUMNS):
    """A job as asked for; exactly one of ``video_url`` and ``source_key`` is set.

    ``source_key`` names an upload of ours. ``clip`` has the probe's facts, None when the origin was
    too slow; its ``frames`` may be None. ``body_hash`` identifies the body. ``traceparent``
    names its first span.
    """

    request_id: str
    token_id: uuid.UUID
    preset: Form
    video_url: str | None = None
    source_key: str | None = None
    quality: Quality | Literal["kept"] = Quality.BALANCED  # options.KEPT
    webhook_url: str | None = None
    idempotency_key: str | None = None
    body_hash: bytes | None = None
    clip: StoredClip | None = None
    traceparent: str | None = None
    result: JobResult | None = None  # None is a plain mask
    fetched_bytes: int = 0  # as far as is known: a background, the clip of a stored mask


def token_hash(secret: str) -> bytes:
    """The stored hash by which a token is found."""
    return hashlib.sha256(secret.encode()).digest()


async def charge_rate(database: Database, token_hash: bytes, key: str | None = None) -> Grant:
    """Check the token and take one request off its rate, exactly, on however many API nodes.

    Nothing is taken where the token's Idempotency-Key ``key`` has made a job.

    Raises TokenInvalid, QuotaExhausted or RateLimited; the latter's ``limit``,
    ``retry_after_s`` and ``reset_s`` are the facts of its headers (``remaining`` is 0).
    """
    row = await database.row_of("charge_rate", token_hash, key)
    assert row is not None  # noqa: S101  # the function always answers
    refusal = _refusal(row["outcome"], row["allowed"], 0)
    if refusal is not None:
        raise refusal
    if row["outcome"] == "rate":
        error = errors.RateLimited(
            f"more requests than the token's rate allows; try again in {row['wait_s']:.1f} s",
            limit=row["allowed"],
        )
        error.retry_after_s, error.reset_s = row["wait_s"], row["reset_s"]
        raise error
    return msgspec.convert(row, Grant)


async def admit(database: Database, job: NewJob, storage_limit: int = NO_LIMIT) -> str:
    """Accept the job or say why not, in one transaction with its first task.

    Returns its id, or that of the job that the Idempotency-Key has made in the meantime.
    Raises TokenInvalid, QuotaExhausted, IdempotencyMismatch, TooManyJobs, StorageQuota or
    QueueFull.
    """
    columns = msgspec.to_builtins(job)
    if job.body_hash is not None:
        columns["body_hash"] = f"\\x{job.body_hash.hex()}"
    row = await database.row_of("admit", json_value(columns), QUEUE_LIMIT, storage_limit)
    assert row is not None  # noqa: S101  # the function always answers
    refusal = _refusal(row["outcome"], row["allowed"], row["counted"])
    if refusal is not None:
        raise refusal
    await on_disk(database)
    made: str = row["request_id"]
    return made


def _refusal(outcome: str, allowed: int, counted: int) -> errors.ForemaskError | None:
    match outcome:
        case "invalid":
            return errors.TokenInvalid("the token is unknown, revoked or expired")
        case "quota":
            details = f"the token's quota of {allowed} jobs is used up"
            return errors.QuotaExhausted(details, limit=allowed)
        case "mismatch":
            return mismatch()
        case "concurrent":
            details = f"{counted} jobs of this token are unfinished, of {allowed} that it may have"
            return errors.TooManyJobs(details, limit=allowed, actual=counted)
        case "storage":
            return storage_quota(allowed, counted)
        case "queue":
            details = f"{counted} jobs are unfinished, of {allowed} that the service takes"
            return errors.QueueFull(details, limit=allowed, actual=counted)
        case _:
            return None


def storage_quota(allowed: int, counted: int) -> errors.Busy:
    """The token has so many bytes stored, or would have."""
    details = f"the token's uploads and results would take {counted} bytes, of {allowed}"
    return errors.StorageQuota(details, limit=allowed, actual=counted)


def mismatch() -> errors.IdempotencyMismatch:
    """The Idempotency-Key was used for another body."""
    return errors.IdempotencyMismatch(
        "this Idempotency-Key was used before with another body; use a new key for a new request"
    )


async def new_upload(
    database: Database, key: str, token_id: uuid.UUID, name: str | None = None
) -> None:
    """Record a form that was given out, or a file of this name that comes."""
    await database.all(
        "insert into uploads (key, token, name) values (%s, %s, %s) on conflict do nothing",
        (key, token_id, name),
    )


async def claim_upload(database: Database, key: str, claim: str, name: str | None) -> str:
    """Mark the form as used and return the id of its token; `reserve` of 0 bytes frees it.

    ``claim`` is the id of the request that the file comes with, under this ``name``. Raises
    LinkInvalid where another has used the form, or its token is no longer good.
    """
    row = await database.one(
        """with form as (
               select u.key, t.id, is_good(t) as good, u.bytes > 0 and u.claim = %s as is_mine
               from uploads u join tokens t on t.id = u.token where u.key = %s),
           claimed as (
               update uploads u set bytes = 1, claim = %s, name = %s from form
               where u.key = form.key and form.good and u.bytes = 0 returning u.token),
           counted as (
               update tokens t set stored = stored + 1 from claimed where t.id = claimed.token)
           select id, good, is_mine or exists (select from claimed) as claimed from form""",
        (claim, key, claim, name),
    )
    if row is None or not row["good"]:
        raise errors.LinkInvalid("The token that this form was given to is no longer good.")
    if not row["claimed"]:
        raise errors.LinkInvalid("This form has been used; ask for another to upload again.")
    return str(row["id"])


async def reserve(database: Database, key: str, size: int, limit: int) -> None:
    """Count ``size`` bytes for the upload. Raises StorageQuota over the token's ``limit``."""
    row = await database.row_of("reserve_upload", key, size, limit)
    if row is not None and not row["ok"]:
        raise storage_quota(limit, row["counted"] + size)


async def reserve_result(
    database: Database, step: Step, size: int, optional: int, limit: int
) -> bool:
    """Count what a step is about to store: ``size`` bytes in any case, and ``optional`` bytes.

    Returns False where the token's ``limit`` has no room for the optional bytes, which are not
    counted then; and for a stale attempt, of which nothing is counted.
    """
    return bool(await database.value_of("reserve_result", *step.key, size, optional, limit))


async def forget(database: Database, before: datetime) -> int:
    """Forget all uploads of forms older than ``before``; how many they were."""
    count = 0
    while True:
        rows = await database.all(
            """with gone as (
                   delete from uploads where key in (
                       select key from uploads where made_at < %s order by made_at limit %s)
                   returning token, bytes),
               freed as (
                   update tokens t set stored = t.stored - g.bytes
                   from (select token, sum(bytes)::bigint as bytes from gone group by 1) g
                   where t.id = g.token)
               select count(*) as n from gone""",
            (before, FORGOTTEN_AT_ONCE),
        )
        gone: int = rows[0]["n"]
        count += gone
        if gone < FORGOTTEN_AT_ONCE:
            return count


def limit_of_token(setting: int | None, disk: tuple[int, int] | None) -> int:
    """The storage limit of a token: as set, else a quarter of the store's disk."""
    if setting is not None:
        return setting
    return NO_LIMIT if disk is None else disk[0] // 4
