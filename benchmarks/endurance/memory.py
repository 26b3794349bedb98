"""The memory of a service that is used: ``python -m benchmarks.endurance.memory [--requests N]``.

2000 requests of all kinds come one after another, right and wrong ones, and 50 jobs among them, on
loopback; only the network is a stand-in. After every tenth of the requests a row says the resident
memory of each process. Ends with 1 where an answer is a 500, or where the API or the worker has
grown by more than a fifth over the second half.
"""

import argparse
import asyncio
import base64
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx2
import numpy as np
from tests.support import synth

from benchmarks.service import (
    MASK_PATH,
    TOKEN,
    Service,
    give_plenty,
    pid,
    processes,
    running,
    serving,
    workplace,
)
from foremask.service.jobs.database import open_database

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


def call(dice: random.Random, origin: str, jobs: Sequence[str], picture: str) -> tuple[Any, ...]:
    """Method, path and body of a request that starts no job."""
    job = dice.choice([*jobs, "unknown"])
    clip = {"video": f"{origin}/clip.mp4"}
    point = {"type": "point", "x": dice.randrange(90), "y": dice.randrange(60)}
    preview = {"picture": picture, "hints": [point], "quality": "fast"}
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


async def ended(client: httpx2.AsyncClient, job: str) -> str:
    while True:
        status = str((await client.get(f"/v2/status/{job}")).json()["status"])
        if status != "IN_PROGRESS":
            return status
        await asyncio.sleep(0.5)


async def run(requests: int, root: Path) -> int:
    folder = root / "clips"
    folder.mkdir()
    synth.write(folder / "clip.mp4")
    pixels = np.full((64, 96, 3), 90, np.uint8)
    picture = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    dice, jobs, told, table = random.Random(3), list[str](), Counter[int](), list[list[int]]()  # noqa: S311
    with serving(folder) as origin:
        async with (
            running(root, workers=1) as service,
            open_database(service.postgres.url, patience_s=60.0) as database,
            httpx2.AsyncClient(
                base_url=service.settings.base_url,
                headers={"api_token": TOKEN},
                timeout=120,
                trust_env=False,
            ) as client,
        ):
            await give_plenty(database)
            print("| requests | API, MB | worker | API's children | worker's children |")
            print("|---|---|---|---|---|")
            for number in range(requests + 1):
                if number % (requests // ROWS) == 0:
                    table.append(memory_mb(service))
                    print(f"| {number} | {' | '.join(map(str, table[-1]))} |", flush=True)
                if number % (requests // JOBS) == 0:
                    made = await client.post(MASK_PATH, json={"video": f"{origin}/clip.mp4"})
                    jobs += [made.json()["request_id"]] if made.status_code == 202 else []
                method, path, body = call(dice, origin, jobs, picture)
                answer = await client.request(method, path, json=body)
                told[answer.status_code] += 1
            ends = Counter[str]()
            for job in jobs:
                ends[await ended(client, job)] += 1
    print(f"answers {dict(sorted(told.items()))}, jobs {dict(ends)}")
    half = table[len(table) // 2]
    grown = any(last > GROWTH * middle for last, middle in zip(table[-1][:2], half, strict=False))
    return int(grown or 500 in told or set(ends) != {"COMPLETED"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    asked = parser.parse_args()
    with workplace() as root:
        return asyncio.run(run(asked.requests, root))


if __name__ == "__main__":
    sys.exit(main())
