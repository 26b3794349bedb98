"""Authentication: the token of a request, from any of three headers."""

from foremask.errors import TokenInvalid, TokenMissing
from foremask.service.api.request_context import GRANT, OWNER, REQUEST_ID, ApiRequest
from foremask.service.jobs import admission
from foremask.service.jobs.admission import Grant, Keyed
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import token_hash

MAX_TOKEN_LENGTH = 512
REMEDY = (
    "Send the token in the header api_token, or as 'Authorization: Bearer TOKEN', or in x-api-key "
    "(some proxies drop headers with an underscore)."
)


def read_token(request: ApiRequest) -> bytes:
    """The SHA-256 of the request's token, which is all that is stored.

    Raises TokenMissing or TokenInvalid. The time of the database's look-up says nothing about a
    token, since nobody can choose a hash byte by byte.
    """
    headers = request.headers
    # Read from a file or pasted, a token often ends in a newline or a blank.
    token = (headers.get("api_token") or headers.get("x-api-key") or "").strip()
    if not token:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else ""
    if not token:
        raise TokenMissing(f"The request carries no token. {REMEDY}", param="api_token")
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenInvalid("The token is unknown, revoked or expired.", param="api_token")
    return token_hash(token)


async def charge(request: ApiRequest, database: Database, token: bytes | None = None) -> Grant:
    """Check the token and take one request off its rate.

    The answer's headers then say what is left.
    """
    grant = await admission.charge_rate(database, token or read_token(request))
    _remember(request, grant)
    return grant


def _remember(request: ApiRequest, grant: Grant) -> None:
    request.scope["state"][GRANT] = grant
    request.scope["state"][OWNER] = str(grant.token_id)


async def find_keyed(
    request: ApiRequest, database: Database, token: bytes, key: str
) -> Keyed | None:
    """The job of the token's Idempotency-Key, without taking from the rate.

    The answer's headers say what is left.
    """
    keyed = await admission.find_keyed(database, token, key)
    if keyed is not None:
        _remember(request, keyed.grant)
    return keyed


def id_of(request: ApiRequest) -> str:
    """The request's id, as in its answer and in the log."""
    ours: str = request.scope[REQUEST_ID]  # type: ignore[literal-required]
    return ours
