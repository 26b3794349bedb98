"""``foremask token``: who may call the API, and how much."""

import os
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from foremask.cli.database_access import ask
from foremask.cli.exits import note, print_json, say
from foremask.service.jobs import tokens
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import Token, TokenLimits
from foremask.settings import read_settings

app = App(name="token", help="Who may call the API, and how much.")

AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]


@app.command
def create(
    name: str = "",
    *,
    rate_per_minute: AtLeastOne = 600,
    burst: AtLeastOne = 60,
    concurrent: AtLeastOne = 100,
    priority: int = 0,
    share: AtLeastOne = 1,
    quota: AtLeastOne | None = None,
    days: AtLeastOne | None = None,
) -> None:
    """Make a token and print it: the only time that anyone sees it.

    A link to the page that carries the token goes to standard error.

    Args:
        name: What it is for; shown by `foremask token list`.
        rate_per_minute: Submissions a minute.
        burst: Submissions at once, before the rate counts.
        concurrent: Jobs that may be unfinished at the same time.
        priority: Jobs of a higher priority are taken first.
        share: Its part of the workers while others of its priority wait too: 2 is twice that of 1.
        quota: Jobs altogether; without it, any number.
        days: The days that it is good for; without it, for ever.
    """
    limits = TokenLimits(
        rate_per_minute=rate_per_minute,
        burst=burst,
        concurrent=concurrent,
        priority=priority,
        share=share,
        quota=quota,
    )
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    def make(database: Database) -> Awaitable[tuple[str, Token]]:
        return tokens.create_token(database, name, limits, expires_at=expires_at)

    secret, _ = ask(make)
    say(secret)
    note(f"The page with this token: {read_settings(os.environ).base_url}/#token={secret}")


@app.command(name="list")
def list_(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List tokens: the first characters, the limits, and the use of each.

    Args:
        as_json: Answer with JSON.
    """
    known = ask(tokens.list_tokens)
    if as_json:
        print_json(msgspec.to_builtins(known))
        return
    if not known:
        note("There is no token yet: foremask token create makes one.")
    for token in known:
        limits, quota = token.limits, token.limits.quota
        say(
            f"{token.prefix}…  {_state(token):<8}  {token.used}/{quota or 'any'} jobs, "
            f"{limits.rate_per_minute} a minute, {limits.concurrent} at once, "
            f"priority {limits.priority}, share {limits.share}  {token.name}"
        )


@app.command
def revoke(which: str, /) -> None:
    """Revoke a token at once, on every machine.

    Args:
        which: Its first characters, or its id, as `foremask token list` shows them.
    """
    token = ask(lambda database: tokens.revoke_token(database, which.removesuffix("…")))
    say(f"{token.prefix}… is revoked")


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    expired = token.expires_at is not None and token.expires_at <= datetime.now(UTC)
    return "expired" if expired else "good"
