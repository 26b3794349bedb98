"""``foremask jobs`` and ``job``: what an operator reads of the service's jobs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from foremask.cli.database_access import ask
from foremask.cli.exits import Exit, print_json, say
from foremask.service.jobs import records
from foremask.service.jobs.database import Database
from foremask.service.jobs.records import Attempt, Record, Status

FOLLOW_S: Final = 0.5

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]


def jobs(
    *,
    last: Annotated[int, Parameter(validator=Number(gte=1, lte=10_000))] = 20,
    unfinished: Flag = False,
    as_json: AsJson = False,
) -> None:
    """List the service's jobs, the newest first.

    Args:
        last: How many.
        unfinished: Those only that wait or run.
        as_json: Answer with JSON.
    """
    found = ask(lambda database: records.latest(database, last, unfinished=unfinished))
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        lines = [f"{_moment(each.created_at)}  {_described(each)}" for each in found]
        say(*lines or ["no jobs"])


def job(
    request_id: Annotated[str, Parameter(name="ID")],
    /,
    *,
    follow: Flag = False,
    as_json: AsJson = False,
) -> Exit:
    """Say what happened to a job: each attempt at each of its steps, by whom and how it ended.

    Args:
        request_id: The job.
        follow: Go on until it has ended; the exit code is 0 where it has a mask.
        as_json: Answer with JSON.
    """

    async def show(database: Database) -> Record:
        record = await records.read_any(database, request_id)
        if as_json:
            attempts = await records.history(database, request_id)
            facts: dict[str, Any] = msgspec.to_builtins(record)
            print_json(facts | {"attempts": msgspec.to_builtins(attempts)})
            return record
        async for line in _lines(database, record, follow=follow):
            say(line)
        return await records.read_any(database, request_id)

    record = ask(show)
    lost = follow and record.status is not Status.COMPLETED
    return Exit.INTERNAL if lost else Exit.OK


async def _lines(database: Database, record: Record, *, follow: bool) -> AsyncIterator[str]:
    """What happened, in order; what the job is now comes last, and again where it changes."""
    yield f"{_moment(record.created_at)}  created"
    shown: set[str] = set()
    while True:
        attempts = await records.history(database, record.request_id)
        for line in sorted(line for each in attempts for line in _events_of(each)):
            if line not in shown:
                shown.add(line)
                yield line
        now = record.ended_at or datetime.now(record.created_at.tzinfo)
        state = _described(record)
        if state not in shown:
            shown.add(state)
            yield f"{_moment(now)}  {state}"
        if record.status.ended or not follow:
            return
        await asyncio.sleep(FOLLOW_S)
        record = await records.read_any(database, record.request_id)


def _events_of(attempt: Attempt) -> Iterator[str]:
    name = f"{attempt.stage} {attempt.number}, attempt {attempt.attempt}"
    yield f"{_moment(attempt.started_at)}  {name}: begun by {attempt.worker}"
    if attempt.ended_at is not None:
        took_s = (attempt.ended_at - attempt.started_at).total_seconds()
        outcome = f"{attempt.outcome} after {took_s:.1f} s"
        outcome += f" ({attempt.details})" if attempt.details else ""
        yield f"{_moment(attempt.ended_at)}  {name}: {outcome}"


def _described(record: Record) -> str:
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
        words.append(f"{record.frames_done} frames, {record.preset}")
    return "  ".join(words)


def _moment(moment: datetime) -> str:
    return moment.astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]
