"""What a clip that has taken over its child would try, as requests of their own."""

import ctypes
import errno
import fcntl
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from foremask.errors import CorruptVideo
from foremask.options import Input, Output
from foremask.service.sandbox.messages import ChildProgress, Executor, Parent, Request
from foremask.service.sandbox.pool import MediaPool

ROOT = Path(__file__).parents[3]
PTRACE_ATTACH = 16
F_SETOWN_EX, FIOASYNC, TIOCSTI = 15, 0x5452, 0x5412
FS_IOC_SETFLAGS = 0x4008_6602
FS_IOC_SETVERSION, FS_IOC32_SETVERSION = 0x4008_7602, 0x4004_7602
IPC_RMID, IPC_STAT, SETVAL = 0, 2, 16
MAP_ANONYMOUS, MAP_PRIVATE, MAP_LOCKED, MAP_HUGETLB = 0x20, 2, 0x2000, 0x4_0000
UPROBES = {"x86_64": (335, 336), "aarch64": ()}[os.uname().machine]
"""No filter sees these calls of the kernel's own probes. They kill any other caller."""
LAST_CALL = 511  # numbers from 512 on are of the x32 ABI
X32 = 1 << 30
UPPER_BITS = 1 << 32
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
IOCTL = {"x86_64": 16, "aarch64": 29}[os.uname().machine]
MIGRATE_PAGES = {"x86_64": 256, "aarch64": 238}[os.uname().machine]
MEMBARRIER = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
GETPID = {"x86_64": 39, "aarch64": 172}[os.uname().machine]
FCHMODAT2, SETXATTRAT, FILE_SETATTR = 452, 463, 469
AT_FDCWD = -100


def pool_of_misdeeds(scratch: Path, **settings: Any) -> MediaPool:  # noqa: ANN401
    usual = {"memory_bytes": 1 << 30, "stall_s": 20.0}
    return MediaPool(scratch, execution=__name__, import_from=[ROOT], **usual | settings)


class TryAll(Request[dict[str, str]], frozen=True):
    """Try each misdeed; the answer has the outcome of each, by its name."""

    source: Input
    target: Output
    outside: Path


class Seen(msgspec.Struct, frozen=True):
    """What a confined child can learn of paths outside."""

    size: int
    owner: int
    is_readable: bool
    leads_to: Path
    sees_parent: bool


class Look(Request[Seen], frozen=True):
    outside: Path
    link: Path


class CallAll(Request[list[int]], frozen=True):
    """Call each number but ``skipped``; the answer has those that the kernel does not lack."""

    skipped: tuple[int, ...]


class InAThread(Request[str], frozen=True):
    outside: Path


class Copy(Request[tuple[Path, Path, int]], frozen=True):
    """The answer has the paths of both files, and their size."""

    source: Input
    target: Output


class ProcessFacts(msgspec.Struct, frozen=True):
    pid: int
    calls: int
    environ: dict[str, str]
    files: list[str]
    start: str
    fds: int


class Facts(Request[ProcessFacts], frozen=True):
    pass


class Do(Request[None], frozen=True):
    deed: str


class Lie(Request[int], frozen=True):
    """The answer is text."""


class Litter(Request[None], frozen=True):
    files: int
    depth: int


class Garble(Request[None], frozen=True):
    sent: bytes


def _attempts(request: TryAll) -> dict[str, Callable[[], object]]:
    own, outside, parent = request.target, request.outside, os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *values: object) -> None:
        if getattr(libc, name)(*values) == -1:
            raise OSError(ctypes.get_errno(), name)

    def syscall(number: int, *values: object) -> None:
        call("syscall", ctypes.c_long(number), *values)

    def open_at(flags: int) -> None:
        os.close(os.open(outside, flags))

    def mapped(how: int) -> None:
        libc.mmap.restype = ctypes.c_ssize_t
        call("mmap", None, ctypes.c_size_t(4096), 1, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0)

    flags = (ctypes.c_long * 1)()
    own_fd = os.open(own, os.O_RDWR)
    return {
        "read a file outside": lambda: outside.read_bytes(),
        "list a directory outside": lambda: list(outside.parent.iterdir()),
        "read the passwords": lambda: Path("/etc/passwd").read_bytes(),
        "list the folder that Python is installed in": lambda: list(
            Path(sys.base_prefix).iterdir()
        ),
        "list the programs beside Python": lambda: list(Path(sys.base_prefix, "bin").iterdir()),
        "read Python's program": lambda: Path(sys.executable).read_bytes(),
        "list the machine's settings": lambda: list(Path("/usr/local/etc").iterdir()),
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "read the parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb"),
        "read through its own root": lambda: Path("/proc/self/root/etc/passwd").read_bytes(),
        "write a file outside": lambda: outside.write_bytes(b"taken"),
        "make a file outside": lambda: (outside.parent / "new").touch(),
        "make a file where temporary files go": lambda: Path("/var/tmp/fm-new").touch(),  # noqa: S108
        "shorten a file outside": lambda: os.truncate(outside, 0),
        "delete a file outside": lambda: outside.unlink(),
        "move a file out": lambda: own.rename(outside.parent / "moved"),
        "link a file in": lambda: os.link(outside, own.parent / "linked"),
        "make a symbolic link": lambda: (own.parent / "link").symlink_to(outside),
        "change what it may read": lambda: request.source.write_bytes(b"changed"),
        "add to what it may read": lambda: (request.source.parent / "new").touch(),
        "delete what it may read": request.source.unlink,
        "rename what it may read": lambda: request.source.rename(request.source.with_name("b")),
        "replace what it may read": lambda: own.replace(request.source),
        "change rights of a file outside": lambda: outside.chmod(0o777),
        "change times of a file outside": lambda: os.utime(outside),
        "open a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "open a unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "resolve a name": lambda: socket.getaddrinfo("example.com", 80),
        "start a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "become a program": lambda: os.execv(sys.executable, ["python"]),  # noqa: S606
        "fork": os.fork,
        "signal its parent": lambda: os.kill(parent, 0),
        "signal its parent's thread": lambda: call("tgkill", parent, parent, 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "trace its parent": lambda: call("ptrace", PTRACE_ATTACH, parent, 0, 0),
        "raise a limit of its parent": lambda: call("prlimit", parent, 7, 0, 0),
        "make a user namespace": lambda: call("unshare", 0x1000_0000),
        "mount": lambda: call("mount", b"none", os.fsencode(own.parent), b"tmpfs", 0, 0),
        "share memory with others": lambda: call("shmget", 0, 4096, 0o1600),
        "name its parent as the owner of a file": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
        "name it by a group": lambda: fcntl.fcntl(0, F_SETOWN_EX, bytes(8)),
        "choose the signal for an owner": lambda: fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL),
        "ask for signals": lambda: fcntl.fcntl(
            0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC
        ),
        "ask for signals by ioctl": lambda: fcntl.ioctl(1, FIOASYNC, struct.pack("i", 1)),
        "ask for signals with the upper bits set": lambda: syscall(
            IOCTL, 1, ctypes.c_long(UPPER_BITS | FIOASYNC), struct.pack("i", 1)
        ),
        "ask for a lease": lambda: fcntl.fcntl(0, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "type into a terminal": lambda: syscall(
            IOCTL, 0, ctypes.c_long(UPPER_BITS | TIOCSTI), b"x"
        ),
        "change attributes of what it may read": lambda: fcntl.ioctl(
            os.open(request.source, os.O_RDONLY), FS_IOC_SETFLAGS, bytes(flags)
        ),
        "shorten what it may read": lambda: os.open(request.source, os.O_RDONLY | os.O_TRUNC),
        "shorten a file outside by opening it": lambda: open_at(os.O_RDONLY | os.O_TRUNC),
        "shorten it without reading": lambda: open_at(3 | os.O_TRUNC),
        "open it for ioctl": lambda: open_at(3),
        "change rights by a young call": lambda: syscall(
            FCHMODAT2, AT_FDCWD, os.fsencode(request.source), 0o777, 0
        ),
        "change attributes by a young call": lambda: syscall(
            SETXATTRAT, AT_FDCWD, os.fsencode(request.source), 0, b"user.x", bytes(16), 16
        ),
        "set attributes by a young call": lambda: syscall(
            FILE_SETATTR, AT_FDCWD, os.fsencode(request.source), bytes(24), 24, 0
        ),
        "make a file in memory": lambda: os.memfd_create("x"),
        "outlive its parent": lambda: call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0),
        "be traced again": lambda: call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0),
        "choose its parent's processors": lambda: os.sched_setaffinity(parent, {0}),
        "choose its parent's scheduler": lambda: os.sched_setscheduler(
            parent, os.SCHED_BATCH, os.sched_param(0)
        ),
        "move its parent's memory": lambda: call("syscall", MIGRATE_PAGES, parent, 1, flags, flags),
        "see the machine's connections": lambda: Path("/proc/self/net/tcp").read_bytes(),
        "see them by a thread": lambda: Path(
            f"/proc/self/task/{os.getpid()}/net/unix"
        ).read_bytes(),
        "make a directory": lambda: (own.parent / "deep").mkdir(),
        "ask for semaphores": lambda: call("semget", 0x666D, 1, 0o1600),
        "set a semaphore": lambda: call("semctl", 0, 0, SETVAL, 1),
        "remove semaphores": lambda: call("semctl", 0, 0, IPC_RMID),
        "wait for a semaphore": lambda: call("semtimedop", 0, bytes(6), 1, bytes(16)),
        "ask for a queue": lambda: call("msgget", 0x666D, 0o1600),
        "remove a queue": lambda: call("msgctl", 0, IPC_RMID, 0),
        "send to a queue": lambda: call("msgsnd", 0, bytes(16), 1, 0),
        "take from a queue": lambda: call("msgrcv", 0, bytes(16), 1, 0, 0),
        "see shared memory": lambda: call("shmctl", 0, IPC_STAT, bytes(256)),
        "set the version of what it may read": lambda: fcntl.ioctl(
            os.open(request.source, os.O_RDONLY), FS_IOC_SETVERSION, bytes(8)
        ),
        "set the version by the 32-bit form": lambda: fcntl.ioctl(
            os.open(request.source, os.O_RDONLY), FS_IOC32_SETVERSION, bytes(8)
        ),
        "list extended attributes outside": lambda: os.listxattr(outside),
        "read an extended attribute outside": lambda: os.getxattr(outside, "user.x"),
        "hold a path outside": lambda: open_at(os.O_PATH),
        "go outside": lambda: os.chdir(outside.parent),
        "lower its parent's priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
        "watch a directory": lambda: call("inotify_init"),
        "lock memory": lambda: call("mlockall", 1),
        "map locked memory": lambda: mapped(MAP_LOCKED),
        "take reserved huge pages": lambda: mapped(MAP_HUGETLB),
        "lock a part of a file": lambda: fcntl.lockf(own_fd, fcntl.LOCK_EX),
        "start a timer": lambda: signal.setitimer(signal.ITIMER_REAL, 60),
        "write all disks": lambda: call("syncfs", own_fd),
        "disturb all processors": lambda: syscall(MEMBARRIER, 1, 0, 0),
        "use another ABI": lambda: syscall(X32 | GETPID),
    }


def _try_all(request: TryAll, _: Parent) -> dict[str, str]:
    request.target.write_bytes(b"mine")
    return {name: _outcome(attempt) for name, attempt in _attempts(request).items()}


def _look(request: Look, _: Parent) -> Seen:
    facts = request.outside.stat()
    return Seen(
        size=facts.st_size,
        owner=facts.st_uid,
        is_readable=os.access(request.outside, os.R_OK),
        leads_to=request.link.readlink(),
        sees_parent=Path(f"/proc/{os.getppid()}").exists(),
    )


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            return "denied"
        return type(error).__name__
    return "allowed"


def _call_all(request: CallAll, _: Parent) -> list[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = [ctypes.c_long(-1)] * 6
    there = []
    for number in range(LAST_CALL + 1):
        if number in (*request.skipped, *UPROBES):
            continue
        ctypes.set_errno(0)
        libc.syscall(ctypes.c_long(number), *nothing)
        if ctypes.get_errno() != errno.ENOSYS:
            there.append(number)
    return there


def _in_a_thread(request: InAThread, _: Parent) -> str:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(_outcome, request.outside.read_bytes).result()


def _copy(request: Copy, parent: Parent) -> tuple[Path, Path, int]:
    data = request.source.read_bytes()
    request.target.write_bytes(data)
    request.target.with_name("undeclared").write_bytes(data)
    parent.progress(1)
    return request.source, request.target, len(data)


def _facts(_: Facts, __: Parent) -> ProcessFacts:
    return ProcessFacts(
        pid=os.getpid(),
        calls=next(_calls),
        environ=dict(os.environ),
        files=sorted(os.listdir("../in")),  # noqa: PTH208
        start=Path("/proc/self/environ").read_bytes().decode(),
        fds=len(os.listdir("/proc/self/fd")),  # noqa: PTH208
    )


_calls = iter(range(1, 1000))


def _do(request: Do, parent: Parent) -> None:
    match request.deed:
        case "prepare":
            next(_calls)
        case "read":
            parent.read_at(3, 4)
        case "refuse":
            raise CorruptVideo("The video breaks at frame 7.", param="video", limit=9, actual=7)
        case "die":
            os.write(2, b"about to die")
            os.abort()
        case "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            time.sleep(60)
        case "dribble":
            for done in range(100):
                time.sleep(0.25)
                parent.progress(done)
        case "start threads":
            while True:
                Thread(target=time.sleep, args=(60,), daemon=True).start()
        case "send":
            for done in itertools.count():
                parent.send(ChildProgress(done))
        case "send much":
            while True:
                parent.send(ChildProgress(1, bytes(3 << 20)))
        case "compute":
            while True:
                pass
        case "grow slowly" | "grow":
            kept = []
            while True:
                kept.append(b"x" * (8 << 20))
                time.sleep(0.02 if "slowly" in request.deed else 0.0)
        case _:
            raise ZeroDivisionError("a blunder of ours")


def _litter(request: Litter, parent: Parent) -> None:
    for number in range(request.files):
        os.close(os.open(f"file-{number}", os.O_CREAT | os.O_WRONLY))
        if number % 1000 == 0:
            parent.progress(number)
    top = os.getcwd()  # noqa: PTH109
    for _ in range(request.depth):
        os.mkdir("deep", 0o700)  # noqa: PTH102
        os.chdir("deep")
    os.chdir(top)


def _garble(request: Garble, _: Parent) -> None:
    os.write(int(sys.argv[1]), request.sent)  # the socket
    time.sleep(60)


OPERATIONS: dict[type[Request[Any]], Executor] = {
    TryAll: _try_all,
    Look: _look,
    CallAll: _call_all,
    InAThread: _in_a_thread,
    Copy: _copy,
    Facts: _facts,
    Do: _do,
    Lie: lambda _, __: "three",
    Litter: _litter,
    Garble: _garble,
}
