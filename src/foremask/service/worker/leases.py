"""The leases of one worker process, renewed together while frames advance."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from foremask.errors import ServiceUnavailable, WorkerCrashed
from foremask.service.jobs import steps
from foremask.service.jobs.steps import Beat, Step, StepName
from foremask.service.sandbox.messages import Progress
from foremask.service.worker.worker_context import WorkerContext

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_NEWEST_BYTES = 32 << 10


@dataclass(slots=True)
class StepProgress:
    """How far a step is; a lease is renewed only while it moves."""

    frames_done: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    newest_png: bytes | None = None
    ends_at: float | None = None  # as the child estimates

    def move(self) -> None:
        self.moved_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since work was last recorded, without time in which the machine was suspended."""
        return time.monotonic() - self.moved_at

    async def note_frames(self, progress: Progress) -> None:
        if progress.frames_done != self.frames_done:
            self.frames_done = progress.frames_done
            self.move()
            left_s = progress.left_s
            self.ends_at = None if left_s is None else time.monotonic() + left_s
        png = progress.newest_png
        if png.startswith(PNG_HEAD) and len(png) <= MAX_NEWEST_BYTES:
            self.newest_png = png

    @property
    def left_s(self) -> float | None:
        """Seconds to go, at least 0."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def take_newest(self) -> bytes | None:
        png, self.newest_png = self.newest_png, None
        return png


type Attempt = tuple[StepName, int]


class Leases:
    """The steps that this process holds, and how far each is."""

    def __init__(self) -> None:
        self._held: dict[Attempt, tuple[Step, StepProgress, asyncio.Future[None]]] = {}

    @contextmanager
    def held(self, step: Step, progress: StepProgress) -> Iterator[asyncio.Future[None]]:
        """Hold the step during the block.

        The future ends when the lease is lost, and with WorkerCrashed when nothing has advanced for
        too long.
        """
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        attempt = step.name, step.attempt
        self._held[attempt] = step, progress, lost
        try:
            yield lost
        finally:
            del self._held[attempt]
            lost.cancel()

    async def keep(self, work: WorkerContext) -> None:
        """Renew what is held, in one statement for all, until cancelled."""
        while True:
            await asyncio.sleep(work.timing.renew_s)
            for _, progress, lost in self._held.values():
                if progress.idle_s > work.timing.stall_s and not lost.done():
                    lost.set_exception(_stalled(work, progress))
            asked = {key: held for key, held in self._held.items() if not held[2].done()}
            beats = [
                Beat(
                    step,
                    progress.frames_done,
                    progress.idle_s,
                    progress.left_s,
                    progress.take_newest(),
                )
                for step, progress, _ in asked.values()
            ]
            try:
                kept = await steps.renew(work.database, beats, work.timing.lease_s)
            except ServiceUnavailable:
                continue  # the database is away for everybody: docs/adr/0020
            for attempt, (_, _, lost) in asked.items():
                if attempt not in kept and not lost.done():
                    lost.set_result(None)


def _stalled(work: WorkerContext, progress: StepProgress) -> WorkerCrashed:
    return WorkerCrashed(
        f"no frame was finished for {progress.idle_s:.0f} s at frame {progress.frames_done}",
        limit=work.timing.stall_s,
        actual=progress.idle_s,
    )
