"""The process that reads untrusted files: confines itself, then executes one request after another.

pool.py starts it with an environment that has only the variables of numerics. It imports no heavy
library before it is confined.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Any, Final

from foremask.errors import ForemaskError
from foremask.machine import process_setup
from foremask.service.sandbox import confine, messages
from foremask.service.sandbox.messages import Broken, FromChild, Job, Ready, Refused, Result, Setup
from foremask.service.sandbox.operations import Request
from foremask.service.sandbox.parent import Operation, Parent
from foremask.vision.network import compiled_networks

_NICENESS: Final = 2  # heartbeats and HTTP answers have a little priority over frames

type Execute = Callable[[Job, Parent], object]


def main() -> None:
    """Serve the parent until it closes the socket."""
    confine.die_with(parent_pid=int(sys.argv[2]))
    process_setup.prepare()
    channel = int(sys.argv[1])
    os.closerange(3, channel)  # files that the parent inherited: uvloop passes them on
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
    compiled_networks.only_read()  # a clip may take this process over; the next one must not run it
    execute = executor(import_module(setup.execution).OPERATIONS)
    parent.send(Ready(level.landlock, level.seccomp))
    for job in _jobs(parent):
        parent.send(_done(execute, job, parent))


def executor(operations: Mapping[type[Request[Any]], Operation]) -> Execute:
    """Decodes a job's request into one of these kinds, and calls its function."""
    decoder = messages.decoder(reduce(or_, operations))

    def execute(job: Job, parent: Parent) -> object:
        request = decoder.decode(job.request)
        return operations[type(request)](request, parent)

    return execute


def _jobs(parent: Parent) -> Iterator[Job]:
    while isinstance(message := parent.receive(), Job):
        yield message


def _done(execute: Execute, job: Job, parent: Parent) -> FromChild:
    try:
        return Result(messages.encoded(execute(job, parent)))
    except ForemaskError as error:
        return Refused.of(error)
    except Exception as error:  # noqa: BLE001  # the parent records it and ends this process
        return Broken(type(error).__name__, traceback.format_exc(limit=-12)[-8000:])


if __name__ == "__main__":
    main()
