"""Shows progress: a bar on a terminal, otherwise a line every 5 s."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol

from foremask.cli.exits import printable

if TYPE_CHECKING:  # importing rich takes a quarter of a command's start-up time
    from rich.console import Console
    from rich.progress import Task

PLAIN_EVERY_S = 5.0
RATE_OVER_S = 20.0
type Unit = Literal["frames", "pictures", "networks", "clips", "MB"]


class OnStep(Protocol):
    """``done`` and ``total`` count frames and the like, or bytes. An unknown ``total`` is None.

    If ``left_s`` is None, the time left is estimated from the rate, except for frames.
    ``is_estimate`` marks a ``total`` that may be wrong.
    """

    def __call__(
        self,
        done: int,
        total: int | None,
        /,
        left_s: float | None = None,
        *,
        is_estimate: bool = False,
    ) -> None: ...


@contextmanager
def progress_bar(
    label: str, unit: Unit, console: "Console | None" = None, *, shows: bool = True
) -> Iterator[OnStep]:
    """Show the progress of a block on standard error, unless ``shows`` is False."""
    if not shows:
        yield lambda _done, _total, left_s=None, *, is_estimate=False: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    label = printable(label)
    console = console or Console(stderr=True)
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
    task = progress.add_task(label, total=None, text="")
    last_s = time.monotonic()

    def step(
        done: int,
        total: int | None,
        /,
        left_s: float | None = None,
        *,
        is_estimate: bool = False,
    ) -> None:
        nonlocal last_s
        total = None if total is None else max(done, total)
        progress.update(task, completed=done, total=total)
        text = _described(progress.tasks[task], unit, left_s, is_estimate=is_estimate)
        if console.is_terminal:
            progress.update(task, text=text)
        elif time.monotonic() - last_s >= PLAIN_EVERY_S:
            last_s = time.monotonic()
            console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)

    with progress if console.is_terminal else nullcontext():
        yield step


def _described(task: "Task", unit: Unit, left_s: float | None, *, is_estimate: bool) -> str:
    scale = 1.0
    digits = 0
    if unit == "MB":
        scale = 1e6
        digits = 1
    amount = f"{task.completed / scale:.{digits}f}"
    if task.total is not None:
        amount += " of about " if is_estimate else "/"
        amount += f"{task.total / scale:.{digits}f}"
    words = [f"{amount} {unit}"]
    rate = (task.speed or 0.0) / scale
    # Estimates from rates below 0.05 are unreliable.
    if left_s is None and unit != "frames" and rate >= 0.05:
        if unit != "networks":  # there are six
            words.append(f"{rate:.1f} {unit}/s")
        left_s = task.time_remaining or None
    if left_s is not None:
        minutes, seconds = divmod(round(left_s), 60)
        clock = f"{minutes // 60}:{minutes % 60:02}" if minutes >= 60 else f"{minutes}"
        words.append(f"{clock}:{seconds:02} left")
    return ", ".join(words)
