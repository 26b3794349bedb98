"""The memory of a service that is used: ``python -m benchmarks.endurance.memory [--requests N]``.

2000 requests of all kinds come one after another, right and wrong ones, and 50 jobs among them, on
loopback; only the network is a stand-in. After every tenth of the requests a row says the resident
memory of each process. Ends with 1 where an answer is a 500, or where the API or the worker has
grown by more than a fifth over the second half.
"""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import synth
from tests.support.http_server import serving_files

from benchmarks.endurance.contract import picture
from benchmarks.machine import header, options, row
from benchmarks.service import (
    MASK_PATH,
    Service,
    caller_of,
    pid,
    processes,
    running,
    workplace,
)

JOBS, ROWS = 50, 10
GROWTH = 1.2
PAGE = os.sysconf("SC_PAGE_SIZE")


def memory_mb(service: Service) -> list[int]:
    """Of the API, the worker, the API's children and the worker's children."""
    found = {number: (int(fields[1]), int(fields[21]) * PAGE) for number, fields in processes()}
    ours = [pid(service.apis[0]) or 0, pid(service.workers[0]) or 0]
    own = [found.get(each, (0, 0))[1] for each in ours]
    of_children = [sum(size for parent, size in found.values() if parent == each) for each in ours]
    return [round(each / 1e6) for each in (*own, *of_children)]


def call(dice: random.Random, origin: str, jobs: Sequence[str], png: str) -> tuple[Any, ...]:
    """Method, path and body of a request that starts no job."""
    job = dice.choice([*jobs, "unknown"])
    clip = {"video": f"{origin}/clip.mp4"}
    point = {"type": "point", "x": dice.randrange(90), "y": dice.randrange(60)}
    preview = {"picture": png, "hints": [point], "quality": "fast"}
    return dice.choices(
        [
            ("GET", f"/v2/status/{job}", None),
            ("GET", "/v2/jobs", None),
            ("GET", f"/v2/status/{job}/strip", None),
            ("GET", "/metrics", None),
            ("POST", "/v2/video/probe", clip),
            ("POST", "/v2/playground/clip", clip),
            ("POST", "/v2/video/upload", {"media_type": "video/mp4"}),
            ("POST", MASK_PATH, {"video": f"{origin}/none.mp4"}),
            ("POST", MASK_PATH, clip | {"hints": [point] * 65}),
            ("POST", f"/v2/status/{job}/convert", {"kind": "nonsense"}),
            ("POST", "/v2/video/segment/preview", preview),
        ],
        [20, 10, 5, 2, 10, 5, 5, 5, 5, 5, 1],
    )[0]


async def run(requests: int, root: Path) -> int:
    folder = root / "clips"
    folder.mkdir()
    synth.write(folder / "clip.mp4")
    dice, jobs, told, table = random.Random(3), list[str](), Counter[int](), list[list[int]]()  # noqa: S311
    png = picture(dice)
    with serving_files(folder) as origin:
        async with (
            running(root, workers=1) as service,
            caller_of(service.ports[0]) as client,
        ):
            header("requests", "API, MB", "worker", "API's children", "worker's children")
            for number in range(requests + 1):
                if number % (requests // ROWS) == 0:
                    table.append(memory_mb(service))
                    row(number, *table[-1])
                if number % (requests // JOBS) == 0:
                    made = await client.post(MASK_PATH, json={"video": f"{origin}/clip.mp4"})
                    jobs += [made.json()["request_id"]] if made.status_code == 202 else []
                method, path, body = call(dice, origin, jobs, png)
                answer = await client.request(method, path, json=body)
                told[answer.status_code] += 1
            running_yet = "select 1 from jobs where ended_at is null limit 1"
            while await service.database.one(running_yet):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            ended = await service.database.all("select status from jobs")
            ends = Counter(str(each["status"]) for each in ended)
    print(f"answers {dict(sorted(told.items()))}, jobs {dict(ends)}")
    half = table[len(table) // 2]
    grown = any(last > GROWTH * middle for last, middle in zip(table[-1][:2], half, strict=False))
    return int(grown or 500 in told or set(ends) != {"completed"})


def main() -> int:
    asked = options(__doc__, requests=2000)
    with workplace() as root:
        return asyncio.run(run(asked.requests, root))


if __name__ == "__main__":
    sys.exit(main())
