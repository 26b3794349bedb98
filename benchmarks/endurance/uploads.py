"""One token opens 130 uploads and sends slowly: ``python -m benchmarks.endurance.uploads``.

The exit code is 1 if the API keeps memory or dies, or if another token waits too long.
"""

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.endurance.beside import beside
from benchmarks.endurance.slow_clients import slow_uploads
from benchmarks.machine import run
from benchmarks.service import TOKEN

COUNT = 130
FOREVER_S = 3600.0


def attack(port: int, _: Path, told: Connection) -> None:
    async def upload() -> None:
        async with slow_uploads(port, [TOKEN], COUNT) as crowd:
            told.send(f"{crowd} of {COUNT} uploads")
            await asyncio.sleep(FOREVER_S)

    asyncio.run(upload())


def main() -> int:
    return beside("uploads", attack)


if __name__ == "__main__":
    run(main, __doc__)
