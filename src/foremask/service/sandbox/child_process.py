"""A media child, from its parent's side: started, watched, killed."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from foremask.machine import process_setup
from foremask.service.sandbox import job_directories, messages
from foremask.service.sandbox.confine import Level
from foremask.service.sandbox.job_directories import JobDirectory
from foremask.service.sandbox.messages import LENGTH_BYTES, FromChild, FromParent, Ready, Setup

START_S = 60.0  # interpreter and libraries on a cold, busy disk
WATCH_S = 0.25
LOG_BYTES = 8 << 10
FILE_BYTES = 32 << 30  # the longest file that a child may write
BEYOND_MEMORY_BYTES = 32 << 30  # stacks, arenas and mapped files take addresses, not memory


class ChildDied(Exception):
    """The media child ended during a job; another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the children of one pool have in common."""

    confined: bool
    memory_bytes: int
    execution: str
    readable: Sequence[Path]
    import_from: Sequence[Path]
    landlock_at_most: int | None = None  # to test what an older kernel gives


@dataclass(slots=True)
class Child:
    """A started child; ``owner`` is the token that it has served, None nobody.

    It is killed when it uses too much memory or has too many files in its slot; the last two
    numbers say which.
    """

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    log: asyncio.Task[bytes]
    owner: str | None = None
    level: Level = field(default_factory=Level)
    jobs: int = 0
    watch: asyncio.Task[None] | None = None
    over_memory_bytes: int = 0
    over_files: bool = False

    async def receive(self) -> FromChild:
        """Its next message; raises EOFError, ConnectionError, or ValueError for nonsense."""
        size = messages.body_bytes(await self.reader.readexactly(LENGTH_BYTES))
        return messages.from_child.decode(await self.reader.readexactly(size))

    async def send(self, message: FromParent) -> None:
        """Send all of it, as fast as the child reads."""
        self.writer.write(messages.framed(message))
        await self.writer.drain()

    @property
    def is_alive(self) -> bool:
        """Whether it is not known to have ended."""
        return self.process.returncode is None

    def kill(self) -> None:
        """Kill it at once; `end` waits for it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> str:
        """Kill it and wait; returns its exit status and the last lines of its stderr."""
        self.kill()
        if self.watch is not None:
            self.watch.cancel()
        self.writer.close()
        status = await self.process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how}\n{(await self.log).decode(errors='replace')}".strip()


async def start(kind: Kind, directory_slot: JobDirectory) -> Child:
    """A child that may read and write in its slot; raises ChildDied with its last words."""
    ours, theirs = socket.socketpair()
    with theirs, _closed_on_error(ours):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-B", "-X", "utf8", "-m", "foremask.service.sandbox.child"),
            *(str(theirs.fileno()), str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=process_setup.numerics(os.environ),  # no connection string, no key
            cwd=directory_slot.writable_dir,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    child = Child(process, reader, writer, asyncio.create_task(_last_stderr(process)))
    child.watch = asyncio.create_task(_watch(child, kind.memory_bytes, directory_slot))
    setup = Setup(
        confined=kind.confined,
        read=[
            str(path) for path in (directory_slot.readable_dir, *kind.readable, *kind.import_from)
        ],
        write=[str(directory_slot.writable_dir)],
        address_space_bytes=kind.memory_bytes + BEYOND_MEMORY_BYTES,
        file_bytes=FILE_BYTES,
        execution=kind.execution,
        import_from=[str(path) for path in kind.import_from],
        landlock_at_most=kind.landlock_at_most,
    )
    try:
        async with asyncio.timeout(START_S):
            await child.send(setup)
            ready = await child.receive()
        if isinstance(ready, Ready):
            child.level = Level(ready.landlock, ready.seccomp)
    except BaseException as error:
        child.kill()
        log = await asyncio.shield(child.end())
        if isinstance(error, asyncio.CancelledError):
            raise
        died = ChildDied("the media child did not start")
        died.add_note(log)
        raise died from error
    return child


@contextmanager
def _closed_on_error(ours: socket.socket) -> Iterator[None]:
    """Close our end when the start is cancelled before a transport owns it."""
    try:
        yield
    except BaseException:
        ours.close()
        raise


async def _watch(child: Child, memory_bytes: int, directory_slot: JobDirectory) -> None:
    """Look at the child's memory and files from outside, all its life, and kill it over a limit."""
    statm, page = Path(f"/proc/{child.process.pid}/statm"), os.sysconf("SC_PAGE_SIZE")
    while child.is_alive:
        await asyncio.sleep(WATCH_S)
        try:
            resident = int(statm.read_text().split()[1]) * page  # noqa: ASYNC240  # it is no disk
        except (OSError, IndexError):  # it ended, or this system has no /proc
            resident = 0
        if resident > memory_bytes:
            child.over_memory_bytes = resident
        child.over_files = job_directories.has_too_many_files(directory_slot)
        if child.over_memory_bytes or child.over_files:
            child.kill()
            return


async def _last_stderr(process: asyncio.subprocess.Process) -> bytes:
    kept = b""
    while process.stderr is not None and (piece := await process.stderr.read(4096)):
        kept = (kept + piece)[-LOG_BYTES:]
    return kept
