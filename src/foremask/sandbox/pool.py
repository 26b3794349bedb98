"""Media children for an event loop: one per slot, warm, confined, and killed rather than asked.

A slot has a directory of its own: what a job may read is linked into ``in``, what it writes lands in
``out`` and is moved to the caller's scratch when the child is done. So a child that serves one job
after another sees, at any time, the files of one.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
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
from foremask.sandbox import confine, messages
from foremask.sandbox.confine import Level
from foremask.sandbox.messages import (
    LENGTH_BYTES,
    Broken,
    Data,
    FromChild,
    FromParent,
    Job,
    Progress,
    ReadAt,
    Ready,
    Refused,
    Result,
    Setup,
)
from foremask.settings import Sandbox

log = structlog.get_logger(__name__)

START_S = 60.0  # interpreter and libraries on a cold, busy disk
WATCH_MEMORY_S = 0.25
LOG_BYTES = 8 << 10
FILE_BYTES = 32 << 30  # the longest file that a child may write
BEYOND_MEMORY_BYTES = 32 << 30  # stacks, arenas and mapped files take addresses, not memory

OnProgress = Callable[[Progress], Awaitable[object]]
ReadRemote = Callable[[int, int], Awaitable[bytes]]


class ChildDied(Exception):
    """The media child ended in the middle of a job; another attempt may go better."""


@dataclass(slots=True)
class _Child:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    log: asyncio.Task[bytes]
    owner: str
    level: Level = field(default_factory=Level)
    jobs: int = 0
    over_memory_bytes: int = 0

    async def receive(self) -> FromChild:
        """Its next message; raises EOFError, ConnectionError, or ValueError for nonsense."""
        size = messages.body_bytes(await self.reader.readexactly(LENGTH_BYTES))
        return messages.from_child.decode(await self.reader.readexactly(size))

    async def send(self, message: FromParent) -> None:
        self.writer.write(messages.framed(message))
        await self.writer.drain()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> str:
        """Kill it, wait for it, and say how it ended and the last that it wrote to its stderr."""
        self.kill()
        self.writer.close()
        status = await self.process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how}\n{(await self.log).decode(errors='replace')}".strip()


@dataclass(slots=True)
class _Slot:
    directory: Path
    lock: int
    child: _Child | None = None

    @property
    def inward(self) -> Path:
        return self.directory / "in"

    @property
    def outward(self) -> Path:
        return self.directory / "out"


class MediaPool:
    """``slots`` children at most, under ``scratch``; use it with ``async with``.

    ``readable`` is what every job may read besides its own files: the model. A child is replaced after
    ``jobs_per_child`` jobs, after any error, and when the job's ``owner`` is another than the last.
    Raises SettingsInvalid at the start when ``sandbox`` requires what this machine lacks.
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
        operations: str = "foremask.sandbox.operations",
        import_from: Sequence[Path] = (),
    ) -> None:
        self._scratch, self._slots, self._sandbox = scratch, slots, sandbox
        self._readable, self._stall_s, self._jobs_per_child = readable, stall_s, jobs_per_child
        self._memory_bytes = memory_bytes or _share_of_memory(slots)
        self._operations, self._import_from = operations, import_from
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        self._all: list[_Slot] = []
        self.level = Level() if sandbox is Sandbox.OFF else confine.available()

    async def __aenter__(self) -> Self:
        self._check(self.level)
        tell = log.info if self.level.full else log.warning
        tell("sandbox", wanted=str(self._sandbox), confined_by=str(self.level))
        self._scratch.mkdir(parents=True, exist_ok=True)
        _sweep(self._scratch)
        for _ in range(self._slots):
            slot = _new_slot(self._scratch)
            self._all.append(slot)
            self._free.put_nowait(slot)
        return self

    async def __aexit__(self, *_: object) -> None:
        for slot in self._all:
            if slot.child is not None:
                await slot.child.end()
            shutil.rmtree(slot.directory, ignore_errors=True)
            os.close(slot.lock)

    async def warm(self) -> Level:
        """Start a child in every free slot; the level that they are confined to."""
        for slot in self._all:
            if slot.child is None:
                slot.child = await self._start(slot, "")
                self.level = slot.child.level
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

        In ``args`` every path is text: one of ``read_paths``, or one below ``scratch``, where what the
        child writes is found afterwards. ``read_at`` answers for a file that only this side can reach.
        Raises the ForemaskError that the child raised (but ServiceUnavailable where the disk did not take
        what it wrote); TimedOut after ``wall_clock_s``, or when no frame
        advanced for the pool's ``stall_s``; Internal over the memory limit; ChildDied; and whatever
        ``on_progress`` or ``read_at`` raise. In all of these, and when cancelled, the child is killed.
        """
        slot = await self._free.get()
        try:
            async with self._borrowed(slot, owner) as child:
                staged = await asyncio.to_thread(_stage, slot, args, list(read_paths), scratch)
                with _killed_over(child, self._memory_bytes):
                    async with _within(wall_clock_s, "The work was not done"):
                        value = await self._converse(
                            child, Job(operation, staged.args), on_progress, read_at
                        )
                await asyncio.to_thread(_collect, slot, scratch)
                return staged.outside(value)
        finally:
            self._free.put_nowait(slot)

    @asynccontextmanager
    async def _borrowed(self, slot: _Slot, owner: str) -> AsyncGenerator[_Child]:
        """The slot's child, started if need be, and gone afterwards unless all went well."""
        child = slot.child
        if child is not None and (child.process.returncode is not None or child.owner != owner):
            slot.child = None
            await child.end()
        try:
            child = slot.child = slot.child or await self._start(slot, owner)
            yield child
            child.jobs += 1
        except BaseException as error:
            slot.child = None
            if child is not None:
                child.kill()  # at once, before anything is awaited
                log = await asyncio.shield(child.end())
                if isinstance(error, ChildDied):
                    error.add_note(log)
            raise
        finally:
            _empty(slot)
        if child.jobs >= self._jobs_per_child:
            slot.child = None
            await child.end()

    async def _start(self, slot: _Slot, owner: str) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-B", "-X", "utf8", "-m", "foremask.sandbox.child"),
                *(str(theirs.fileno()), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={"OPENBLAS_NUM_THREADS": "1"},  # as in __main__; no connection string, no key
                cwd=slot.outward,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        child = _Child(process, reader, writer, asyncio.create_task(_last_words(process)), owner)
        setup = Setup(
            confined=self._sandbox is not Sandbox.OFF,
            read=[str(path) for path in (slot.inward, *self._readable, *self._import_from)],
            write=[str(slot.outward)],
            address_space_bytes=self._memory_bytes + BEYOND_MEMORY_BYTES,
            file_bytes=FILE_BYTES,
            operations=self._operations,
            import_from=[str(path) for path in self._import_from],
        )
        try:
            async with asyncio.timeout(START_S):
                await child.send(setup)
                ready = await child.receive()
            if isinstance(ready, Ready):
                child.level = Level(ready.landlock, ready.seccomp)
            self._check(child.level)
        except BaseException as error:
            child.kill()
            log = await asyncio.shield(child.end())
            if isinstance(error, asyncio.CancelledError | SettingsInvalid):
                raise
            died = ChildDied("the media child did not start")
            died.add_note(log)
            raise died from error
        return child

    def _check(self, level: Level) -> None:
        if self._sandbox is Sandbox.REQUIRE and not level.full:
            raise SettingsInvalid(
                f"FOREMASK_SANDBOX=require needs Landlock (Linux 5.13) and libseccomp; here is: {level}.",
                param="FOREMASK_SANDBOX",
            )

    async def _converse(
        self, child: _Child, job: Job, on_progress: OnProgress | None, read_at: ReadRemote | None
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
    def _alive(self, child: _Child) -> Iterator[None]:
        """What the wire says of a child that is no longer there, or talks nonsense."""
        try:
            yield
        except (EOFError, ConnectionError, ValueError) as error:  # DecodeError is a ValueError
            if child.over_memory_bytes:
                raise self._out_of_memory(child) from error
            raise ChildDied("the media child died, or broke off the conversation") from error

    def _out_of_memory(self, child: _Child) -> Internal:
        gib = self._memory_bytes / (1 << 30)
        return Internal(
            f"The clip needs more memory than the {gib:.1f} GiB that one job may use. "
            "Send it smaller, or ask for mp4_h264.",
            limit=self._memory_bytes,
            actual=child.over_memory_bytes or None,
        )


@dataclass(frozen=True, slots=True)
class _Staged:
    """A job's arguments as its child sees them, and the way back."""

    args: dict[str, Any]
    names: dict[str, str]

    def outside(self, value: object) -> object:
        """The child's result with its paths as the caller knows them."""
        back = {inside: outside for outside, inside in self.names.items()}
        return _renamed(value, back)


def _stage(
    slot: _Slot, args: dict[str, Any], read_paths: Sequence[Path], scratch: Path | None
) -> _Staged:
    """Link what the job may read into the slot; copy it where it lies on another disk."""
    names = {}
    for number, path in enumerate(read_paths):
        inside = slot.inward / f"{number}-{path.name}"
        try:
            os.link(path.resolve(), inside)
        except OSError:
            shutil.copyfile(path, inside)
        names[str(path)] = str(inside)
    if scratch is not None:
        names[str(scratch)] = str(slot.outward)
    return _Staged(_renamed(args, names), names)


def _collect(slot: _Slot, scratch: Path | None) -> None:
    """Move what the child wrote to the caller's scratch: plain files only."""
    if scratch is None:
        return
    for file in slot.outward.rglob("*", recurse_symlinks=False):
        if file.is_file(follow_symlinks=False):
            target = scratch / file.relative_to(slot.outward)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)


def _renamed(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401
    """``value`` with every path in it, whole or by its directory, under its other name."""
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, str):
        return value
    if value in names:
        return names[value]
    for name, other in names.items():
        if value.startswith(name + os.sep):
            return other + value[len(name) :]
    return value


def _empty(slot: _Slot) -> None:
    for directory in (slot.inward, slot.outward):
        for entry in directory.iterdir():
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _new_slot(scratch: Path) -> _Slot:
    """A directory that lasts as long as we hold its lock."""
    slot = _Slot(Path(tempfile.mkdtemp(prefix="slot-", dir=scratch)).resolve(), -1)
    slot.inward.mkdir()
    slot.outward.mkdir()
    slot.lock = os.open(slot.directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(slot.lock, fcntl.LOCK_EX)
    return slot


def _sweep(scratch: Path) -> None:
    """Remove the slots of processes that were killed."""
    for lock in scratch.glob("slot-*/lock"):
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(handle)


@asynccontextmanager
async def _within(seconds: float, told: str) -> AsyncGenerator[None]:
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():  # somebody else's
            raise
        raise TimedOut(f"{told} within {seconds:g} s.", limit=seconds) from error


@contextmanager
def _killed_over(child: _Child, memory_bytes: int) -> Iterator[None]:
    """Watch the child's memory from outside; what is over the limit is killed."""
    statm, page = Path(f"/proc/{child.process.pid}/statm"), os.sysconf("SC_PAGE_SIZE")

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_MEMORY_S)
            try:
                resident = int(statm.read_text().split()[1]) * page  # noqa: ASYNC240  # it is no disk
            except (OSError, IndexError):  # it ended, or this system has no /proc
                return
            if resident > memory_bytes:
                child.over_memory_bytes = resident
                child.kill()
                return

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


async def _last_words(process: asyncio.subprocess.Process) -> bytes:
    """Drain the child's stderr; the end of it is kept."""
    kept = b""
    while process.stderr is not None and (piece := await process.stderr.read(4096)):
        kept = (kept + piece)[-LOG_BYTES:]
    return kept


def _error(refused: Refused) -> ForemaskError:
    kind = BY_REASON.get(refused.reason)
    if kind is None:
        return Internal(f"Something unforeseen happened ({refused.reason[:40]}).")
    return kind(
        refused.details[:2000], param=refused.param, limit=refused.limit, actual=refused.actual
    )


def _share_of_memory(slots: int) -> int:
    """Three quarters of the machine's memory, or of the container's, by slot."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no control group, or one that says "max"
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most * 3 // 4 // slots
