"""Compiles the network in a separate process, before child processes load it (docs/adr/0171)."""

import asyncio
import os
import sys
import time
from pathlib import Path

import structlog

from foremask.machine import process_setup
from foremask.service.sandbox import confine
from foremask.vision.network.compiled_networks import CompiledNetworks

COMPILE_S = 120.0  # includes waiting: workers compile one after the other, 15 s each

log = structlog.get_logger(__name__)


async def compile_ahead(model: Path) -> None:
    networks = CompiledNetworks.of(model)
    if networks is None or not networks.can_keep() or not await asyncio.to_thread(networks.missing):
        return
    directory = str(networks.directory)
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "foremask.service.worker.compilation"),
        *(str(model), directory, str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMPILE_S):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        _, errors = await process.communicate()
    took_s = round(time.monotonic() - began, 1)
    if process.returncode == 0:
        log.info("network.compiled", took_s=took_s, directory=directory)
    else:
        last = errors.decode(errors="replace").strip()[-500:]
        log.warning("network.not_compiled", status=process.returncode, took_s=took_s, error=last)


def main() -> None:
    confine.die_with(parent_pid=int(sys.argv[3]))
    process_setup.prepare()
    from foremask.vision.network.compile_ahead import compile_ahead as here  # loads OpenVINO

    here(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
