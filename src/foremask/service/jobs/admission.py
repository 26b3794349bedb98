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
FORGOTTEN_AT_ONCE = 10_000  # uploads in one statement: 0.1 s of the database

QUEUE_LIMIT = 10_000  # unfinished jobs: a day of 60 s clips on the fastest machine we know
NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Grant:
    """A valid token, and how many requests its rate limit still allows.

    ``allowed`` is the burst, ``remaining`` what is left of it; it is whole again after ``reset_s``.
    ``request_id`` is the job made with the same Idempotency-Key, ``body_hash`` that of its body.
    """

    token_id: uuid.UUID
    allowed: int
    remaining: int
    reset_s: float
    request_id: str | None = None
    body_hash: bytes | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True, rename=COLUMNS):
    """A requested job; exactly one of ``video_url`` and ``source_key`` is set.

    ``source_key`` names a stored file. ``clip`` is what the probe found, None if the origin was too
    slow; its ``frames`` may be None. ``body_hash`` is the hash of the request's body,
    ``traceparent`` the W3C header of its first span.
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
    fetched_bytes: int = 0  # of a background, and of the clip for a stored mask, if known


def token_hash(secret: str) -> bytes:
    """The stored hash by which a token is found."""
    return hashlib.sha256(secret.encode()).digest()


async def charge_rate(database: Database, token_hash: bytes, key: str | None = None) -> Grant:
    """Check the token and count one request against its rate, exactly, across all API nodes.

    A request whose Idempotency-Key ``key`` has already made a job is not counted.

    Raises TokenInvalid, QuotaExhausted or RateLimited, whose ``limit``, ``retry_after_s`` and
    ``reset_s`` are the values of the response's headers (``remaining`` is 0).
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
    """Insert the job and its first step in one transaction, or raise why it is refused.

    Returns its id, or the id of the job that the same Idempotency-Key made in the meantime.
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
    """The error for a token that has stored, or would store, more bytes than ``allowed``."""
    details = f"the token's uploads and results would take {counted} bytes, of {allowed}"
    return errors.StorageQuota(details, limit=allowed, actual=counted)


def mismatch() -> errors.IdempotencyMismatch:
    """The error for an Idempotency-Key that was used with another body."""
    return errors.IdempotencyMismatch(
        "this Idempotency-Key was used before with another body; use a new key for a new request"
    )


async def new_upload(
    database: Database, key: str, token_id: uuid.UUID, name: str | None = None
) -> None:
    """Record an upload of no bytes yet: an issued form, or a file that is about to be sent."""
    await database.all(
        "insert into uploads (key, token, name) values (%s, %s, %s) on conflict do nothing",
        (key, token_id, name),
    )


async def claim_upload(database: Database, key: str, claim: str, name: str | None) -> str:
    """Mark the form as used and return its token's id; `reserve` with 0 bytes undoes it.

    ``claim`` is the id of the request that sends the file, ``name`` the file's name. Raises
    LinkInvalid if another request has used the form, or if its token is revoked or expired.
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
    """Reserve storage for a step's result: ``size`` bytes, and ``optional`` more if they fit.

    Returns False if the optional bytes exceed the token's ``limit``, so that only ``size`` is
    reserved, and for a stale attempt, for which nothing is.
    """
    return bool(await database.value_of("reserve_result", *step.key, size, optional, limit))


async def forget(database: Database, before: datetime) -> int:
    """Delete the records of uploads made before ``before``; return how many there were."""
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
    """A token's storage limit in bytes: ``setting``, else a quarter of a local store's disk."""
    if setting is not None:
        return setting
    return NO_LIMIT if disk is None else disk[0] // 4
