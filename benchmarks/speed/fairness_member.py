"""One process of the service in the fairness run: ``python -m benchmarks.speed.fairness_member api|worker``.

As benchmarks.endurance.chaos_member, and names that end in ``.dead.example`` have a name server
that keeps silent, and ``origin.example`` is this machine.
"""

import os
import socket
import sys
import time
from typing import Any

import uvloop

from benchmarks.endurance.chaos_member import work
from foremask.service.settings import read_settings

SILENCE_S = 10.0  # as long as glibc waits for two servers of a zone, once each
_real = socket.getaddrinfo


def look_up(host: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as socket.getaddrinfo
    """The stand-in for DNS."""
    if host.endswith(".dead.example"):
        time.sleep(SILENCE_S)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")
    return _real("127.0.0.1" if host == "origin.example" else host, *args, **kwargs)


if __name__ == "__main__":
    socket.getaddrinfo = look_up  # type: ignore[assignment]
    chosen = read_settings(os.environ)
    if sys.argv[1] == "api":
        from foremask.service.api.application import run

        run(chosen)
    else:
        uvloop.run(work(chosen))
