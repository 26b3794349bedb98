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
FULL_RETRY_S = 10.0
STORED_RETRY_S = 60.0
NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Rate:
    """The ``RateLimit-*`` headers: burst, requests left, seconds until the burst is full again."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A valid token, and what is left of its rate."""

    token_id: uuid.UUID
    priority: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Keyed:
    """The job of an Idempotency-Key, and what is left of the token's rate."""

    request_id: str
    body_hash: bytes
    grant: Grant


COLUMNS = {"request_id": "id", "token_id": "token", "fetched_bytes": "fetched"}


class NewJob(msgspec.Struct, frozen=True, kw_only=True, rename=COLUMNS):
    """A job as asked for; exactly one of ``video_url`` and ``source_key`` is set.

    ``source_key`` names an upload of ours. ``clip`` has the probe's facts, None when the origin was
    too slow; its ``frames`` may be None. ``body_hash`` identifies the body. ``traceparent`` is the
    caller's valid W3C header.
    """

    token_id: uuid.UUID
    preset: Form
    request_id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
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


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job's id; ``replayed`` when the Idempotency-Key had made it before."""

    request_id: str
    replayed: bool


async def charge_rate(database: Database, token_hash: bytes) -> Grant:
    """Check the token and take one request off its rate, exactly, on however many API nodes.

    Raises TokenInvalid, QuotaExhausted or RateLimited; the latter's ``limit``,
    ``retry_after_s`` and ``reset_s`` are the facts of its headers (``remaining`` is 0).
    """
    row = await database.row_of("charge_rate", token_hash)
    assert row is not None  # noqa: S101  # the function always answers
    rate = Rate(row["allowed"], row["remaining"], row["reset_s"])
    match row["outcome"]:
        case "invalid":
            raise _invalid()
        case "quota":
            raise _quota(row["allowed"])
        case "rate":
            error = RateLimited(
                f"more requests than the token's rate allows; try again in {row['wait_s']:.1f} s",
                limit=rate.limit,
            )
            error.retry_after_s = row["wait_s"]
            error.reset_s = rate.reset_s
            raise error
        case _:
            return Grant(row["token"], row["priority"], rate)


async def check_token(database: Database, token_hash: bytes) -> uuid.UUID:
    """The id of a valid token; raises TokenInvalid."""
    row = await database.one(
        "select id from tokens t where hash = %s and is_good(t)", (token_hash,)
    )
    if row is None:
        raise _invalid()
    token_id: uuid.UUID = row["id"]
    return token_id


async def find_keyed(database: Database, token_hash: bytes, key: str) -> Keyed | None:
    """The job that this Idempotency-Key has made, and the token's rate, of which nothing is taken.

    None when there is no such job, or the token is no longer good.
    """
    row = await database.row_of("find_keyed", token_hash, key)
    if row is None:
        return None
    rate = Rate(row["allowed"], row["remaining"], row["reset_s"])
    grant = Grant(row["token"], row["priority"], rate)
    return Keyed(row["request_id"], bytes(row["body_hash"]), grant)


def check_same_body(keyed: Keyed, body_hash: bytes) -> None:
    """Raise IdempotencyMismatch where the key was used for another body."""
    if keyed.body_hash != body_hash:
        raise _mismatch()


async def admit(
    database: Database,
    job: NewJob,
    queue_limit: int = QUEUE_LIMIT,
    storage_limit: int = NO_LIMIT,
) -> Admitted:
    """Accept the job or say why not, in one transaction with its first task.

    Raises TokenInvalid, QuotaExhausted, IdempotencyMismatch, TooManyJobs, StorageQuota or
    QueueFull.
    """
    columns = msgspec.to_builtins(job)
    if job.body_hash is not None:
        columns["body_hash"] = f"\\x{job.body_hash.hex()}"
    row = await database.row_of("admit", json_value(columns), queue_limit, storage_limit)
    assert row is not None  # noqa: S101  # the function always answers
    refusal = _refusal(row["outcome"], row["allowed"], row["counted"])
    if refusal is not None:
        raise refusal
    await on_disk(database)
    return Admitted(row["request_id"], row["outcome"] == "replayed")


def _refusal(outcome: str, allowed: int, counted: int) -> ForemaskError | None:
    match outcome:
        case "invalid":
            return _invalid()
        case "quota":
            return _quota(allowed)
        case "mismatch":
            return _mismatch()
        case "concurrent":
            details = (
                f"{counted} jobs of this token are unfinished and it may have {allowed};"
                " wait until one ends"
            )
            return _busy(TooManyJobs(details, limit=allowed, actual=counted), FULL_RETRY_S)
        case "storage":
            return storage_quota(allowed, counted)
        case "queue":
            details = (
                f"{counted} jobs are unfinished, and the service takes {allowed}; try again later"
            )
            return _busy(QueueFull(details, limit=allowed, actual=counted), FULL_RETRY_S)
        case _:
            return None


def storage_quota(allowed: int, counted: int) -> Busy:
    """The token has so many bytes stored, or would have."""
    details = (
        f"the token's uploads, sources and results would take {counted} bytes and may take"
        f" {allowed}; wait until jobs have ended and results have expired"
    )
    return _busy(StorageQuota(details, limit=allowed, actual=counted), STORED_RETRY_S)


def _busy(error: Busy, retry_after_s: float) -> Busy:
    error.retry_after_s = retry_after_s
    return error


def _invalid() -> TokenInvalid:
    return TokenInvalid("the token is unknown, revoked or expired", param="api_token")


def _quota(allowed: int) -> QuotaExhausted:
    return QuotaExhausted(f"the token's quota of {allowed} jobs is used up", limit=allowed)


def _mismatch() -> IdempotencyMismatch:
    return IdempotencyMismatch(
        "this Idempotency-Key was used before with another body; use a new key for a new request",
        param="Idempotency-Key",
    )
