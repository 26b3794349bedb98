"""``foremask token``, ``jobs``, ``job``, ``webhook``, ``migrate``: read and change the database.

Each command imports what it runs: the database's modules take half a second, even for ``--help``.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from foremask.cli.batch_options import AsJson, Switch
from foremask.cli.exits import Exit, answer, note, print_json, say
from foremask.errors import SettingsInvalid
from foremask.service.jobs.life import Status
from foremask.settings import Settings, read_settings

if TYPE_CHECKING:
    from foremask.service.jobs.database import Database
    from foremask.service.jobs.records import Attempt, Record
    from foremask.service.jobs.tokens import Token

FOLLOW_S: Final = 0.5
JobId = Annotated[str, Parameter(name="ID", help="The job's ID.")]
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
token = App(name="token")
webhook = App(name="webhook")


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database; start the bundled server if the settings name no database."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from foremask.cli.service_checks import check_data_dir, version_of
    from foremask.service.run.bundled_postgres import EmbeddedPostgres

    server = EmbeddedPostgres(settings.data_dir, settings.postgres_bin)
    with ExitStack() as stack:
        try:
            check_data_dir(settings)
            server.start()
            stack.callback(server.stop)
        except SettingsInvalid:  # a running foremask may hold the database's lock
            if asyncio.run(version_of(server.url)) is None:
                raise
        yield server.url


def ask[T](work: "Callable[[Database], Awaitable[T]]") -> T:
    """Run ``work`` on the database. Raises ServiceUnavailable for tables of another version."""
    from foremask.service.jobs.database import Database
    from foremask.service.jobs.schema import check_schema

    async def opened(url: str) -> T:
        async with Database(url, connections=1) as database:
            await check_schema(database)
            return await work(database)

    with database_url(read_settings(os.environ)) as url:
        return asyncio.run(opened(url))


def jobs(
    *,
    last: Annotated[int, Parameter(validator=Number(gte=1, lte=10_000))] = 20,
    unfinished: Switch = False,
    as_json: AsJson = False,
) -> None:
    """List jobs.

    Args:
        last: The largest number of jobs to list.
        unfinished: List only queued and running jobs.
    """
    from foremask.service.jobs import records

    found = ask(lambda database: records.latest(database, last, unfinished=unfinished))
    lines = [f"{_moment(each.created_at)}  {_line_of(each)}" for each in found]
    answer(found, lines or ["no jobs"], as_json=as_json)


def job(request_id: JobId, /, *, follow: Switch = False, as_json: AsJson = False) -> Exit:
    """Show a job's history.

    Args:
        follow: Print changes until the job ends. The exit code is 0 if the job has a result.
    """
    from foremask.service.jobs import records

    async def show(database: "Database") -> "Record":
        record = await records.read_any(database, request_id)
        if as_json:
            attempts = await records.history(database, request_id)
            facts: dict[str, Any] = msgspec.to_builtins(record)
            print_json(facts | {"attempts": msgspec.to_builtins(attempts)})
            return record
        say(f"{_moment(record.created_at)}  created")
        shown: set[str] = set()
        while True:
            attempts = await records.history(database, request_id)
            now = record.ended_at or datetime.now(UTC)
            events = sorted(event for each in attempts for event in _events_of(each))
            for moment, event in (*events, (now, _line_of(record))):
                if event not in shown:
                    shown.add(event)
                    say(f"{_moment(moment)}  {event}")
            if record.status.ended or not follow:
                return record
            await asyncio.sleep(FOLLOW_S)
            record = await records.read_any(database, request_id)

    record = ask(show)
    lost = follow and record.status is not Status.COMPLETED
    return Exit.INTERNAL if lost else Exit.OK


def _events_of(attempt: "Attempt") -> Iterator[tuple[datetime, str]]:
    name = f"{attempt.stage} {attempt.number}, attempt {attempt.attempt}"
    yield attempt.started_at, f"{name}: begun by {attempt.worker}"
    if attempt.ended_at is not None:
        took_s = (attempt.ended_at - attempt.started_at).total_seconds()
        outcome = f"{attempt.outcome} after {took_s:.1f} s"
        outcome += f" ({attempt.details})" if attempt.details else ""
        yield attempt.ended_at, f"{name}: {outcome}"


def _line_of(record: "Record") -> str:
    words = [record.request_id, record.status.value]
    if record.status is Status.RUNNING:
        words.append(f"{record.stage} {record.progress} %")
        if record.frames_total:
            words.append(f"{record.frames_done}/{record.frames_total} frames")
    elif record.queue_position is not None:
        words.append(f"number {record.queue_position} in the queue")
    elif record.error is not None:
        words.append(f"{record.error.details} [{record.error.reason}]")
    elif record.ended_at is not None:
        words.append(f"{record.frames_done} frames, {record.spec.form}")
    return "  ".join(words)


def _moment(moment: datetime) -> str:
    return moment.astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


@token.command
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
    """Make a token and print it. It is not shown again.

    The link that is printed to standard error opens the web page with this token.

    Args:
        name: What the token is for; shown by `foremask token list`.
        rate_per_minute: The most submissions per minute.
        burst: The most submissions at once, before the rate limits them.
        concurrent: The most unfinished jobs at one time.
        priority: Jobs with a higher number run first.
        share: At equal priority, share 2 gets twice the worker time of share 1.
        quota: The most jobs in all, by default unlimited.
        days: Days until the token expires, by default never.
    """
    from foremask.service.jobs import tokens

    limits = tokens.TokenLimits(
        rate_per_minute=rate_per_minute,
        burst=burst,
        concurrent=concurrent,
        priority=priority,
        share=share,
        quota=quota,
    )
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    secret, _ = ask(
        lambda database: tokens.create_token(database, name, limits, expires_at=expires_at)
    )
    say(secret)
    note(f"The page with this token: {read_settings(os.environ).base_url}/#token={secret}")


@token.command(name="list")
def list_(*, as_json: AsJson = False) -> None:
    """List the first characters, the limits and the use of each token."""
    from foremask.service.jobs import tokens

    known = ask(tokens.list_tokens)
    if not known:
        note("There is no token yet: foremask token create makes one.")
    answer(known, map(_described, known), as_json=as_json)


def _described(token: "Token") -> str:
    limits = token.limits
    state = "good"
    if token.revoked_at is not None:
        state = "revoked"
    elif token.expires_at is not None and token.expires_at <= datetime.now(UTC):
        state = "expired"
    return (
        f"{token.prefix}…  {state:<8}  {token.used}/{limits.quota or 'any'} jobs, "
        f"{limits.rate_per_minute} a minute, {limits.concurrent} at once, "
        f"priority {limits.priority}, share {limits.share}  {token.name}"
    )


@token.command
def revoke(which: str, /) -> None:
    """Revoke a token at once, on every machine.

    Args:
        which: The token's first characters, as `foremask token list` shows them, or its id.
    """
    from foremask.service.jobs import tokens

    token = ask(lambda database: tokens.revoke_token(database, which.removesuffix("…")))
    say(f"{token.prefix}… is revoked")


def migrate() -> None:
    from foremask.service.jobs.schema import migrate as bring_up

    with database_url(read_settings(os.environ)) as url:
        applied = asyncio.run(bring_up(url))
    say(*[f"applied {name}" for name in applied] or ["nothing to do"])


@webhook.command
def redeliver(request_id: JobId, /) -> None:
    """Send a job's webhook again, with the same id and bytes."""
    from foremask.service.jobs import deliveries

    ask(lambda database: deliveries.redeliver(database, request_id))
    say(f"{request_id}: its webhook is on its way")
