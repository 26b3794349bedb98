"""Reads a call: its token and rate, its Idempotency-Key, its body, each once and in this order."""

import re
from dataclasses import dataclass

from msgspec import Struct

from foremask.errors import FieldInvalid, TokenInvalid, TokenMissing
from foremask.service.api import forms, parsing
from foremask.service.api.bodies import JobBody
from foremask.service.api.request_context import GRANT, OWNER, ApiRequest, Service
from foremask.service.jobs import admission
from foremask.service.jobs.admission import Grant
from foremask.service.jobs.tokens import token_hash

MAX_TOKEN_LENGTH = 512
MAX_KEY_LENGTH = 255
REMEDY = (
    "Send the token in the header api_token, or as 'Authorization: Bearer TOKEN', or in x-api-key "
    "(some proxies drop headers with an underscore)."
)


@dataclass(frozen=True, slots=True)
class Call[B]:
    """A POST with a good token: ``token`` is its SHA-256, ``digest`` that of the body's fields.

    Where tokens take turns, it is the turn of ``owner``.
    """

    service: Service
    request_id: str
    token: bytes
    grant: Grant
    owner: str
    body: B
    digest: bytes
    key: str | None


async def read_call[B: Struct](
    request: ApiRequest, kind: type[B], job: str | None = None, *, may_be_empty: bool = False
) -> Call[B]:
    """Check the token, take the call off its rate, and decode the body.

    ``job`` names a call that starts one: with the Idempotency-Key of a job that exists it costs no
    rate. Raises the errors of token, rate, body and key, in this order.
    """
    service = request.service
    token = _token(request)
    key = None if job is None else request.headers.get("idempotency-key")
    is_good = key is None or re.fullmatch(rf"[!-~]{{1,{MAX_KEY_LENGTH}}}", key) is not None
    grant = await admission.charge_rate(service.database, token, key if is_good else None)
    owner = str(grant.token_id)
    request.scope["state"] |= {GRANT: grant, OWNER: owner}
    if grant.request_id is not None:
        service.reads.take(token)
    has_clip = job is not None and issubclass(kind, JobBody) and forms.is_form(request)
    if has_clip:
        is_new = grant.request_id is None and is_good
        body, digest = await forms.read_clip(request, kind, job, grant, stores=is_new)
    else:
        body, digest = await parsing.read_body(request, kind, job, may_be_empty=may_be_empty)
    if grant.request_id is not None and grant.body_hash != digest:
        raise admission.mismatch()
    if key is not None and not is_good:
        raise FieldInvalid(
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters "
            "without a space.",
            param="Idempotency-Key",
            limit=MAX_KEY_LENGTH,
            actual=len(key),
        )
    return Call(service, request.id, token, grant, owner, body, digest, key)


def read_token(request: ApiRequest) -> bytes:
    """The SHA-256 of the token of a GET, which is taken off the limit on reads.

    Raises TokenMissing, TokenInvalid or RateLimited.
    """
    token = _token(request)
    request.service.reads.take(token)
    return token


def _token(request: ApiRequest) -> bytes:
    """The token's SHA-256, which is all that is stored.

    The time of the database's look-up says nothing about a token, since nobody can choose a hash
    byte by byte.
    """
    headers = request.headers
    # Read from a file or pasted, a token often ends in a newline or a blank.
    token = (headers.get("api_token") or headers.get("x-api-key") or "").strip()
    if not token:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else ""
    if not token:
        raise TokenMissing(f"The request carries no token. {REMEDY}")
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenInvalid("The token is unknown, revoked or expired.")
    return token_hash(token)
