"""Makes, lists, revokes and checks API tokens. Only hashes and a prefix of a secret are stored."""

import hashlib
import hmac
import secrets
import uuid
from dataclasses import astuple, dataclass
from datetime import datetime

import msgspec

from foremask import errors
from foremask.service.jobs.database import Database, Row

SIGNING = b"bria-webhook-signing-v1"  # receivers use the same value: docs/webhooks.md
PREFIX_LENGTH = 9  # "fm_" and six characters, shown to identify a token


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    rate_per_minute: int = 600
    burst: int = 60
    concurrent: int = 100
    priority: int = 0
    share: int = 1
    quota: int | None = None  # jobs in all; None is no limit


@dataclass(frozen=True, slots=True)
class Token:
    id: uuid.UUID
    name: str
    prefix: str
    limits: TokenLimits
    used: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Grant:
    token_id: uuid.UUID
    allowed: int  # requests in a full burst
    remaining: int  # requests that are allowed now
    reset_s: float  # time until ``remaining`` equals ``allowed``
    request_id: str | None = None  # job of an earlier request with this Idempotency-Key
    body_hash: bytes | None = None  # hash of that earlier request's body


def token_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


async def charge_rate(database: Database, token_hash: bytes, key: str | None = None) -> Grant:
    """Check the token and count one request against its rate limit, which all API processes share.

    A request is not counted if an earlier request with the same Idempotency-Key ``key`` made a job.
    Raises token_invalid, quota_exhausted or rate_limited.
    """
    row = await database.row_of("charge_rate", token_hash, key)
    assert row is not None  # noqa: S101  # the SQL function always returns a row
    if row["outcome"] == "rate":
        error = errors.Busy(
            f"more requests than the token's rate allows; try again in {row['wait_s']:.1f} s",
            reason="rate_limited",
            limit=row["allowed"],
        )
        error.retry_after_s = row["wait_s"]
        error.reset_s = row["reset_s"]
        raise error
    refuse_token(row["outcome"], row["allowed"])
    return msgspec.convert(row, Grant)


async def is_valid(database: Database, token_id: uuid.UUID) -> bool:
    """Whether the token is neither revoked nor expired; counts nothing."""
    row = await database.one(
        """select 1 from tokens where id = %s and revoked_at is null
           and (expires_at is null or expires_at > clock())""",
        (token_id,),
    )
    return row is not None


async def check(database: Database, token_hash: bytes) -> None:
    """Raise token_invalid for an unknown, revoked or expired token; counts nothing."""
    row = await database.one("select 1 from tokens t where hash = %s and is_good(t)", (token_hash,))
    if row is None:
        refuse_token("invalid", None)


def refuse_token(outcome: str, allowed: int | None) -> None:
    if outcome == "invalid":
        raise errors.Denied("the token is unknown, revoked or expired", reason="token_invalid")
    if outcome == "quota":
        details = f"the token's quota of {allowed} jobs is used up"
        raise errors.Denied(details, reason="quota_exhausted", limit=allowed)


def webhook_key(secret: str) -> bytes:
    """Return the key that signs the token's webhooks. The key does not reveal the token."""
    return hmac.digest(secret.encode(), SIGNING, "sha256")


async def create_token(
    database: Database,
    name: str,
    limits: TokenLimits | None = None,
    *,
    secret: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, Token]:
    """Make a token, or find the token with this ``secret``; return the secret and the token."""
    limits = limits or TokenLimits()
    secret = secret or "fm_" + secrets.token_urlsafe(32)
    row = await database.one(
        """with made as (
               insert into tokens (id, name, prefix, hash, webhook_key, rate_per_minute, burst,
                                   concurrent, priority, share, quota, expires_at)
               values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
               on conflict (hash) do nothing returning *)
           select * from made union all select * from tokens where hash = %s limit 1""",
        (
            uuid.uuid4(),
            name,
            secret[:PREFIX_LENGTH],
            token_hash(secret),
            webhook_key(secret),
            *astuple(limits),
            expires_at,
            token_hash(secret),
        ),
    )
    assert row is not None  # noqa: S101  # inserted or found
    return secret, _token(row)


async def any_token(database: Database) -> bool:
    return await database.one("select 1 from tokens limit 1") is not None


async def list_tokens(database: Database) -> list[Token]:
    rows = await database.all("select * from tokens order by created_at, id")
    return [_token(row) for row in rows]


async def revoke_token(database: Database, prefix_or_id: str) -> Token:
    """Revoke the token with this prefix or id. Raises RequestUnknown unless exactly one matches."""
    rows = await database.all(
        """update tokens set revoked_at = coalesce(revoked_at, now())
           where id in (select id from tokens where prefix = %s or id::text = %s)
           and (select count(*) from tokens where prefix = %s or id::text = %s) = 1
           returning *""",
        (prefix_or_id,) * 4,
    )
    if not rows:
        raise errors.RequestUnknown(
            f"not exactly one token is {prefix_or_id!r}; `foremask token list` shows them",
            param="token",
        )
    return _token(rows[0])


def _token(row: Row) -> Token:
    return msgspec.convert(row | {"limits": row}, Token)
