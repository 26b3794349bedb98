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


async def owner_of(database: Database, key: str) -> str:
    """The token that the form was given to; raises LinkInvalid where it is good no more."""
    row = await database.one(
        """select t.id from uploads u join tokens t on t.id = u.token
           where u.key = %s and t.revoked_at is null
           and (t.expires_at is null or t.expires_at > now())""",
        (key,),
    )
    if row is None:
        raise LinkInvalid("The token that this form was given to is no longer good.")
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
