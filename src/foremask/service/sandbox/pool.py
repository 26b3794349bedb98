"""Media children for an event loop: one per slot, warm, confined, and killed rather than asked.

A slot has a directory of its own: what a job may read is linked into ``in``, what it writes lands
in ``out`` and is moved to the caller's scratch when the child is done. So a child that serves one
job after another sees, at any time, the files of one.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from foremask.errors import (
    BY_REASON,
    ForemaskError,
    Internal,
    OutputFailed,
    ServiceUnavailable,
    SettingsInvalid,
    TimedOut,
)
from foremask.machine.memory import share_of_memory
from foremask.service.sandbox import child_process
from foremask.service.sandbox.child_process import Child, ChildDied, Kind
from foremask.service.sandbox.confine import Level
from foremask.service.sandbox.job_directories import (
    MAX_FILES,
    JobDirectory,
    clear,
    collect,
    empty,
    new_job_directory,
    stage,
    sweep,
)
from foremask.service.sandbox.levels import check_level, level_of
from foremask.service.sandbox.messages import Broken, Data, Job, Progress, ReadAt, Refused, Result
from foremask.service.settings import Sandbox

__all__ = ["ChildDied", "MediaPool", "OnProgress"]

log = structlog.get_logger(__name__)

SPARE_FROM_BYTES = 4 << 30
"""The share of memory from which on a slot has room for a second child that waits: docs/adr/0080."""

OnProgress = Callable[[Progress], Awaitable[object]]
ReadRemote = Callable[[int, int], Awaitable[bytes]]


@dataclass(slots=True)
class _ChildSlot:
    """A slot, the child that works in it, and the one that will take over."""

    job_directory: JobDirectory
    child: Child | None = None
    spare: asyncio.Task[Child] | None = None


class MediaPool:
    """``slots`` children at most, under ``scratch``; use it with ``async with``.

    ``readable`` is what every job may read besides its own files: the model. A child is replaced
    after ``jobs_per_child`` jobs, after any error, and when the job's ``owner`` is another than the
    last. ``prepare`` is an operation with its arguments that a child does before it has served
    anybody; with it, and with memory enough, the next child of each slot is ready before it is
    needed. Raises SettingsInvalid at the start when ``sandbox`` requires what this machine lacks.
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
        operations: str = "foremask.service.sandbox.operations",
        import_from: Sequence[Path] = (),
        prepare: tuple[str, dict[str, Any]] | None = None,
        spare_from_bytes: int = SPARE_FROM_BYTES,
        landlock_at_most: int | None = None,
    ) -> None:
        self._scratch, self._slots, self._sandbox = scratch, slots, sandbox
        self._stall_s, self._jobs_per_child, self._prepare = stall_s, jobs_per_child, prepare
        self._spare_from_bytes = spare_from_bytes
        self._memory_bytes = memory_bytes or share_of_memory(slots)
        confined = sandbox is not Sandbox.OFF
        self._kind = Kind(
            confined, self._memory_bytes, operations, readable, import_from, landlock_at_most
        )
        self._places = asyncio.Semaphore(slots)
        self._free: list[
            _ChildSlot
        ] = []  # one for each place, the one that was used last at the end
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

    async def run(
        self,
        operation: str,
        args: dict[str, Any],
        *,
        read_paths: Iterable[Path] = (),
        scratch: Path | None = None,
        on_progress: OnProgress | None = None,
        read_at: ReadRemote | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> Any:  # noqa: ANN401  # each operation has its own result
        """Do ``operation`` in a child and give its result in plain types.

        In ``args`` every path is text: one of ``read_paths``, or one below ``scratch``, where what
        the child writes is found afterwards. ``read_at`` answers for a file that only this side can
        reach. Raises the ForemaskError that the child raised (but ServiceUnavailable where the disk
        did not take what it wrote); TimedOut after ``wall_clock_s``, or when no frame advanced for
        the pool's ``stall_s``; Internal over the memory limit; ChildDied; and whatever
        ``on_progress`` or ``read_at`` raise. In all of these, and when cancelled, the child is
        killed.
        """
        await self._places.acquire()
        child_slot = self._take(owner)
        try:
            async with self._borrowed(child_slot, owner) as child:
                staged = await asyncio.to_thread(
                    stage, child_slot.job_directory, args, list(read_paths), scratch
                )
                async with _within(wall_clock_s, "The work was not done"):
                    job = Job(operation, staged.args)
                    value = await self._converse(child, job, on_progress, read_at)
                await asyncio.to_thread(collect, child_slot.job_directory, scratch)
                return staged.outside(value)
        finally:
            clearing = asyncio.create_task(self._give_back(child_slot))
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)

    def _take(self, owner: str) -> _ChildSlot:
        """A free seat: best with a child that has served this owner, or nobody; else the one used last."""

        def liking(child_slot: _ChildSlot) -> int:
            if child_slot.child is None:
                return 1
            return {owner: 3, None: 2}.get(child_slot.child.owner, 0)

        chosen = max(reversed(self._free), key=liking)
        self._free.remove(chosen)
        return chosen

    async def _give_back(self, child_slot: _ChildSlot) -> None:
        """Empty the slot in a thread, for it may take long; then the seat is free."""
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
        """The seat's child, replaced if need be, and gone afterwards unless all went well."""
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
        """The spare, or else a child that is started now."""
        spare, child_slot.spare = child_slot.spare, None
        if spare is not None:
            with contextlib.suppress(ChildDied, ForemaskError):  # another start will tell why
                child = await spare
                if child.is_alive:
                    return child
                await child.end()
        return await self._start(child_slot)

    def _get_spare(self, child_slot: _ChildSlot) -> None:
        """Begin, in the background, on the child that comes after this one."""
        if (
            self._prepare
            and child_slot.spare is None
            and self._memory_bytes >= self._spare_from_bytes
        ):
            child_slot.spare = asyncio.create_task(self._prepared(child_slot, Job(*self._prepare)))

    async def _prepared(self, child_slot: _ChildSlot, job: Job) -> Child:
        child = await self._start(child_slot)
        try:
            await self._converse(child, job, None, None)
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

    async def _converse(
        self, child: Child, job: Job, on_progress: OnProgress | None, read_at: ReadRemote | None
    ) -> object:
        """Send the job and answer the child until it is done."""
        with self._alive(child):
            await child.send(job)
        while True:
            with self._alive(child):
                async with _within(self._stall_s, "No frame was done"):
                    message = await child.receive()
            match message:
                case Progress() as progress:
                    if on_progress is not None:
                        await on_progress(progress)
                case ReadAt(offset, size) if read_at is not None:
                    data = await read_at(offset, size)
                    with self._alive(child):
                        await child.send(Data(data))
                case Result(value):
                    return value
                case (
                    Refused(reason=OutputFailed.reason) as refused
                ):  # the disk that it writes to is ours
                    raise ServiceUnavailable(refused.details)
                case Refused() as refused:
                    raise _error(refused)
                case Broken(kind="MemoryError"):
                    raise self._out_of_memory(child)
                case Broken(kind, trace):
                    unforeseen = Internal(f"Something unforeseen happened ({kind[:80]}).")
                    unforeseen.add_note(trace)
                    raise unforeseen
                case other:
                    raise ChildDied(f"the media child said {type(other).__name__}")

    @contextmanager
    def _alive(self, child: Child) -> Iterator[None]:
        """What the wire says of a child that is no longer there, or talks nonsense."""
        try:
            yield
        except (EOFError, ConnectionError, ValueError) as error:  # DecodeError is a ValueError
            if child.over_memory_bytes:
                raise self._out_of_memory(child) from error
            if child.over_files:
                raise Internal(
                    f"The clip made its process write more than {MAX_FILES} files.", limit=MAX_FILES
                ) from error
            raise ChildDied("the media child died, or broke off the conversation") from error

    def _out_of_memory(self, child: Child) -> Internal:
        gib = self._memory_bytes / (1 << 30)
        return Internal(
            f"The clip needs more memory than the {gib:.1f} GiB that one job may use. "
            "Send it smaller, or ask for mp4_h264.",
            limit=self._memory_bytes,
            actual=child.over_memory_bytes or None,
        )


@asynccontextmanager
async def _within(seconds: float, problem: str) -> AsyncGenerator[None]:
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():  # somebody else's
            raise
        raise TimedOut(f"{problem} within {seconds:g} s.", limit=seconds) from error


def _error(refused: Refused) -> ForemaskError:
    kind = BY_REASON.get(refused.reason)
    if kind is None:
        return Internal(f"Something unforeseen happened ({refused.reason[:40]}).")
    return kind(
        refused.details[:2000], param=refused.param, limit=refused.limit, actual=refused.actual
    )
