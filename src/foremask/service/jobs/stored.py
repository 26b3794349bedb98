"""The bytes that each token has stored; uploads are reserved before they come."""

import uuid
from datetime import datetime

from foremask.service.jobs.admission import storage_quota
from foremask.service.jobs.database import Database
from foremask.service.service_errors import LinkInvalid


async def new_upload(database: Database, key: str, token_id: uuid.UUID) -> None:
    """A form has been given out; nothing has come yet."""
    await database.all(
        "insert into uploads (key, token) values (%s, %s) on conflict do nothing", (key, token_id)
    )


async def claim_upload(database: Database, key: str) -> str:
    """The form is used from now on, until `reserve` gives its bytes back; the id of its token.

    Raises LinkInvalid where it is used already, or its token is no longer good.
    """
    row = await database.one(
        """with form as (
               select u.key, t.id, t.revoked_at is null
                   and (t.expires_at is null or t.expires_at > now()) as good
               from uploads u join tokens t on t.id = u.token where u.key = %s),
           claimed as (
               update uploads u set bytes = 1 from form
               where u.key = form.key and form.good and u.bytes = 0 returning u.token),
           counted as (
               update tokens t set stored = stored + 1 from claimed where t.id = claimed.token)
           select id, good, exists (select from claimed) as claimed from form""",
        (key,),
    )
    if row is None or not row["good"]:
        raise LinkInvalid("The token that this form was given to is no longer good.")
    if not row["claimed"]:
        raise LinkInvalid("This form has been used; ask for another to upload again.")
    return str(row["id"])


async def name_upload(database: Database, key: str, name: str | None) -> None:
    """The uploaded file is called so where it comes from; jobs made of it have that name."""
    await database.all("update uploads set name = %s where key = %s", (name, key))


async def reserve(database: Database, key: str, size: int, limit: int) -> None:
    """Count ``size`` bytes for the upload. Raises StorageQuota over the token's ``limit``."""
    row = await database.one("select * from reserve_upload(%s, %s, %s)", (key, size, limit))
    if row is not None and not row["ok"]:
        raise storage_quota(limit, row["counted"] + size)


async def forget(database: Database, before: datetime) -> int:
    """Forget the uploads of forms older than ``before``; how many they were, at most 1000."""
    row = await database.one("select forget_uploads(%s) as n", (before,))
    return row["n"] if row else 0


async def total(database: Database) -> int:
    """Of all tokens."""
    row = await database.one("select coalesce(sum(stored), 0)::bigint as n from tokens")
    return row["n"] if row else 0
