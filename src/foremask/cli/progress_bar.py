"""Shows progress: a bar on a terminal, else a line every 5 s; only this imports rich."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from foremask.cli.exits import printable

if TYPE_CHECKING:  # rich takes a quarter of a command's start-up time, and few need it
    from rich.console import Console
    from rich.progress import Task


class OnStep(Protocol):
    """Called with the amount done and the total, None where the total is unknown."""

    def __call__(self, done: int, total: int | None, /, left_s: float | None = None) -> None:
        """``left_s``: the seconds left, where the caller has a better estimate than by the rate."""
        ...


PLAIN_EVERY_S = 5.0
RATE_OVER_S = 20.0


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of progress: one ``name`` is ``scale`` of the reported amount.

    ``rate`` is the unit of speed; if empty, neither speed nor an estimate by it is shown.
    """

    name: str
    rate: str
    scale: float
    digits: int


MASKED = Unit("frames", "", 1, 0)
PICTURES = Unit("pictures", "a second", 1, 0)
MEGABYTES = Unit("MB", "MB/s", 1e6, 1)


@contextmanager
def progress_bar(
    label: str,
    unit: Unit,
    console: "Console | None" = None,
    *,
    shows: bool = True,
) -> Iterator[OnStep]:
    """Show the progress of a block on standard error, unless ``shows`` is False."""
    if not shows:
        yield lambda _done, _total, left_s=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    label, console = printable(label), console or Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        get_time=time.monotonic,
        speed_estimate_period=RATE_OVER_S,
        transient=True,
    )
    task, last_s = progress.add_task(label, total=None, text=""), time.monotonic()

    def step(done: int, total: int | None, /, left_s: float | None = None) -> None:
        nonlocal last_s
        total = None if total is None else max(done, total)
        progress.update(task, completed=done, total=total)
        text = _described(progress.tasks[task], unit, left_s)
        if console.is_terminal:
            progress.update(task, text=text)
        elif time.monotonic() - last_s >= PLAIN_EVERY_S:
            last_s = time.monotonic()
            console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)

    with progress if console.is_terminal else nullcontext():
        yield step


def _described(task: "Task", unit: Unit, left_s: float | None) -> str:
    """Amount, rate and time left as text."""
    amount = f"{task.completed / unit.scale:.{unit.digits}f}"
    if task.total is not None:
        amount += f"/{task.total / unit.scale:.{unit.digits}f}"
    words, rate = [f"{amount} {unit.name}"], (task.speed or 0.0) / unit.scale
    if left_s is None and unit.rate and rate >= 0.05:  # a lower rate would estimate days
        words.append(f"{rate:.1f} {unit.rate}")
        left_s = task.time_remaining or None
    if left_s is not None:
        words.append(f"{_clock(left_s)} left")
    return ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
