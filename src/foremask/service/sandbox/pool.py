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

from foremask.errors import ForemaskError, SettingsInvalid
from foremask.machine.memory import share_of_memory
from foremask.service.sandbox import child_process
from foremask.service.sandbox.child_process import Child, ChildDied, Kind
from foremask.service.sandbox.confine import Level
from foremask.service.sandbox.conversation import Conversation, OnProgress, ReadRemote, within
from foremask.service.sandbox.job_directories import (
    JobDirectory,
    clear,
    collect,
    empty,
    new_job_directory,
    stage,
    sweep,
)
from foremask.service.sandbox.levels import check_level, level_of
from foremask.service.sandbox.operations import Request
from foremask.settings import Sandbox

__all__ = ["ChildDied", "MediaPool", "OnProgress"]

log = structlog.get_logger(__name__)

SPARE_FROM_BYTES = 4 << 30
"""A slot with this share of memory has room for a second child that waits: docs/adr/0041."""


@dataclass(slots=True)
class _ChildSlot:
    """A slot, its child, and the spare child that replaces it."""

    job_directory: JobDirectory
    child: Child | None = None
    spare: asyncio.Task[Child] | None = None


class MediaPool:
    """``slots`` children at most, under ``scratch``; use it with ``async with``.

    ``execution`` is the module whose OPERATIONS execute requests. ``readable`` is what every job
    may read besides its inputs: the model. A child is replaced after ``jobs_per_child`` jobs, after
    any error, and when the job's ``owner`` is not the last one. ``prepare`` is a request that a
    child executes before it serves anybody; with it, and with enough memory, the next child of each
    slot is ready before it is needed. Raises SettingsInvalid at the start when ``sandbox`` requires
    what this machine lacks.
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
        prepare: Request[None] | None = None,
        spare_from_bytes: int = SPARE_FROM_BYTES,
        landlock_at_most: int | None = None,
    ) -> None:
        self._scratch, self._slots, self._sandbox = scratch, slots, sandbox
        self._stall_s, self._jobs_per_child, self._prepare = stall_s, jobs_per_child, prepare
        self._spare_from_bytes = spare_from_bytes
        self._memory_bytes = memory_bytes or share_of_memory(slots)
        confined = sandbox is not Sandbox.OFF
        self._kind = Kind(
            confined, self._memory_bytes, execution, readable, import_from, landlock_at_most
        )
        self._places = asyncio.Semaphore(slots)
        self._free: list[_ChildSlot] = []  # one for each place; the last is the one used last
        self._all: list[_ChildSlot] = []
        self._clearing: set[asyncio.Task[None]] = set()
        self.level = Level()

    async def __aenter__(self) -> Self:
        self.level = level_of(self._sandbox)
        write_log = log.info if self.level.full else log.warning
        write_log("sandbox", wanted=str(self._sandbox), confined_by=str(self.level))
        self._scratch.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(sweep, self._scratch)
        for _ in range(self._slots):
            child_slot = _ChildSlot(new_job_directory(self._scratch))
            self._all.append(child_slot)
            self._free.append(child_slot)
            self._get_spare(child_slot)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._clearing:
            await asyncio.wait(self._clearing)
        for child_slot in self._all:
            if child_slot.spare is not None:
                child_slot.spare.cancel()
                await asyncio.wait({child_slot.spare})
                if not child_slot.spare.cancelled() and child_slot.spare.exception() is None:
                    await child_slot.spare.result().end()
            if child_slot.child is not None:
                await child_slot.child.end()
            await asyncio.to_thread(child_slot.job_directory.close)

    async def warm(self) -> Level:
        """Start a child in every free slot; the level that they are confined to."""
        for child_slot in self._all:
            if child_slot.child is None:
                child_slot.child = await self._start(child_slot)
                self.level = child_slot.child.level
        return self.level

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
                directory = child_slot.job_directory
                staged = await asyncio.to_thread(stage, directory, request)
                async with within(wall_clock_s, "The work was not done"):
                    result = await self._with(child).ask(staged, on_progress, read_at)
                await asyncio.to_thread(collect, directory, request)
                return result
        finally:
            clearing = asyncio.create_task(self._give_back(child_slot))
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)

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
        try:
            if not await asyncio.to_thread(empty, child_slot.job_directory):
                log.warning("sandbox.mess", job_directory=str(child_slot.job_directory.directory))
                if child_slot.child is not None:
                    child, child_slot.child = child_slot.child, None
                    await child.end()
                await asyncio.to_thread(clear, child_slot.job_directory)
        except OSError as error:
            log.warning(
                "sandbox.not_cleared",
                job_directory=str(child_slot.job_directory.directory),
                error=str(error),
            )
        finally:
            self._get_spare(child_slot)
            self._free.append(child_slot)
            self._places.release()

    @asynccontextmanager
    async def _borrowed(self, child_slot: _ChildSlot, owner: str) -> AsyncGenerator[Child]:
        """The slot's child; replaced if it ended or served another owner, killed on an error."""
        child = child_slot.child
        if child is not None and not (child.is_alive and child.owner in (None, owner)):
            child_slot.child = None
            await child.end()
        try:
            child = child_slot.child = child_slot.child or await self._next(child_slot)
            child.owner = owner
            yield child
            child.jobs += 1
        except BaseException as error:
            child_slot.child = None
            if child is not None:
                child.kill()  # at once, before anything is awaited
                log = await asyncio.shield(child.end())
                if isinstance(error, ChildDied):
                    error.add_note(log)
            raise
        if child.jobs >= self._jobs_per_child:
            child_slot.child = None
            await child.end()

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
        if (
            self._prepare
            and child_slot.spare is None
            and self._memory_bytes >= self._spare_from_bytes
        ):
            child_slot.spare = asyncio.create_task(self._prepared(child_slot, self._prepare))

    async def _prepared(self, child_slot: _ChildSlot, request: Request[None]) -> Child:
        child = await self._start(child_slot)
        try:
            await self._with(child).ask(request)
        except BaseException:
            child.kill()
            await asyncio.shield(child.end())
            raise
        return child

    async def _start(self, child_slot: _ChildSlot) -> Child:
        child = await child_process.start(self._kind, child_slot.job_directory)
        try:
            check_level(self._sandbox, child.level)
        except SettingsInvalid:
            await child.end()
            raise
        return child

    def _with(self, child: Child) -> Conversation:
        return Conversation(child, self._stall_s, self._memory_bytes)
