"""A list of stages, and what runs it: threads, bounded queues, stopping and the stopwatch."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

from foremask.facts import StageCost
from foremask.machine import stopwatch
from foremask.pipeline.threads import BoundedQueue, close, prefetch

_END: Final = object()


class Stage(Protocol):
    """Turns an iterator of values into another; `values` has what passes between stages.

    What a stage needs comes by its constructor. It knows no other stage and no thread.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, values: Iterator[Any], /) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class Queue:
    """The stages before it run in a thread of their own; at most ``size`` of their values wait."""

    size: int


class Pipeline:
    """The stages that make a clip's masks from its ``source``, in order.

    ``print`` shows them. `after`, `without` and `instead_of` return another pipeline with the same
    source; they raise ValueError if no stage has the name.
    """

    def __init__(self, source: Iterable[Any], parts: Iterable[Stage | Queue]) -> None:
        self._source = source
        self._parts = tuple(parts)
        self._queues: dict[int, BoundedQueue[Any]] = {}  # of the last run, by place in the list

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self._parts if not isinstance(part, Queue))

    def __str__(self) -> str:
        lines = [
            f"  at most {part.size} wait" if isinstance(part, Queue) else part.name
            for part in self._parts
        ]
        return "\n".join(lines)

    def after(self, name: str, *parts: Stage | Queue) -> "Pipeline":
        """Add parts behind the stage of that name, in its thread."""
        at = self._place(name) + 1
        return Pipeline(self._source, (*self._parts[:at], *parts, *self._parts[at:]))

    def at_end(self, *parts: Stage | Queue) -> "Pipeline":
        """Add parts behind the last one."""
        return Pipeline(self._source, (*self._parts, *parts))

    def instead_of(self, name: str, *parts: Stage | Queue) -> "Pipeline":
        at = self._place(name)
        return Pipeline(self._source, (*self._parts[:at], *parts, *self._parts[at + 1 :]))

    def without(self, *names: str) -> "Pipeline":
        """Leave stages out, and with each the queue before it."""
        parts = list(self._parts)
        for at in sorted(map(self._place, names), reverse=True):
            before = at - 1 if at and isinstance(parts[at - 1], Queue) else at
            del parts[before : at + 1]
        return Pipeline(self._source, parts)

    def _place(self, name: str) -> int:
        for at, part in enumerate(self._parts):
            if not isinstance(part, Queue) and part.name == name:
                return at
        raise ValueError(f"no stage {name!r}: there are {', '.join(self.names)}")

    @contextmanager
    def running(self, meanwhile: Callable[[], object] = lambda: None) -> Iterator[Iterator[Any]]:
        """Run the stages; the caller iterates over the values of the last one, in its own thread.

        While the caller waits, ``meanwhile`` is called every 0.1 s. The first error of a stage is
        raised in the caller, with a note that names the stage. Leaving the block ends all threads.
        """
        stop = threading.Event()
        last_queue = max(
            (at for at, p in enumerate(self._parts) if isinstance(p, Queue)), default=0
        )
        self._queues = {}
        with ExitStack() as opened:
            opened.callback(stop.set)
            values: Iterator[Any] = iter(self._source)
            name = ""
            for at, part in enumerate(self._parts):
                if isinstance(part, Queue):
                    queue = self._queues[at] = BoundedQueue(part.size)
                    called = meanwhile if at == last_queue else _nothing
                    thread = prefetch(values, queue, name, stop, called)
                    values = opened.enter_context(thread)
                else:
                    name = part.name
                    values = _run(part, values)
            opened.callback(close, values)
            yield values

    def costs(self, spent_s: Mapping[str, float]) -> tuple[StageCost, ...]:
        """What each stage of the last run took; ``spent_s`` are processor seconds by stage."""
        before: dict[str, BoundedQueue[Any]] = {}
        for at, (earlier, later) in enumerate(pairwise(self._parts)):
            if isinstance(earlier, Queue) and not isinstance(later, Queue) and at in self._queues:
                before[later.name] = self._queues[at]
        return tuple(
            StageCost(
                stage=name,
                cpu_s=round(spent_s.get(name, 0.0), 3),
                waiting=round(before[name].mean_waiting, 2) if name in before else None,
                room=before[name].size if name in before else None,
            )
            for name in self.names
        )


def _nothing() -> None: ...


def _run(stage: Stage, values: Iterator[Any]) -> Iterator[Any]:
    """Yield the stage's values; count its time, name it in errors, and close it at the end."""
    made = stage(values)
    try:
        while True:
            with stopwatch.stage(stage.name, is_of_pipeline=True):
                value = next(made, _END)
            if value is _END:
                return
            yield value
            del value  # a window is large: it must not wait for the next one
    except Exception as error:
        if not hasattr(error, "__notes__"):
            error.add_note(f"in the stage {stage.name!r} of the pipeline")
        raise
    finally:
        close(made)
        close(values)
