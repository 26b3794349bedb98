"""Runs requests in a pool of confined child processes."""

import asyncio
import contextlib
import fcntl
import itertools
import math
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import structlog

from foremask.errors import ForemaskError, Internal, OutputFailed, ServiceUnavailable, TimedOut
from foremask.machine import process_setup
from foremask.machine.hardware import share_of_memory
from foremask.options import unfinished_cache
from foremask.service.sandbox import messages
from foremask.service.sandbox.confine import Level, check_level, level_of
from foremask.service.sandbox.messages import Request, with_paths
from foremask.settings import Sandbox

log = structlog.get_logger(__name__)

START_S = 60.0  # timeout; Python and its libraries load slowly from a busy disk
STALL_S = 480.0  # longer than a worker's own limit, which begins the attempt anew
WATCH_S = 0.25
SAVE_S = 2.0  # timeout of a child that is told to stop, to save its cache of network results
LOG_BYTES = 8 << 10
FILE_BYTES = 32 << 30  # limit on each file that a child writes

# A stream's child gets three times the processor time of a job's, where both want it; heartbeats
# and HTTP responses come before both.
STREAM_NICENESS: Final = 1
JOB_NICENESS: Final = 6
MAX_FILES: Final = 64  # limit for a child's directory; an operation writes a few files
MAX_THREADS: Final = 256 + 16 * (os.cpu_count() or 1)  # codecs and networks start some per core
MAX_MESSAGES_PER_S: Final = 1000  # a stream of 240 frames a second sends 600
MAX_MESSAGE_BYTES_PER_S: Final = 64 << 20
_LOCK: Final = "lock"

OnProgress = Callable[[messages.ChildProgress], Awaitable[object]]
ReadRemote = Callable[[int, int], Awaitable[bytes]]
Converse = Callable[[messages.NextFrame | messages.StreamedPicture], Awaitable[Any]]
"""Takes a message of a stream's child; returns the reply, or None."""


@contextmanager
def own_directory(parent: Path, prefix: str) -> Generator[Path]:
    """Make a temporary directory for the block. Removes directories of killed processes."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f".{prefix}").open("ab") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # no other process may clean up before `own` is locked
        for left in parent.glob(f"{prefix}*/{_LOCK}"):
            # OSError: the process that owns `left` is alive, or is itself removing the directory.
            with contextlib.suppress(OSError), left.open("r+b") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left.parent)
        own = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
        lock = (own / _LOCK).open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


class JobDirectory:
    """A job's directories of input and output files. The child works in ``writable``."""

    def __init__(self, parent: Path) -> None:
        self.readable = parent / "in"
        self.writable = parent / "out"
        self.readable.mkdir(parents=True)
        self.writable.mkdir()

    @property
    def has_too_many_files(self) -> bool:
        try:
            with os.scandir(self.writable) as entries:
                return len(list(itertools.islice(entries, MAX_FILES + 1))) > MAX_FILES
        except OSError:  # the directory is gone, or no descriptor is free: the next look counts
            return False

    def clear(self) -> None:
        """Empty the directories, but keep them: the child's Landlock rules refer to the inodes."""
        for each in (*self.readable.iterdir(), *self.writable.iterdir()):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()

    def stage[Q: Request[Any]](self, request: Q) -> Q:
        """Link or copy the inputs into ``readable``. Returns the request with the child's paths."""
        number = itertools.count()

        def link(path: Path) -> Path:
            inside = self.readable / f"{next(number)}-{path.name}"
            try:
                os.link(path.resolve(), inside)
            except OSError:
                shutil.copyfile(path, inside)
            return inside

        linked = with_paths(request, "input", link)
        return with_paths(linked, "output", lambda path: self.writable / path.name)

    def collect(self, request: Request[Any]) -> None:
        """Move the outputs to the paths in ``request``. Ignores what is not a regular file."""

        def move(path: Path) -> Path:
            self._move(path)
            return path

        with_paths(request, "output", move)

    def collect_cache(self, cache: Path) -> None:
        """Move the network's results that a child has saved when it was told to stop."""
        with contextlib.suppress(OSError):
            self._move(cache)
            self._move(unfinished_cache(cache))

    def _move(self, path: Path) -> None:
        written = self.writable / path.name
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(written.lstat().st_mode):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(written, path)


@dataclass(slots=True)
class _Inbox:
    """Counts a child's messages. It may send a second's worth of them at once."""

    messages_left: float = MAX_MESSAGES_PER_S
    bytes_left: float = MAX_MESSAGE_BYTES_PER_S
    counted_s: float = field(default_factory=time.monotonic)

    def is_flooded_by(self, message_bytes: int) -> bool:
        now_s = time.monotonic()
        passed_s = min(1.0, now_s - self.counted_s)
        self.counted_s = now_s
        most = MAX_MESSAGES_PER_S
        self.messages_left = min(most, self.messages_left + most * passed_s) - 1
        most = MAX_MESSAGE_BYTES_PER_S
        self.bytes_left = min(most, self.bytes_left + most * passed_s) - message_bytes
        return min(self.messages_left, self.bytes_left) < 0


class ChildDied(Exception):
    """A child ended or sent an invalid message. Another attempt may succeed."""


@dataclass(slots=True)
class Child:
    """A child process. It is killed when it exceeds a limit.

    These are ``memory_bytes``, `MAX_FILES`, `MAX_THREADS`, `MAX_MESSAGES_PER_S`,
    `MAX_MESSAGE_BYTES_PER_S`, and the processor time that `allow` gives a request.
    """

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    directory: JobDirectory
    memory_bytes: int
    owner: str | None = None  # id of the token whose jobs it runs, if any
    level: Level = field(default_factory=Level)
    jobs: int = 0
    over_limit: ForemaskError | None = None  # set when the child exceeds a limit
    _processor_limit_s: float = math.inf  # of one request
    _processor_until_s: float = math.inf
    _inbox: _Inbox = field(default_factory=_Inbox)
    log: asyncio.Task[bytes] = field(init=False)
    watch: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.log = asyncio.create_task(_last_stderr(self.process))
        self.watch = asyncio.create_task(self.watch_limits())

    async def ask[R](
        self,
        request: messages.Request[R],
        stall_s: float,
        on_progress: OnProgress | None = None,
        read_at: ReadRemote | None = None,
        converse: Converse | None = None,
    ) -> R | messages.Refusal:
        """Return the result, or the `Refusal` of a request that ``outlives_refusal``.

        Raises the errors of `MediaPool.run`. An error leaves the child unusable.
        """
        await self.send(request)
        while True:
            match await self.receive(stall_s, "No frame was done"):
                case messages.ChildProgress() as progress:
                    if on_progress is not None:
                        await on_progress(progress)
                case messages.ReadAt(offset, size) if read_at is not None:
                    await self.send(messages.Data(await read_at(offset, size)))
                case messages.NextFrame() | messages.StreamedPicture() as message if (
                    converse is not None
                ):
                    reply = await converse(message)
                    if reply is not None:
                        await self.send(reply)
                case messages.Success(value):
                    with self._translated():
                        return messages.result_of(request, value)
                case messages.Refusal(reason=OutputFailed.usual_reason, details=details):
                    raise ServiceUnavailable(details)  # the disk is full or broken
                case messages.Refusal() as refused:
                    if request.outlives_refusal:
                        return refused
                    raise refused.error()
                case messages.Broken(kind="MemoryError"):
                    raise self._out_of_memory(None)
                case messages.Broken(kind, trace):
                    unforeseen = Internal(f"Something unforeseen happened ({kind[:80]}).")
                    unforeseen.add_note(trace)
                    raise unforeseen
                case other:
                    raise ChildDied(f"the media child sent {type(other).__name__}")

    def allow(self, processor_s: float) -> None:
        """Allow the next request so much processor time, of all threads together."""
        self._processor_limit_s = processor_s
        self._processor_until_s = self._processor_time_and_threads()[0] + processor_s

    async def receive(self, stall_s: float, problem: str) -> messages.FromChild:
        with self._translated():
            async with within(stall_s, problem):
                size = messages.body_bytes(await self.reader.readexactly(messages.LENGTH_BYTES))
                message = messages.from_child.decode(await self.reader.readexactly(size))
        # The child waits for the answer to a ReadAt, and a probe has a few seconds for all of them.
        if not isinstance(message, messages.ReadAt) and self._inbox.is_flooded_by(size):
            details = f"The clip made its process send over {MAX_MESSAGES_PER_S} messages a second."
            self.over_limit = Internal(details, limit=MAX_MESSAGES_PER_S)
            self._kill()
            raise self.over_limit
        return message

    async def send(self, message: messages.FromParent | messages.Request[Any]) -> None:
        with self._translated():
            self.writer.write(messages.framed(message))
            await self.writer.drain()

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def stop(self) -> None:
        """Let the child save its cache of network results and exit, for up to `SAVE_S`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVE_S):
                await self.process.wait()

    def end(self) -> asyncio.Future[str]:
        """Kill the child. The future's result has the exit status and the end of stderr."""
        self._kill()
        return asyncio.shield(asyncio.ensure_future(self._ended()))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _ended(self) -> str:
        self.watch.cancel()
        self.writer.close()
        status = await self.process.wait()
        how = f"exit status {status}"
        if status < 0:
            how = f"signal {-status}"
        return f"{how}\n{(await self.log).decode(errors='replace')}".strip()

    async def watch_limits(self) -> None:
        statm = Path(f"/proc/{self.process.pid}/statm")
        page = os.sysconf("SC_PAGE_SIZE")
        while self.is_alive and self.over_limit is None:
            await asyncio.sleep(WATCH_S)
            with contextlib.suppress(OSError, IndexError):  # the child ended, or there is no /proc
                resident = int(statm.read_text().split()[1]) * page  # noqa: ASYNC240  # /proc is no disk
                if resident > self.memory_bytes:
                    self.over_limit = self._out_of_memory(resident)
            if self.directory.has_too_many_files:
                details = f"The clip made its process write more than {MAX_FILES} files."
                self.over_limit = Internal(details, limit=MAX_FILES)
            processor_s, threads = self._processor_time_and_threads()
            if threads > MAX_THREADS:
                details = f"The clip made its process start more than {MAX_THREADS} threads."
                self.over_limit = Internal(details, limit=MAX_THREADS, actual=threads)
            if processor_s > self._processor_until_s:
                most_s = self._processor_limit_s
                details = f"The work was not done within {most_s:g} s of processor time."
                self.over_limit = TimedOut(details, limit=most_s)
        self._kill()

    def _processor_time_and_threads(self) -> tuple[float, int]:
        """The seconds that the child has computed, and its threads; 0 where there is no /proc."""
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
            after_name = stat.rpartition(")")[2].split()
            user, system = after_name[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), int(after_name[17])
        return 0.0, 0

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError, ValueError) as error:  # DecodeError is a ValueError
            died = ChildDied("the media child died, or broke off the conversation")
            raise self.over_limit or died from error

    def _out_of_memory(self, actual: int | None) -> Internal:
        gib = self.memory_bytes / (1 << 30)
        details = (
            f"The clip needs over {gib:.1f} GiB of memory: send it smaller, or ask for mp4_h264."
        )
        return Internal(details, limit=self.memory_bytes, actual=actual)


async def start(setup: messages.Setup, directory: JobDirectory) -> Child:
    """Start a child. If that fails, raise ChildDied with the end of its stderr as a note."""
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as on_error:
        on_error.callback(ours.close)  # unless a process starts
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-B", "-X", "utf8", "-m", "foremask.service.sandbox.child"),
                *(str(theirs.fileno()), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=process_setup.numerics(os.environ),  # no database URL and no keys
                cwd=directory.writable,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        )
        try:
            process = await asyncio.shield(spawning)
            on_error.pop_all()
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except asyncio.CancelledError:  # `spawning` is shielded and continues
            with contextlib.suppress(OSError):
                process = await spawning
                process.kill()
                await process.wait()
            raise
    child = Child(process, reader, writer, directory, setup.memory_bytes)
    try:
        await child.send(setup)
        ready = await child.receive(START_S, "The media child did not start")
        if isinstance(ready, messages.Ready):
            child.level = ready.level
    except asyncio.CancelledError:
        await child.end()
        raise
    except Exception as error:
        died = ChildDied("the media child did not start")
        died.add_note(await child.end())
        raise died from error
    return child


@asynccontextmanager
async def within(seconds: float, problem: str) -> AsyncGenerator[None]:
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():  # the block raised the error
            raise
        raise TimedOut(f"{problem} within {seconds:g} s.", limit=seconds) from error


async def _last_stderr(process: asyncio.subprocess.Process) -> bytes:
    kept = b""
    while process.stderr is not None and (piece := await process.stderr.read(4096)):
        kept = (kept + piece)[-LOG_BYTES:]
    return kept


@dataclass(slots=True)
class _ChildSlot:
    directory: JobDirectory
    child: Child | None = None
    spare: asyncio.Task[Child] | None = None


class MediaPool:
    """Runs requests in at most ``slots`` child processes, with files under ``scratch``.

    ``execution`` is the module whose OPERATIONS execute requests. Children may read the paths in
    ``readable``. A child is replaced after ``jobs_per_child`` jobs, after an error, and before a
    job of another ``owner``. A probe that refuses its file is no error. With ``spares``, each slot
    has a second child that has started and executed ``prepare``.

    Entering the pool raises SettingsInvalid if this machine cannot confine as ``sandbox`` requires.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        slots: int = 1,
        sandbox: Sandbox = Sandbox.BEST_EFFORT,
        readable: Sequence[Path] = (),
        memory_bytes: int | None = None,
        stall_s: float = STALL_S,
        jobs_per_child: int = 50,
        execution: str = "foremask.service.sandbox.execution",
        import_from: Sequence[Path] = (),
        spares: bool = False,
        prepare: messages.Request[None] | None = None,
        niceness: int = JOB_NICENESS,
        landlock_at_most: int | None = None,
    ) -> None:
        self._slots = slots
        self._sandbox = sandbox
        self._stall_s = stall_s
        self._jobs_per_child = jobs_per_child
        self._spares = spares
        self._prepare = prepare
        self._setup = messages.Setup(
            sandbox is not Sandbox.OFF,
            memory_bytes or share_of_memory(slots),
            FILE_BYTES,
            execution,
            niceness,
            tuple(readable),
            tuple(import_from),
            landlock_at_most,
        )
        self._directory = own_directory(scratch, "slots-")
        self._semaphore = asyncio.Semaphore(slots)
        self._free: list[_ChildSlot] = []  # the most recently used slot is last
        self._all: tuple[_ChildSlot, ...] = ()
        self._clearing: set[asyncio.Task[None]] = set()
        self.level = Level()

    async def __aenter__(self) -> Self:
        self.level = level_of(self._sandbox)
        write_log = log.info
        if not self.level.full:
            write_log = log.warning
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
        request: messages.Request[R],
        *,
        on_progress: OnProgress | None = None,
        read_at: ReadRemote | None = None,
        converse: Converse | None = None,
        wall_clock_s: float = 600.0,
        processor_s: float = math.inf,
        owner: str = "",
    ) -> R:
        """Execute the request in a child, store its output files, and return its result.

        ``read_at`` reads the file of a probe whose ``source`` is None. ``converse`` gives the
        frames of a stream, and takes its masks. Raises TimedOut after ``wall_clock_s``, after
        ``processor_s`` of the child's processor time, which a busy machine makes last longer, or if
        the child sends nothing for ``stall_s``. Raises Internal if the child exceeds a limit,
        ServiceUnavailable if the disk is full, and ChildDied if the child ends. Other errors come
        from the operation, ``on_progress``, ``read_at`` or ``converse``. A cancellation
        kills the child. The child of a `messages.Make` with a cache first has `SAVE_S` to save it.
        """
        await self._semaphore.acquire()
        child_slot = self._take(owner)
        try:
            async with self._borrowed(child_slot, owner) as child:
                staged = await asyncio.to_thread(child_slot.directory.stage, request)
                child.allow(processor_s)
                try:
                    async with within(wall_clock_s, "The work was not done"):
                        result = await child.ask(
                            staged, self._stall_s, on_progress, read_at, converse
                        )
                except asyncio.CancelledError:
                    if isinstance(request, messages.Make) and request.files.cache is not None:
                        await child.stop()
                        child_slot.directory.collect_cache(request.files.cache)
                    raise
                await asyncio.to_thread(child_slot.directory.collect, request)
        finally:
            clearing = asyncio.create_task(self._give_back(child_slot))
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)
        if isinstance(result, messages.Refusal):
            raise result.error()
        return result

    def _take(self, owner: str) -> _ChildSlot:
        """Take a free slot. Prefer a child of this owner, then an unused child, then no child."""

        def preference(child_slot: _ChildSlot) -> int:
            if child_slot.child is None:
                return 1
            return {owner: 3, None: 2}.get(child_slot.child.owner, 0)

        chosen = max(reversed(self._free), key=preference)
        self._free.remove(chosen)
        return chosen

    async def _give_back(self, child_slot: _ChildSlot) -> None:
        """Empty the slot's directory and free the slot."""
        directory = child_slot.directory
        try:
            if directory.has_too_many_files:
                await self._end(child_slot)
            await asyncio.to_thread(directory.clear)
        except OSError as error:
            log.warning(
                "sandbox.not_cleared", job_directory=str(directory.writable), error=str(error)
            )
        finally:
            self._get_spare(child_slot)
            self._free.append(child_slot)
            self._semaphore.release()

    async def _end(self, child_slot: _ChildSlot) -> str:
        child = child_slot.child
        child_slot.child = None
        if child is None:
            return ""
        return await child.end()

    @asynccontextmanager
    async def _borrowed(self, child_slot: _ChildSlot, owner: str) -> AsyncGenerator[Child]:
        """Yield a child that has served no other owner. An error in the block kills the child."""
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
        spare = child_slot.spare
        child_slot.spare = None
        if spare is not None:
            with contextlib.suppress(ChildDied, ForemaskError):  # the spare child may have failed
                child = await spare
                if child.is_alive:
                    return child
                await child.end()
        return await self._start(child_slot)

    def _get_spare(self, child_slot: _ChildSlot) -> None:
        if self._spares and child_slot.spare is None:
            child_slot.spare = asyncio.create_task(self._start(child_slot, self._prepare))

    async def _start(
        self, child_slot: _ChildSlot, prepare: messages.Request[None] | None = None
    ) -> Child:
        child = await start(self._setup, child_slot.directory)
        try:
            check_level(self._sandbox, child.level)
            if prepare is not None:
                await child.ask(prepare, self._stall_s)
        except BaseException:
            await child.end()
            raise
        return child
