"""The process that reads untrusted files: confines itself, then does one operation after another.

Started by pool.py with an environment that has numerics only; imports nothing heavy before it is
confined.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from foremask.errors import ForemaskError
from foremask.machine import process_setup
from foremask.service.sandbox import confine, messages
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

_NICENESS: Final = 2  # heartbeats and answers come a little before frames
_PROGRESS_EVERY_S: Final = 0.2


class Parent:
    """The other end of the socket pair."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._progress_sent_s = 0.0

    def receive(self) -> FromParent | None:
        """The next message; None when the parent is gone."""
        length = self._read(LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            return None
        return messages.from_parent.decode(self._read(messages.body_bytes(length)))

    def send(self, message: FromChild) -> None:
        """All of the message, however long the parent takes."""
        left = memoryview(messages.framed(message))
        while left:
            left = left[os.write(self._fd, left) :]

    def progress(self, frames_done: int, frames_total: int | None, stage: str) -> None:
        """Say how far it is, a few times a second at most."""
        now_s = time.monotonic()
        if now_s - self._progress_sent_s >= _PROGRESS_EVERY_S:
            self._progress_sent_s = now_s
            self.send(Progress(frames_done, frames_total, stage))

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes of the remote file, at most ``size``."""
        self.send(ReadAt(offset, size))
        answer = self.receive()
        if not isinstance(answer, Data):
            sys.exit(1)
        return answer.data[:size]

    def _read(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size and (piece := os.read(self._fd, size - len(got))):
            got += piece
        return bytes(got)


type Operation = Callable[[dict[str, Any], Parent], object]
"""Takes the arguments of a job, gives what msgspec can encode; raises errors of the error tree."""


def main() -> None:
    """Serve the parent until it closes the socket."""
    confine.die_with(parent_pid=int(sys.argv[2]))
    process_setup.prepare()
    channel = int(sys.argv[1])
    os.closerange(3, channel)  # whatever the parent's parent left open: uvloop hands it on
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    parent = Parent(channel)
    setup = parent.receive()
    if not isinstance(setup, Setup):
        return
    os.nice(_NICENESS)
    sys.path[:0] = setup.import_from
    confine.cap(confine.Ceilings(setup.address_space_bytes, setup.file_bytes))
    level = confine.Level()
    if setup.confined:
        readable = [*map(Path, setup.read), *confine.python_paths()]
        level = confine.confine(readable, map(Path, setup.write), setup.landlock_at_most)
    operations: dict[str, Operation] = import_module(setup.operations).OPERATIONS
    parent.send(Ready(level.landlock, level.seccomp))
    for job in _jobs(parent):
        parent.send(_done(operations, job, parent))


def _jobs(parent: Parent) -> Iterator[Job]:
    while isinstance(message := parent.receive(), Job):
        yield message


def _done(operations: dict[str, Operation], job: Job, parent: Parent) -> FromChild:
    try:
        value = operations[job.operation](job.args, parent)
        return Result(msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=str))
    except ForemaskError as error:
        return Refused(error.reason, error.details, error.param, error.limit, error.actual)
    except Exception as error:  # noqa: BLE001  # the parent records it and ends this process
        return Broken(type(error).__name__, traceback.format_exc(limit=-12)[-8000:])


if __name__ == "__main__":
    main()
