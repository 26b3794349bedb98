"""Decides whether a request may start a job: rate, quota, idempotency, caps; then queues it."""

import uuid
from dataclasses import dataclass
from typing import Literal

import msgspec

from foremask.errors import (
    Busy,
    ForemaskError,
    IdempotencyMismatch,
    QueueFull,
    QuotaExhausted,
    RateLimited,
    StorageQuota,
    TokenInvalid,
    TooManyJobs,
)
from foremask.options import Form, Quality
from foremask.service.jobs.database import Database, json_value, on_disk
from foremask.service.jobs.step_facts import JobResult, StoredClip

QUEUE_LIMIT = 10_000  # a day of 60 s clips on the fastest machine we know
NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Grant:
    """A valid token, and what is left of its rate.

    ``allowed`` may come at once, ``remaining`` are left, and all are back after ``reset_s``.
    ``request_id`` is the job that the Idempotency-Key has made, of a body with ``body_hash``.
    """

    token_id: uuid.UUID
    allowed: int
    remaining: int
    reset_s: float
    request_id: str | None = None
    body_hash: bytes | None = None


COLUMNS = {"request_id": "id", "token_id": "token", "fetched_bytes": "fetched"}


class NewJob(msgspec.Struct, frozen=True, kw_only=True, rename=COLUMNS):
    """A job as asked for; exactly one of ``video_url`` and ``source_key`` is set.

    ``source_key`` names an upload of ours. ``clip`` has the probe's facts, None when the origin was
    too slow; its ``frames`` may be None. ``body_hash`` identifies the body. ``traceparent`` is the
    caller's valid W3C header.
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
        error = RateLimited(
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


def _refusal(outcome: str, allowed: int, counted: int) -> ForemaskError | None:
    match outcome:
        case "invalid":
            return TokenInvalid("the token is unknown, revoked or expired")
        case "quota":
            details = f"the token's quota of {allowed} jobs is used up"
            return QuotaExhausted(details, limit=allowed)
        case "mismatch":
            return mismatch()
        case "concurrent":
            details = f"{counted} jobs of this token are unfinished, of {allowed} that it may have"
            return TooManyJobs(details, limit=allowed, actual=counted)
        case "storage":
            return storage_quota(allowed, counted)
        case "queue":
            details = f"{counted} jobs are unfinished, of {allowed} that the service takes"
            return QueueFull(details, limit=allowed, actual=counted)
        case _:
            return None


def storage_quota(allowed: int, counted: int) -> Busy:
    """The token has so many bytes stored, or would have."""
    details = f"the token's uploads and results would take {counted} bytes, of {allowed}"
    return StorageQuota(details, limit=allowed, actual=counted)


def mismatch() -> IdempotencyMismatch:
    """The Idempotency-Key was used for another body."""
    return IdempotencyMismatch(
        "this Idempotency-Key was used before with another body; use a new key for a new request"
    )
