"""The life of a job as one table: what can happen to it, and what that writes.

A job is made in steps. ``ingest`` checks and stores the clip, and may cut it into segments.
``segment`` masks one segment, or the whole clip. ``join`` joins the parts of the segments. A step
is done by one worker at a time, in attempts: an attempt holds a lease, and what it reports after
it has lost the lease changes nothing.

    job     queued → running → completed, failed or cancelled
    step    waiting → todo → running → done or dropped; a failed attempt brings it back to todo

`LIFE` says what an event does. Each event is written in one transaction by a function in
``sql/functions.sql``, which gets the event's row of the table as a `Change`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

MAX_CRASHES: Final = 3
IN_FLIGHT: Final = 4  # limit on a job's running and ready segments, so that other jobs get workers


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNREADABLE = "unreadable"  # never stored: the job's row cannot be decoded

    @property
    def ended(self) -> bool:
        return self not in UNENDED


UNENDED: Final = (Status.QUEUED, Status.RUNNING)


class Event(StrEnum):
    ADMITTED = "admitted"  # a caller asked for the job, within the limits of the token
    CLAIMED = "claimed"  # a worker began an attempt at a step
    STORED = "stored"  # an ingest has stored the clip and its segments
    PART_MADE = "part made"  # one segment of several is masked
    RESULT_MADE = "result made"  # the whole clip is masked, or its parts are joined
    FAILED = "failed"  # by an error that would come again
    CRASHED = "crashed"  # the child died, the worker met an unforeseen error or no origin
    LOST = "lost"  # the worker died or was paused, so that its lease has expired
    UNAVAILABLE = "unavailable"  # the store could not be reached, or a disk was full
    GIVEN_BACK = "given back"  # the worker was stopped
    CANCELLED = "cancelled"  # by the caller
    TIMED_OUT = "timed out"  # the job has run for as long as a job may


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event does; it does nothing unless the step, or else the job, is in a state ``of``.

    A job that ends drops its steps, forgets its URLs and queues its webhook. A step that is done
    makes the next waiting step of its stage ready. When all steps of its stage are done, those of
    the next stage are added, and the first `IN_FLIGHT` of them are ready.
    """

    of: tuple[str, ...] = ()
    step: str | None = None  # the step's next state
    job: str | None = None  # the job's next state, a `Status`
    crash: bool = False  # the step counts a crash; only at `MAX_CRASHES` the job's state changes
    adds: str | None = None  # the stage that follows
    writes: tuple[str, ...] = ()  # columns of the job


RUNNING: Final = ("running",)
CLIP: Final = ("clip", "frames_total", "source_key", "background_key", "fetched", "reserved")
RESULT: Final = ("result_key", "report")
ERROR: Final = ("error",)
NOTHING: Final[Mapping[str, Any]] = {}
# fmt: off
LIFE: Final[Mapping[Event, Rule]] = {
    # what happens          in which state  the step is   the job is      and what else
    Event.ADMITTED:    Rule(                              job="queued",   adds="ingest"),
    Event.CLAIMED:     Rule(of=("todo",), step="running", job="running"),
    Event.STORED:      Rule(of=RUNNING,   step="done",    writes=CLIP,    adds="segment"),
    Event.PART_MADE:   Rule(of=RUNNING,   step="done",                    adds="join"),
    Event.RESULT_MADE: Rule(of=RUNNING,   step="done",    job="completed", writes=RESULT),
    Event.FAILED:      Rule(of=RUNNING,   step="dropped", job="failed",   writes=ERROR),
    Event.CRASHED:     Rule(of=RUNNING,   step="todo",    job="failed",   writes=ERROR, crash=True),
    Event.LOST:        Rule(of=RUNNING,   step="todo",    job="failed",   writes=ERROR, crash=True),
    Event.UNAVAILABLE: Rule(of=RUNNING,   step="todo"),
    Event.GIVEN_BACK:  Rule(of=RUNNING,   step="todo"),
    Event.CANCELLED:   Rule(of=UNENDED,                   job="cancelled", writes=ERROR),
    Event.TIMED_OUT:   Rule(of=RUNNING,                   job="failed",   writes=ERROR),
}
# fmt: on


class Change(Rule, frozen=True, kw_only=True, omit_defaults=True):
    """A rule and what is known of one event: the argument of a function in the database."""

    event: Event
    columns: dict[str, Any] = {}  # the values of `Rule.writes`
    details: str | None = None  # for the step's history
    result: Any = None  # what the step leaves for the next stage
    frames: int | None = None  # number of frames that the step has done
    retry_s: float = 0.0  # time until the next attempt
    steps: tuple[Any, ...]  # the arguments of each step that is added
    in_flight: int
    most_crashes: int


def change(
    event: Event,
    facts: Mapping[str, Any] = NOTHING,
    steps: tuple[Any, ...] = ({},),
    **known: Any,  # noqa: ANN401
) -> Change:
    """Return what ``event`` writes; ``facts`` has the values of the columns."""
    rule = LIFE[event]
    return Change(
        **msgspec.structs.asdict(rule),
        event=event,
        columns={name: facts[name] for name in rule.writes if name in facts},
        steps=steps,
        in_flight=IN_FLIGHT,
        most_crashes=MAX_CRASHES,
        **known,
    )
