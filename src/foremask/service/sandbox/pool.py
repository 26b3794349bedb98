"""Media children for an event loop: each slot has one that is warm and confined; a stop is a kill.

A slot has its own directory. The inputs of a job are links in ``in``; its outputs are written to
``out`` and moved when the child is done. So a child sees only the files of its current job.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from foremask.errors import ForemaskError
from foremask.machine.memory import share_of_memory
from foremask.service.sandbox import child_process
from foremask.service.sandbox.child_process import (
    Child,
    ChildDied,
    OnProgress,
    ReadRemote,
    within,
)
from foremask.service.sandbox.confine import Level
from foremask.service.sandbox.job_directories import JobDirectory
from foremask.service.sandbox.levels import check_level, level_of
from foremask.service.sandbox.messages import Refused, Setup
from foremask.service.sandbox.operations import Request
from foremask.service.sandbox.scratch import own_directory
from foremask.settings import Sandbox

__all__ = ["ChildDied", "MediaPool", "OnProgress"]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _ChildSlot:
    directory: JobDirectory
    child: Child | None = None
    spare: asyncio.Task[Child] | None = None


class MediaPool:
    """``slots`` children at most, under ``scratch``; use it with ``async with``.

    ``execution`` is the module whose OPERATIONS execute requests. ``readable`` is what every job
    may read besides its inputs: the model. A child is replaced after ``jobs_per_child`` jobs, after
    any error, and when the job's ``owner`` is not the last one. With ``spares`` the next child of
    each slot is ready before it is needed, and has executed ``prepare``. Raises SettingsInvalid at
    the start when ``sandbox`` requires what this machine lacks.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        slots: int = 1,
        sandbox: Sandbox = Sandbox.BEST_EFFORT,
        readable: Sequence[Path] = (),
        memory_bytes: int | None = None,
        stall_s: float = 300.0,
        jobs_per_child: int = 50,
        execution: str = "foremask.service.sandbox.execution",
        import_from: Sequence[Path] = (),
        spares: bool = False,
        prepare: Request[None] | None = None,
        landlock_at_most: int | None = None,
    ) -> None:
        self._slots, self._sandbox, self._stall_s = slots, sandbox, stall_s
        self._jobs_per_child, self._spares, self._prepare = jobs_per_child, spares, prepare
        self._setup = Setup(
            sandbox is not Sandbox.OFF,
            memory_bytes or share_of_memory(slots),
            execution,
            tuple(readable),
            tuple(import_from),
            landlock_at_most,
        )
        self._directory = own_directory(scratch, "slots-")
        self._places = asyncio.Semaphore(slots)
        self._free: list[_ChildSlot] = []  # one for each place; the last is the one used last
        self._all: tuple[_ChildSlot, ...] = ()
        self._clearing: set[asyncio.Task[None]] = set()
        self.level = Level()

    async def __aenter__(self) -> Self:
        self.level = level_of(self._sandbox)
        write_log = log.info if self.level.full else log.warning
        write_log("sandbox", wanted=str(self._sandbox), confined_by=str(self.level))
        own = await asyncio.to_thread(self._directory.__enter__)
        slots = range(self._slots)
        self._all = tuple(_ChildSlot(JobDirectory(own / str(number))) for number in slots)
        self._free += self._all
        for child_slot in self._all:
            self._get_spare(child_slot)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._clearing:
            await asyncio.wait(self._clearing)
        for child_slot in self._all:
            if (spare := child_slot.spare) is not None:
                spare.cancel()
                await asyncio.wait({spare})
                if not spare.cancelled() and spare.exception() is None:
                    await spare.result().end()
            if child_slot.child is not None:
                await child_slot.child.end()
        await asyncio.to_thread(self._directory.__exit__, None, None, None)

    async def run[R](
        self,
        request: Request[R],
        *,
        on_progress: OnProgress | None = None,
        read_at: ReadRemote | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> R:
        """Execute the request in a child and return its result; then its outputs are there.

        ``read_at`` reads a file that only this side can reach. Raises the ForemaskError that the
        child raised (but ServiceUnavailable where our disk did not take what it wrote); TimedOut
        after ``wall_clock_s``, or when no frame advanced for the pool's ``stall_s``; Internal over
        the memory limit; ChildDied; and whatever ``on_progress`` or ``read_at`` raise. In all of
        these, and when cancelled, the child is killed.
        """
        await self._places.acquire()
        child_slot = self._take(owner)
        try:
            async with self._borrowed(child_slot, owner) as child:
                staged = await asyncio.to_thread(child_slot.directory.stage, request)
                async with within(wall_clock_s, "The work was not done"):
                    result = await child.ask(staged, self._stall_s, on_progress, read_at)
                await asyncio.to_thread(child_slot.directory.collect, request)
        finally:
            clearing = asyncio.create_task(self._give_back(child_slot))
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)
        if isinstance(result, Refused):
            raise result.error()
        return result

    def _take(self, owner: str) -> _ChildSlot:
        """A free slot, preferably one whose child has served this owner or nobody."""

        def liking(child_slot: _ChildSlot) -> int:
            if child_slot.child is None:
                return 1
            return {owner: 3, None: 2}.get(child_slot.child.owner, 0)

        chosen = max(reversed(self._free), key=liking)
        self._free.remove(chosen)
        return chosen

    async def _give_back(self, child_slot: _ChildSlot) -> None:
        """Empty the slot in a thread, for that may take long; then it is free again."""
        directory = child_slot.directory
        try:
            if directory.has_too_many_files:
                await self._end(child_slot)
            await asyncio.to_thread(directory.clear)
        except OSError as error:
            log.warning(
                "sandbox.not_cleared", job_directory=str(directory.parent), error=str(error)
            )
        finally:
            self._get_spare(child_slot)
            self._free.append(child_slot)
            self._places.release()

    async def _end(self, child_slot: _ChildSlot) -> str:
        child, child_slot.child = child_slot.child, None
        return await child.end() if child is not None else ""

    @asynccontextmanager
    async def _borrowed(self, child_slot: _ChildSlot, owner: str) -> AsyncGenerator[Child]:
        """The slot's child; replaced if it ended or served another owner, killed on an error."""
        child = child_slot.child
        if child is not None and not (child.is_alive and child.owner in (None, owner)):
            await self._end(child_slot)
        try:
            child = child_slot.child = child_slot.child or await self._next(child_slot)
            child.owner = owner
            yield child
            child.jobs += 1
        except BaseException as error:
            last_words = await self._end(child_slot)
            if isinstance(error, ChildDied) and last_words:
                error.add_note(last_words)
            raise
        if child.jobs >= self._jobs_per_child:
            await self._end(child_slot)

    async def _next(self, child_slot: _ChildSlot) -> Child:
        spare, child_slot.spare = child_slot.spare, None
        if spare is not None:
            with contextlib.suppress(ChildDied, ForemaskError):  # the next start raises the reason
                child = await spare
                if child.is_alive:
                    return child
                await child.end()
        return await self._start(child_slot)

    def _get_spare(self, child_slot: _ChildSlot) -> None:
        if self._spares and child_slot.spare is None:
            child_slot.spare = asyncio.create_task(self._start(child_slot, self._prepare))

    async def _start(self, child_slot: _ChildSlot, prepare: Request[None] | None = None) -> Child:
        child = await child_process.start(self._setup, child_slot.directory)
        try:
            check_level(self._sandbox, child.level)
            if prepare is not None:
                await child.ask(prepare, self._stall_s)
        except BaseException:
            await child.end()
            raise
        return child
