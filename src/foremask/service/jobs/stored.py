"""The bytes that each token has stored; uploads are reserved before they come."""

import uuid
from datetime import datetime

from foremask.errors import LinkInvalid
from foremask.service.jobs import steps
from foremask.service.jobs.admission import NO_LIMIT, storage_quota
from foremask.service.jobs.database import Database
from foremask.service.jobs.steps import Step

FORGOTTEN_AT_ONCE = 10_000  # 0.1 s of the database


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
        raise LinkInvalid("The token that this form was given to is no longer good.")
    if not row["claimed"]:
        raise LinkInvalid("This form has been used; ask for another to upload again.")
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

    False where the token's ``limit`` has no room for the optional bytes, which are then not
    counted, and for a stale attempt, for which none are.
    """
    attempt = steps.attempt_of(step)
    return bool(await database.value_of("reserve_result", *attempt, size, optional, limit))


async def forget(database: Database, before: datetime) -> int:
    """Forget all uploads of forms older than ``before``; how many they were."""
    count = 0
    while True:
        gone: int = await database.value_of("forget_uploads", before, FORGOTTEN_AT_ONCE)
        count += gone
        if gone < FORGOTTEN_AT_ONCE:
            return count


async def total(database: Database) -> int:
    """Of all tokens."""
    row = await database.one("select coalesce(sum(stored), 0)::bigint as n from tokens")
    return row["n"] if row else 0


def limit_of_token(setting: int | None, disk: tuple[int, int] | None) -> int:
    """The storage limit of a token: as set, else a quarter of the store's disk."""
    if setting is not None:
        return setting
    return NO_LIMIT if disk is None else disk[0] // 4
