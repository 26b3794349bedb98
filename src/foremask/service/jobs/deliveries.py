"""Webhook deliveries: claim the next attempt, sign its body, and record its outcome."""

import base64
import hmac
from dataclasses import dataclass

from foremask.errors import RequestUnknown
from foremask.service.jobs.database import Database
from foremask.service.observability import metrics

SCHEDULE_S = (0, 5, 30, 120, 600, 3600)  # pause before each attempt; the first has none
HELD_S = 30.0  # lease of an attempt, whose POST takes at most 10 s


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt to send a webhook; ``payload`` is None until `freeze` has stored the body."""

    id: int
    request_id: str
    url: str
    attempt: int
    payload: bytes | None
    webhook_key: bytes
    traceparent: str | None


def sign(key: bytes, request_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{request_id}.{timestamp}.".encode() + body
    return "v1=" + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


async def begin(database: Database) -> Delivery | None:
    """Claim the next due attempt of a token that is below its limit of concurrent attempts."""
    row = await database.row_of("take_delivery", HELD_S)
    if row is not None and row["id"] is None:  # all tokens with a due attempt are at their limit
        metrics.HELD_BACK.labels("webhooks").inc()
        return None
    if row is None:
        return None
    return Delivery(**row)


async def freeze(database: Database, delivery: int, payload: bytes) -> bytes:
    """Store the body if none is stored; return the stored body, which all attempts send."""
    row = await database.one(
        "update deliveries set payload = coalesce(payload, %s) where id = %s returning payload",
        (payload, delivery),
    )
    if row is None:
        return payload
    return bytes(row["payload"])


async def record(database: Database, delivery: Delivery, http_status: int | None) -> str:
    """Record the attempt's HTTP status (None: no response); return the delivery's status.

    The status is ``delivered`` after 2xx, ``pending`` if a retry is queued, or else ``given_up``.
    """
    wait_s = 0.0
    if http_status is not None and 200 <= http_status < 300:
        status = "delivered"
    elif delivery.attempt >= len(SCHEDULE_S):
        status = "given_up"
    else:
        status = "pending"
        wait_s = float(SCHEDULE_S[delivery.attempt])
    await database.value_of("delivery_ended", delivery.id, delivery.attempt, status, wait_s)
    return status


async def redeliver(database: Database, request_id: str) -> None:
    """Queue the job's webhook again, unchanged. Raises RequestUnknown if the job has none."""
    row = await database.one("select max(id) as id from deliveries where job = %s", (request_id,))
    if row is None or row["id"] is None:
        raise RequestUnknown(
            f"request {request_id!r} has no webhook to deliver", param="request_id"
        )
    await database.all(  # if repeated, the statement finds the new row and inserts none
        """with made as (
               insert into deliveries (job, token, url, payload, next_at)
               select job, token, url, payload, clock() from deliveries d where id = %s
               and not exists (select from deliveries x where x.job = d.job and x.id > d.id)
               returning id)
           select wake('webhooks') from made""",
        (row["id"],),
    )
