"""Adds jobs and uploads to the database, within the limits of a token."""

import uuid
from collections.abc import Collection
from datetime import datetime

import msgspec

from foremask import errors
from foremask.options import JobSpec
from foremask.service.jobs.database import Database, on_disk
from foremask.service.jobs.life import Event, change
from foremask.service.jobs.steps import Step, StoredClip
from foremask.service.jobs.tokens import refuse_token

COLUMNS = {"request_id": "id", "token_id": "token", "fetched_bytes": "fetched"}
FORGOTTEN_AT_ONCE = 10_000  # upload rows that one statement deletes, in about 0.1 s
QUEUE_LIMIT = 10_000  # unfinished jobs; a fast machine masks as many 60 s clips in a day
NO_LIMIT = 1 << 62
DEAD_AFTER_S = 120.0  # an API process reports every 5 s


class NewJob(msgspec.Struct, frozen=True, kw_only=True, rename=COLUMNS):
    request_id: str
    token_id: uuid.UUID
    spec: JobSpec
    video_url: str | None = None
    source_key: str | None = None  # of the uploaded clip
    mask_key: str | None = None  # of a stored mask to use instead of the network
    background_url: str | None = None
    background_key: str | None = None
    network_key: str | None = None  # of an earlier job's network results
    key_points: int = 0  # number of leading hints that come from the request's `key_points`
    webhook_url: str | None = None
    idempotency_key: str | None = None
    body_hash: bytes | None = None
    clip: StoredClip | None = None  # None if the clip could not be probed in time
    traceparent: str | None = None  # the W3C header of the request's first span
    fetched_bytes: int = 0  # to download for the background, and for the clip if a mask is reused


async def admit(database: Database, job: NewJob, storage_limit: int = NO_LIMIT) -> str:
    """Insert a job with its first step; return the job's id once both are on the disk.

    Returns the existing job's id for a known Idempotency-Key with the same body. Raises
    token_invalid, quota_exhausted, idempotency_mismatch, too_many_jobs, storage_quota or
    queue_full.
    """
    columns = msgspec.to_builtins(job)
    if job.body_hash is not None:
        columns["body_hash"] = f"\\x{job.body_hash.hex()}"
    admitted = change(Event.ADMITTED)
    row = await database.row_of("admit", columns, admitted, QUEUE_LIMIT, storage_limit)
    assert row is not None  # noqa: S101  # the SQL function always returns a row
    refuse(row["outcome"], row["allowed"], row["counted"])
    await on_disk(database)
    made: str = row["request_id"]
    return made


def refuse(outcome: str, allowed: int | None = None, counted: int | None = None) -> None:
    match outcome:
        case "invalid" | "quota":
            refuse_token(outcome, allowed)
        case "mismatch":
            raise errors.BadRequest(
                "this Idempotency-Key was used before with another body;"
                " use a new key for a new request",
                reason="idempotency_mismatch",
            )
        case "concurrent":
            details = f"{counted} jobs of this token are unfinished, of {allowed} that it may have"
            raise errors.Busy(details, reason="too_many_jobs", limit=allowed, actual=counted)
        case "storage":
            details = f"the token's uploads and results would take {counted} bytes, of {allowed}"
            raise errors.Busy(details, reason="storage_quota", limit=allowed, actual=counted)
        case "queue":
            details = f"{counted} jobs are unfinished, of {allowed} that the service takes"
            raise errors.Busy(details, reason="queue_full", limit=allowed, actual=counted)
        case _:
            pass


async def new_upload(
    database: Database,
    key: str,
    token_id: uuid.UUID,
    name: str | None = None,
    claim: str | None = None,
) -> None:
    await database.all(
        """insert into uploads (key, token, name, claim) values (%s, %s, %s, %s)
           on conflict do nothing""",
        (key, token_id, name, claim),
    )


def claim_of(process_id: uuid.UUID, request_id: str) -> str:
    """Return the mark of an upload that a request of this process has begun, until `settle`."""
    return f"{process_id}/{request_id}"


async def claim_upload(database: Database, key: str, claim: str, name: str | None) -> str:
    """Mark the upload form as used by ``claim``; return the id of the token that got the form.

    `give_back` makes the form usable again. Raises LinkInvalid if another request has used the
    form, or if the token is revoked or has expired.
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
    """Set the upload's size. Raises storage_quota if its token would store over ``limit`` bytes."""
    row = await database.row_of("reserve_upload", key, size, limit)
    if row is not None and not row["ok"]:
        refuse("storage", limit, row["counted"] + size)


async def settle(database: Database, key: str) -> None:
    await database.all("update uploads set claim = null where key = %s", (key,))


async def give_back(database: Database, key: str) -> None:
    """Free the quota of an upload whose file is deleted; its form can be used again."""
    await reserve(database, key, 0, 0)
    await settle(database, key)


async def keep_if_needed(database: Database, key: str) -> bool:
    """Settle the upload and return True if the request that sent the clip has made a job."""
    row = await database.one(
        """with kept as (
               update uploads set claim = null where key = %s
               and exists (select from jobs where id = split_part(key, '/', 2)) returning key)
           select count(*) > 0 as so from kept""",
        (key,),
    )
    return row is not None and bool(row["so"])


async def abandoned(database: Database) -> list[str]:
    """Return the keys of uploads that are not settled and whose process has died."""
    rows = await database.all(
        """select key from uploads where claim like '%%/%%' and made_at < clock() - interval '10 s'
           and not exists (select from processes p where p.id::text = split_part(claim, '/', 1)
               and p.seen_at > clock() - make_interval(secs => %s))
           limit %s""",
        (DEAD_AFTER_S, FORGOTTEN_AT_ONCE),
    )
    return [row["key"] for row in rows]


async def reserve_result(
    database: Database, step: Step, size: int, optional: int, limit: int
) -> bool:
    """Reserve ``size`` bytes for the step's result, and ``optional`` bytes more if they fit.

    They fit if the token then stores at most ``limit`` bytes. Returns whether they fit. A stale
    attempt reserves nothing and returns False.
    """
    return bool(await database.value_of("reserve_result", *step.key, size, optional, limit))


async def forget(database: Database, before: datetime, kept: Collection[str]) -> None:
    """Delete the rows of older uploads, but for those with the keys ``kept``."""
    gone = FORGOTTEN_AT_ONCE
    while gone == FORGOTTEN_AT_ONCE:
        rows = await database.all(
            """with gone as (
                   delete from uploads where key in (
                       select key from uploads where made_at < %s and key <> all(%s)
                       order by made_at limit %s)
                   returning token, bytes),
               freed as (
                   update tokens t set stored = t.stored - g.bytes
                   from (select token, sum(bytes)::bigint as bytes from gone group by 1) g
                   where t.id = g.token)
               select count(*) as n from gone""",
            (before, list(kept), FORGOTTEN_AT_ONCE),
        )
        gone = rows[0]["n"]


def limit_of_token(setting: int | None, disk: tuple[int, int] | None) -> int:
    """Return ``setting``. If it is None, return a quarter of the disk; a bucket has no limit."""
    if setting is not None:
        return setting
    if disk is None:
        return NO_LIMIT
    total_bytes, _ = disk
    return total_bytes // 4
