"""PostgreSQL refuses writes while jobs run: ``python -m benchmarks.endurance.read_only``.

The exit code is 1 if the service says that it is ready, answers with a 500, ends a worker, counts
a crash or loses a job.
"""

import asyncio
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.support import synth
from tests.support.origin import gives, listening
from tests.support.postgres import read_only

from benchmarks.machine import run
from benchmarks.service import MASK_PATH, caller_of, pid, running, workplace

JOBS, FRAMES = 6, 200
READ_ONLY_S = 10.0
DEADLINE_S = 300.0


async def measure(root: Path) -> dict[str, Any]:
    spec = synth.Spec(pts=synth.even(FRAMES, Fraction(25)))
    clip = synth.write(root / "a.mp4", spec).read_bytes()
    async with (
        running(root, workers=1) as service,
        listening() as origin,
        caller_of(service.ports[0]) as client,
    ):
        origin.answers["/a.mp4"] = gives(clip)
        body = {"video": origin.url("/a.mp4")}
        for _ in range(JOBS):
            (await client.post(MASK_PATH, json=body)).raise_for_status()
        worker, ready, posts = pid(service.workers[0]), Counter[int](), Counter[str]()
        with read_only(service.postgres):
            until = time.monotonic() + READ_ONLY_S
            while time.monotonic() < until:
                ready[(await client.get("/readyz")).status_code] += 1
                answer = await client.post(MASK_PATH, json=body)
                posts[f"{answer.status_code}, Retry-After {answer.headers.get('retry-after')}"] += 1
        async with asyncio.timeout(DEADLINE_S):
            unfinished = "select 1 as one from jobs where ended_at is null limit 1"
            while await service.database.one(unfinished):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        ends = await service.database.all("select status, count(*) as n from jobs group by 1")
        crashes = await service.database.one("select sum(crashes)::integer as n from steps")
        return {
            "ready": dict(ready),
            "posts": dict(posts),
            "worker died": pid(service.workers[0]) != worker,
            "crashes": crashes and crashes["n"],
            "ends": {row["status"]: row["n"] for row in ends},
        }


def main() -> int:
    with workplace() as root:
        found = asyncio.run(measure(root))
    is_good = (
        set(found["ready"]) == {503}
        and set(found["posts"]) == {"503, Retry-After 1"}
        and not found["worker died"]
        and not found["crashes"]
        and found["ends"] == {"completed": JOBS}
    )
    facts = " | ".join(f"{name} {value}" for name, value in found.items())
    print(f"read_only: {facts} | {'good' if is_good else 'BAD'}")
    return int(not is_good)


if __name__ == "__main__":
    run(main, __doc__)
