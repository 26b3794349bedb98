"""What a clip that has taken the child over would try, as operations of a child of its own."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foremask.errors import CorruptVideo
from foremask.sandbox.child import Operation, Parent

PTRACE_ATTACH = 16


def _attempts(args: dict[str, Any]) -> dict[str, Callable[[], object]]:
    own, outside, parent = Path(args["out"]), Path(args["outside"]), os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *values: object) -> None:
        if getattr(libc, name)(*values) == -1:
            raise OSError(ctypes.get_errno(), name)

    return {
        "read a file outside": lambda: outside.read_bytes(),
        "list a directory outside": lambda: list(outside.parent.iterdir()),
        "read the passwords": lambda: Path("/etc/passwd").read_bytes(),
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
        "change what it may read": lambda: Path(args["in"]).write_bytes(b"changed"),
        "add to what it may read": lambda: (Path(args["in"]).parent / "new").touch(),
        "change rights of a file outside": lambda: outside.chmod(0o777),
        "change times of a file outside": lambda: os.utime(outside),
        "open a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "open an IPv6 socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM),
        "open a unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "open a raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
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
    }


def _try_all(args: dict[str, Any], _: Parent) -> dict[str, str]:
    Path(args["out"]).write_bytes(b"mine")
    return {name: _outcome(attempt) for name, attempt in _attempts(args).items()}


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "allowed"


def _in_a_thread(args: dict[str, Any], _: Parent) -> str:
    seen: list[str] = []
    thread = threading.Thread(
        target=lambda: seen.append(_outcome(Path(args["outside"]).read_bytes))
    )
    thread.start()
    thread.join()
    return seen[0]


def _copy(args: dict[str, Any], parent: Parent) -> dict[str, Any]:
    data = Path(args["in"]).read_bytes()
    Path(args["out"]).write_bytes(data)
    parent.progress(1, 2, "copying")
    return {"out": args["out"], "in": args["in"], "bytes": len(data)}


def _remote(args: dict[str, Any], parent: Parent) -> bytes:
    return parent.read_at(args["offset"], args["size"])


def _facts(_: dict[str, Any], __: Parent) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "environ": dict(os.environ),
        "files": sorted(os.listdir("../in")),  # noqa: PTH208
        "start": Path("/proc/self/environ").read_bytes().decode(),
        "fds": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
    }


_calls = iter(range(1, 1000))


def _count(_: dict[str, Any], __: Parent) -> int:
    return next(_calls)


def _refuse(_: dict[str, Any], __: Parent) -> None:
    raise CorruptVideo("The video breaks at frame 7.", param="video", limit=9, actual=7)


def _die(_: dict[str, Any], __: Parent) -> None:
    os.write(2, b"about to die")
    os.abort()


def _hang(_: dict[str, Any], __: Parent) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    time.sleep(60)


def _dribble(_: dict[str, Any], parent: Parent) -> None:
    for done in range(100):
        time.sleep(0.25)
        parent.progress(done, None, "dribbling")


def _grow(args: dict[str, Any], _: Parent) -> None:
    kept = []
    while True:
        kept.append(b"x" * (8 << 20))
        time.sleep(args["pause_s"])


def _blunder(_: dict[str, Any], __: Parent) -> None:
    raise ZeroDivisionError("a blunder of ours")


def _fill_disk(args: dict[str, Any], _: Parent) -> None:
    with Path(args["out"]).open("wb") as file:
        file.truncate(1 << 40)


def _lie(args: dict[str, Any], _: Parent) -> None:
    os.write(int(sys.argv[1]), bytes.fromhex(args["bytes"]))  # the socket
    time.sleep(60)


OPERATIONS: dict[str, Operation] = {
    "try_all": _try_all,
    "in_a_thread": _in_a_thread,
    "copy": _copy,
    "remote": _remote,
    "facts": _facts,
    "count": _count,
    "refuse": _refuse,
    "die": _die,
    "hang": _hang,
    "dribble": _dribble,
    "grow": _grow,
    "blunder": _blunder,
    "fill_disk": _fill_disk,
    "lie": _lie,
}
