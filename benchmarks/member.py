"""One process of a measured service: ``python -m benchmarks.member api``, or ``worker [SLOTS]``.

Only the network (`benchmarks.stand_in`) and two domains are not real: the name server of
``.dead.example`` does not answer, and ``origin.example`` is this machine.
"""

import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from foremask.machine.hardware import share_of_memory
from foremask.service.sandbox.pool import MediaPool
from foremask.service.worker.job_stages import SERVICE_RESOURCES
from foremask.service.worker.process import QUEUES, open_work, work_until_stopped
from foremask.settings import Settings, read_settings

SILENCE_S = 10.0  # as long as glibc waits for two servers of a zone, once each
_real = socket.getaddrinfo


def look_up(host: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as socket.getaddrinfo
    if str(host).endswith(".dead.example"):
        time.sleep(SILENCE_S)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")
    return _real("127.0.0.1" if host == "origin.example" else host, *args, **kwargs)


async def work(settings: Settings, slots: int = 1) -> None:
    """As worker.run_worker; a confined child masks without the network."""
    scratch = settings.data_dir / "scratch" / "worker"
    limits = settings.limits(settings.job_memory or share_of_memory(slots))
    resources = replace(SERVICE_RESOURCES, limits=limits)
    async with (
        MediaPool(scratch, sandbox=settings.sandbox) as files,
        MediaPool(
            scratch,
            slots=slots,
            sandbox=settings.sandbox,
            execution="benchmarks.stand_in",
            import_from=[Path(__file__).parents[1]],
        ) as masks,
        open_work(settings, scratch, masks, files, resources) as means,
    ):
        await work_until_stopped(means, QUEUES, slots, sandbox=str(masks.level))


if __name__ == "__main__":
    socket.getaddrinfo = look_up  # type: ignore[assignment]
    chosen = read_settings(os.environ)
    if sys.argv[1] == "api":
        from foremask.service.api.application import run

        run(chosen)
    else:
        uvloop.run(work(chosen, *map(int, sys.argv[2:])))
