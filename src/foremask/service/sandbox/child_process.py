"""A media child, from its parent's side: started, asked, watched, killed."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from foremask.errors import Internal, OutputFailed, ServiceUnavailable, TimedOut
from foremask.machine import process_setup
from foremask.service.sandbox import messages
from foremask.service.sandbox.confine import Level
from foremask.service.sandbox.job_directories import MAX_FILES, JobDirectory
from foremask.service.sandbox.messages import (
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
from foremask.service.sandbox.operations import Request, result_type

START_S = 60.0  # interpreter and libraries on a cold, busy disk
WATCH_S = 0.25
LOG_BYTES = 8 << 10
FILE_BYTES = 32 << 30  # the longest file that a child may write

OnProgress = Callable[[Progress], Awaitable[object]]
ReadRemote = Callable[[int, int], Awaitable[bytes]]


class ChildDied(Exception):
    """The media child ended during a job; another attempt may succeed."""


@dataclass(slots=True)
class Child:
    """A started child; ``owner`` is the token that it has served, None nobody.

    It is killed when it uses more than ``memory_bytes`` or has too many files in its slot; the last
    two fields say which.
    """

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    directory: JobDirectory
    memory_bytes: int
    log: asyncio.Task[bytes]
    owner: str | None = None
    level: Level = field(default_factory=Level)
    jobs: int = 0
    watch: asyncio.Task[None] | None = None
    over_memory_bytes: int = 0
    over_files: bool = False

    async def ask[R](
        self,
        request: Request[R],
        stall_s: float,
        on_progress: OnProgress | None = None,
        read_at: ReadRemote | None = None,
    ) -> R | Refused:
        """Send the request, answer the child until it is done, and return its result.

        Returns a refusal that the child outlives. Raises as `MediaPool.run` does; the child is no
        good after that.
        """
        await self.send(Job(messages.encoded(request)))
        while True:
            match await self.receive(stall_s, "No frame was done"):
                case Progress() as progress:
                    if on_progress is not None:
                        await on_progress(progress)
                case ReadAt(offset, size) if read_at is not None:
                    await self.send(Data(await read_at(offset, size)))
                case Result(value):
                    with self._translated():
                        return messages.decoder(result_type(type(request))).decode(value)
                case Refused(reason=OutputFailed.reason) as refused:  # it writes to our disk
                    raise ServiceUnavailable(refused.details)
                case Refused() as refused:
                    if request.outlives_refusal:
                        return refused
                    raise refused.error()
                case Broken(kind="MemoryError"):
                    raise self._out_of_memory()
                case Broken(kind, trace):
                    unforeseen = Internal(f"Something unforeseen happened ({kind[:80]}).")
                    unforeseen.add_note(trace)
                    raise unforeseen
                case other:
                    raise ChildDied(f"the media child sent {type(other).__name__}")

    async def receive(self, stall_s: float, problem: str) -> FromChild:
        with self._translated():
            async with within(stall_s, problem):
                size = messages.body_bytes(await self.reader.readexactly(LENGTH_BYTES))
                return messages.from_child.decode(await self.reader.readexactly(size))

    async def send(self, message: FromParent) -> None:
        with self._translated():
            self.writer.write(messages.framed(message))
            await self.writer.drain()

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def end(self) -> asyncio.Future[str]:
        """Kill it at once; what is returned comes even when the wait for it is cancelled.

        It is the exit status and the last lines of stderr.
        """
        self._kill()
        return asyncio.shield(asyncio.ensure_future(self._ended()))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _ended(self) -> str:
        if self.watch is not None:
            self.watch.cancel()
        self.writer.close()
        status = await self.process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how}\n{(await self.log).decode(errors='replace')}".strip()

    async def watch_limits(self) -> None:
        """Look at its memory and files from outside, all its life, and kill it over a limit."""
        statm, page = Path(f"/proc/{self.process.pid}/statm"), os.sysconf("SC_PAGE_SIZE")
        while self.is_alive:
            await asyncio.sleep(WATCH_S)
            try:
                resident = int(statm.read_text().split()[1]) * page  # noqa: ASYNC240  # it is no disk
            except (OSError, IndexError):  # it ended, or this system has no /proc
                resident = 0
            if resident > self.memory_bytes:
                self.over_memory_bytes = resident
            self.over_files = self.directory.has_too_many_files
            if self.over_memory_bytes or self.over_files:
                self._kill()
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError, ValueError) as error:  # DecodeError is a ValueError
            if self.over_memory_bytes:
                raise self._out_of_memory() from error
            if self.over_files:
                raise Internal(
                    f"The clip made its process write more than {MAX_FILES} files.", limit=MAX_FILES
                ) from error
            raise ChildDied("the media child died, or broke off the conversation") from error

    def _out_of_memory(self) -> Internal:
        gib = self.memory_bytes / (1 << 30)
        return Internal(
            f"The clip needs over {gib:.1f} GiB of memory: send it smaller, or ask for mp4_h264.",
            limit=self.memory_bytes,
            actual=self.over_memory_bytes or None,
        )


async def start(setup: Setup, directory: JobDirectory) -> Child:
    """A child that may read and write in its directory; raises ChildDied with its last words."""
    ours, theirs = socket.socketpair()
    with theirs, ExitStack() as on_error:
        on_error.callback(ours.close)  # where the start is cancelled before a transport owns it
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-B", "-X", "utf8", "-m", "foremask.service.sandbox.child"),
            *(str(theirs.fileno()), str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=process_setup.numerics(os.environ),  # no connection string, no key
            cwd=directory.writable,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        on_error.pop_all()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    log = asyncio.create_task(_last_stderr(process))
    child = Child(process, reader, writer, directory, setup.memory_bytes, log)
    child.watch = asyncio.create_task(child.watch_limits())
    read = (directory.readable, *setup.read, *setup.import_from)
    setup = msgspec.structs.replace(
        setup, read=read, write=(directory.writable,), file_bytes=FILE_BYTES
    )
    try:
        await child.send(setup)
        ready = await child.receive(START_S, "The media child did not start")
        if isinstance(ready, Ready):
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
    """Raise TimedOut, which names the problem, when the block takes longer."""
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():  # raised in the block by something else
            raise
        raise TimedOut(f"{problem} within {seconds:g} s.", limit=seconds) from error


async def _last_stderr(process: asyncio.subprocess.Process) -> bytes:
    kept = b""
    while process.stderr is not None and (piece := await process.stderr.read(4096)):
        kept = (kept + piece)[-LOG_BYTES:]
    return kept
