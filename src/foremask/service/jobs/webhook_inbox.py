"""The playground's webhook receiver: it keeps each token's newest signed callbacks."""

import hmac
import re
import time
import uuid
from dataclasses import dataclass
from datetime import datetime

from foremask.service.jobs.database import Database
from foremask.service.jobs.deliveries import sign
from foremask.service.service_errors import LinkInvalid

RECEIVER_PATH = "/v2/playground/webhooks"
MAX_ENTRIES = 20
KEEP_S = 3600.0
MAX_BODY_BYTES = 256 << 10
FRESH_S = 300  # docs/webhooks.md asks the same of every receiver


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One callback as it came."""

    request_id: str
    stamp: str
    signature: str
    body: str
    at: datetime


def receiver_url(base_url: str, token_id: uuid.UUID) -> str:
    """Where the callbacks of a token go, to be seen in the playground."""
    return f"{base_url}{RECEIVER_PATH}/{token_id}"


def is_receiver(base_url: str, url: str) -> bool:
    """Whether `receiver_url` makes this ``url``; then the operator chose its host, not a caller."""
    head, _, name = url.rpartition("/")
    return head == base_url + RECEIVER_PATH and _token_id(name) is not None


async def keep(
    database: Database, token: str, request_id: str, stamp: str, signature: str, body: bytes
) -> None:
    """Keep a callback of the token's, and forget what is too old or too much.

    Raises LinkInvalid unless this service has signed it for that token within the last minutes.
    """
    token_id = _token_id(token)
    row = token_id and await database.one(
        "select webhook_key from tokens where id = %s and revoked_at is null", (token_id,)
    )
    fresh = re.fullmatch(r"[0-9]{1,12}", stamp) and abs(time.time() - int(stamp)) <= FRESH_S
    if not row or not fresh:
        raise LinkInvalid("This is no fresh callback of a token of this service.")
    expected = sign(bytes(row["webhook_key"]), request_id, stamp, body)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise LinkInvalid("The callback does not have this service's signature.")
    await database.one(
        """with made as (
               insert into received (token, request_id, stamp, signature, body)
               values (%(token)s, %(request_id)s, %(stamp)s, %(signature)s, %(body)s)),
           old as (
               delete from received where at < now() - make_interval(secs => %(kept_s)s)),
           many as (
               delete from received where token = %(token)s and id <= (
                   select id from received where token = %(token)s
                   order by id desc offset %(others)s limit 1))
           select 1""",
        {
            "token": token_id,
            "request_id": request_id,
            "stamp": stamp,
            "signature": signature,
            "body": body.decode("utf-8", "replace"),
            "kept_s": KEEP_S,
            "others": MAX_ENTRIES - 1,
        },
    )


async def newest(database: Database, token_id: uuid.UUID) -> list[InboxEntry]:
    """What the token was called back with lately, the newest first."""
    rows = await database.all(
        """select request_id, stamp, signature, body, at from received
           where token = %s and at > now() - make_interval(secs => %s) order by id desc""",
        (token_id, KEEP_S),
    )
    return [InboxEntry(**row) for row in rows]


def _token_id(text: str) -> uuid.UUID | None:
    try:
        token_id = uuid.UUID(text)
    except ValueError:
        return None
    return token_id if str(token_id) == text else None
