"""190 slow downloads of one link, without a token: ``python -m benchmarks.endurance.readers``.

The exit code is 1 if the API keeps memory or dies, or if another token waits too long.
"""

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2

from benchmarks.endurance.beside import beside
from benchmarks.endurance.slow_clients import download_of, get_form, slow_readers
from benchmarks.machine import run
from benchmarks.service import caller_of

COUNT = 190
FILE_BYTES = 64 << 20
FOREVER_S = 3600.0


async def stored_file(client: httpx2.AsyncClient) -> str:
    """Upload a file of 64 MiB, and return its link."""
    form = await get_form(client)
    answer = await client.post(
        form["upload_url"],
        data=form["upload_fields"],
        files={"file": ("a.mp4", bytes(FILE_BYTES), "video/mp4")},
    )
    answer.raise_for_status()
    return str(form["file_url"])


def attack(port: int, _: Path, told: Connection) -> None:
    async def read() -> None:
        async with caller_of(port) as client:
            link = await stored_file(client)
        async with slow_readers(port, COUNT * [download_of(link)]) as crowd:
            told.send(f"{crowd} of {COUNT} downloads")
            await asyncio.sleep(FOREVER_S)

    asyncio.run(read())


def main() -> int:
    return beside("readers", attack)


if __name__ == "__main__":
    run(main, __doc__)
