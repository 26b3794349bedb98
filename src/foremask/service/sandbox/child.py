"""The process that reads untrusted files; it confines itself before it imports media libraries."""

import os
import signal
import sys
import traceback
from contextlib import suppress
from functools import reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from typing import Final

from foremask.errors import ForemaskError
from foremask.machine import process_setup
from foremask.service.sandbox import confine, messages
from foremask.vision.network import compiled_networks

_BEYOND_MEMORY_BYTES: Final = 32 << 30  # address space for stacks, arenas and mapped files


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGINT may be ignored: by `nohup &`
    confine.die_with(parent_pid=int(sys.argv[2]))
    process_setup.prepare()
    channel = int(sys.argv[1])
    os.closerange(3, channel)  # uvloop does not close inherited files
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    parent = messages.Parent(channel)
    setup = parent.receive()
    if not isinstance(setup, messages.Setup):
        return
    os.nice(setup.niceness)
    with suppress(OSError):  # the kernel may group sessions, and this process has its own
        Path("/proc/self/autogroup").write_text(str(setup.niceness))
    sys.path[:0] = map(str, setup.import_from)
    confine.cap(setup.memory_bytes + _BEYOND_MEMORY_BYTES, setup.file_bytes)
    level = confine.Level()
    if setup.confined:
        inputs = Path("../in").resolve()
        own = Path.cwd()
        readable = [inputs, *setup.read, *setup.import_from, *confine.python_paths()]
        level = confine.confine(readable, [own], setup.landlock_at_most)
    compiled_networks.only_read()  # other processes could load what a hijacked child writes
    operations = import_module(setup.execution).OPERATIONS
    decoder = messages.decoder(reduce(or_, operations))

    def executed(job: messages.Envelope) -> messages.FromChild:
        try:
            request = decoder.decode(job.request)
            return messages.Success(messages.encoded(operations[type(request)](request, parent)))
        except ForemaskError as error:
            return messages.Refusal.of(error)
        except Exception as error:  # noqa: BLE001  # the parent logs it and kills this process
            return messages.Broken(type(error).__name__, traceback.format_exc(limit=-12)[-8000:])

    parent.send(messages.Ready(level))
    while isinstance(job := parent.receive(), messages.Envelope):
        parent.send(executed(job))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
