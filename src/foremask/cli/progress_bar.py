"""Progress of a long step: a bar on a terminal, a line every 5 s elsewhere; home of rich."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from foremask.cli.exits import printable


class OnStep(Protocol):
    """Called with the amount done and the total, or None where that is unknown."""

    def __call__(self, done: int, total: int | None, /, left_s: float | None = None) -> None:
        """``left_s`` are the seconds left, where there is a better estimate than by the rate."""
        ...


LeftOfAll = Callable[[int, int | None], float | None]
"""Called as `OnStep` is; gives seconds, or None where they are not known."""

PLAIN_EVERY_S = 5.0
RATE_OVER_S = 20.0


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of progress: ``scale`` of the amount make one ``name``.

    ``rate`` names frames a second; without it only a given ``left_s`` is shown.
    """

    name: str
    rate: str
    scale: float
    digits: int


FRAMES = Unit("frames", "fps", 1, 0)
MASKED = Unit("frames", "", 1, 0)
PICTURES = Unit("pictures", "a second", 1, 0)
MEGABYTES = Unit("MB", "MB/s", 1e6, 1)


@contextmanager
def progress_bar(
    label: str,
    unit: Unit,
    console: Console | None = None,
    *,
    shows: bool = True,
    left_of_all_s: LeftOfAll | None = None,
) -> Iterator[OnStep]:
    """Show the progress of a block on standard error, if it ``shows`` at all.

    ``left_of_all_s`` gives the seconds until the last of several is done.
    """
    if not shows:
        yield lambda _done, _total, left_s=None: None
        return
    label, console = printable(label), console or Console(stderr=True)
    pace = _Pace(unit, left_of_all_s)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(None))
    progress = Progress(*columns, pace, console=console, transient=True)
    task, last_s = progress.add_task(label, total=None), time.monotonic()

    def step(done: int, total: int | None, /, left_s: float | None = None) -> None:
        nonlocal last_s
        total = None if total is None else max(done, total)
        text = pace.describe(done, total, left_s)
        if console.is_terminal:
            progress.update(task, completed=done, total=total)
        elif time.monotonic() - last_s >= PLAIN_EVERY_S:
            last_s = time.monotonic()
            console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)

    with progress if console.is_terminal else nullcontext():
        yield step


class _Pace(ProgressColumn):
    """Amount, rate and time left as text; the rate is that of the last 20 s.

    On a terminal it is drawn anew ten times a second, and what is left is counted down meanwhile.
    """

    def __init__(self, unit: Unit, left_of_all_s: LeftOfAll | None) -> None:
        super().__init__()
        self._described, self._left, self._end_s = "", "", 0.0
        self._unit = unit
        self._left_of_all_s = left_of_all_s
        self._lately: deque[tuple[float, int]] = deque()

    def describe(self, done: int, total: int | None, left_s: float | None) -> str:
        now = time.monotonic()
        self._lately.append((now, done))
        while now - self._lately[0][0] > RATE_OVER_S and len(self._lately) > 2:
            self._lately.popleft()
        since, before = self._lately[0]
        rate = (done - before) / (now - since) if now > since else 0.0
        unit, digits = self._unit, self._unit.digits
        self._end_s = 0.0 if left_s is None else now + left_s
        words = [f"{done / unit.scale:.{digits}f}"]
        if total is not None:
            words[0] += f"/{total / unit.scale:.{digits}f}"
        words[0] += f" {unit.name}"
        if left_s is not None:
            self._left = f"{_clock(left_s)} left"
            words.append(self._left)
        elif unit.rate and rate / unit.scale >= 0.05:  # less would be a guess of days
            words.append(f"{rate / unit.scale:.1f} {unit.rate}")
            if total is not None and total > done:
                words.append(f"{_clock((total - done) / rate)} left")
        if self._left_of_all_s and (all_s := self._left_of_all_s(done, total)) is not None:
            words.append(f"all {_clock(all_s)}")
        self._described = ", ".join(words)
        return self._described

    def render(self, task: Task) -> Text:
        if not self._end_s:
            return Text(self._described)
        left_s = max(0.0, self._end_s - time.monotonic())
        return Text(self._described.replace(self._left, f"{_clock(left_s)} left", 1))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
