"""Four jobs at an origin that sends tiny chunks: ``python -m benchmarks.endurance.chunks``.

The exit code is 1 if the API keeps memory or dies, or if another token waits too long.
"""

import asyncio
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.origin import Request, head, listening

from benchmarks.endurance.beside import beside
from benchmarks.machine import run
from benchmarks.service import MASK_PATH, caller_of

AT_ONCE = 4
CHUNK = b"8\r\n01234567\r\n"
CHUNKS_A_WRITE = 20_000
PAUSE_S = 0.2  # the token's rate allows ten requests a second


async def tiny_chunks(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head(Transfer_Encoding="chunked", Content_Type="video/mp4"))
    while True:
        writer.write(CHUNK * CHUNKS_A_WRITE)
        await writer.drain()


def attack(port: int, _: Path, told: Connection) -> None:
    async def submit() -> None:
        async with listening() as origin, caller_of(port) as client:
            origin.answers["/a.mp4"] = tiny_chunks
            answers: Counter[str] = Counter()

            async def again_and_again() -> None:
                while True:
                    answer = await client.post(MASK_PATH, json={"video": origin.url("/a.mp4")})
                    reason = answer.json().get("error", {}).get("reason", "")
                    answers[f"{answer.status_code} {reason}".strip()] += 1
                    if answers.total() == AT_ONCE:
                        told.send(f"{AT_ONCE} at once, answered {dict(answers)}")
                    await asyncio.sleep(PAUSE_S)

            await asyncio.gather(*(again_and_again() for _ in range(AT_ONCE)))

    asyncio.run(submit())


def main() -> int:
    return beside("chunks", attack)


if __name__ == "__main__":
    run(main, __doc__)
