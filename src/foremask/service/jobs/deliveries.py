"""Webhook deliveries: when each attempt is due, its body and signature, and its outcome."""

import base64
import hmac
from dataclasses import dataclass

from foremask.errors import RequestUnknown
from foremask.service.jobs.database import Database
from foremask.service.observability import metrics

SCHEDULE_S = (0, 5, 30, 120, 600, 3600)
"""The pause before each attempt: after the job's end for the first, else after the one before."""
HELD_S = 30.0  # longer than an attempt takes; after it another worker may make the next


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to send a webhook; the first has no ``payload`` yet, and must `freeze` one."""

    id: int
    request_id: str
    url: str
    attempt: int
    payload: bytes | None
    webhook_key: bytes
    traceparent: str | None


def sign(key: bytes, request_id: str, timestamp: str, body: bytes) -> str:
    """The ``Bria-Webhook-Signature`` of a body."""
    signed = f"{request_id}.{timestamp}.".encode() + body
    return "v1=" + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


async def begin(database: Database) -> Delivery | None:
    """Claim the next attempt that is due, of a token below its limit; None if there is none."""
    row = await database.row_of("take_delivery", HELD_S)
    if row is not None and row["id"] is None:  # one is due, and its token is at its limit
        metrics.HELD_BACK.labels("webhooks").inc()
        return None
    return None if row is None else Delivery(**row)


async def freeze(database: Database, delivery: int, payload: bytes) -> bytes:
    """Store the body unless one is stored, and return the stored one, which all attempts send."""
    row = await database.one(
        "update deliveries set payload = coalesce(payload, %s) where id = %s returning payload",
        (payload, delivery),
    )
    return payload if row is None else bytes(row["payload"])


async def record(database: Database, delivery: Delivery, http_status: int | None) -> str:
    """Record the attempt's result; queue its retry, and a webhook that the token's limit delayed.

    Only 2xx is success; None means no answer. Returns the delivery's new status:
    ``delivered``, ``pending`` or ``given_up``.
    """
    delivered = http_status is not None and 200 <= http_status < 300
    last = delivery.attempt >= len(SCHEDULE_S)
    status = "delivered" if delivered else "given_up" if last else "pending"
    wait_s = float(SCHEDULE_S[delivery.attempt]) if status == "pending" else 0.0
    ended = delivery.id, delivery.attempt, status, wait_s
    await database.value_of("delivery_ended", *ended)
    return status


async def redeliver(database: Database, request_id: str) -> None:
    """Queue the job's webhook again, with the same bytes. Raises RequestUnknown if it has none."""
    row = await database.one("select max(id) as id from deliveries where job = %s", (request_id,))
    if row is None or row["id"] is None:
        raise RequestUnknown(
            f"request {request_id!r} has no webhook to deliver", param="request_id"
        )
    await database.all(  # repeated after a lost answer, it finds the new row and inserts no other
        """with made as (
               insert into deliveries (job, token, url, payload, next_at)
               select job, token, url, payload, clock() from deliveries d where id = %s
               and not exists (select from deliveries x where x.job = d.job and x.id > d.id)
               returning id)
           select send_ticket('webhooks') from made""",
        (row["id"],),
    )
