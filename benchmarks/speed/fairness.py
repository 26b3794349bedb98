"""Measures how long one token waits for another: ``python -m benchmarks.speed.fairness [--hostile]``.

B submits 20 clips, first alone and then while A keeps the service busy: A has 40 jobs and 4 slow
origins, submits clips at 200 names of a dead zone, and has 6 probes at origins that hang. With
``--hostile``, A has a token's usual limits and also runs benchmarks.endurance.attacks. All is real
but the network (benchmarks.member). The exit code is 1 if B's median wait more than doubles, or if
one of B's clips fails.
"""

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx2
from tests.support import synth
from tests.support.origin import Origin, Request, gives, head, listening

from benchmarks.endurance import attacks
from benchmarks.machine import facts, run
from benchmarks.service import MASK_PATH, PLENTY, Service, caller_of, quantiles, running, workplace
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import create_token

CLIPS, FRAMES = 20, 100
JOBS, SLOW, HANGING, DEAD = 40, 4, 6, 200
DEADLINE_S = 300.0
TO_MASK = "to its mask, median s"


@dataclass
class Caller:
    client: httpx2.AsyncClient
    answers: Counter[str] = field(default_factory=Counter)
    post_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    async def submit(self, video: str) -> None:
        began = time.monotonic()
        try:
            answer = await self.client.post(MASK_PATH, json={"video": video})
        except httpx2.TransportError as error:
            self.answers[type(error).__name__] += 1
            return
        self.post_s.append(time.monotonic() - began)
        reason = answer.json().get("error", {}).get("reason", "")
        self.answers[f"{answer.status_code} {reason}".strip()] += 1
        if answer.status_code == 202:
            self.ids.append(answer.json()["request_id"])


async def twenty(client: httpx2.AsyncClient, database: Database, video: str) -> dict[str, Any]:
    """Submit B's 20 clips at once; return each one's wait."""
    b = Caller(client)
    await asyncio.gather(*(b.submit(video) for _ in range(CLIPS)))
    async with asyncio.timeout(DEADLINE_S):
        while await database.one(  # noqa: ASYNC110
            "select 1 as n from jobs where id = any(%s) and ended_at is null limit 1", (b.ids,)
        ):
            await asyncio.sleep(0.1)
    rows = await database.all(
        """select status || coalesce(' ' || (error ->> 'reason'), '') as ended,
               extract(epoch from ended_at - created_at)::float8 as done_s
           from jobs where id = any(%s)""",
        (b.ids,),
    )
    done_s = [row["done_s"] for row in rows]
    return {
        "answers": dict(b.answers),
        "ends": dict(Counter(row["ended"] for row in rows)),
        "POST, median, p95 and worst s": [
            *quantiles(b.post_s, 0.5, 0.95, digits=3),
            round(max(b.post_s), 3),
        ],
        TO_MASK: round(statistics.median(done_s), 2),
        "to its mask, worst s": round(max(done_s), 2),
    }


def set_traps(origin: Origin, root: Path) -> None:
    """Serve a clip that needs two reads to probe, one that drips, and one whose second read hangs."""
    spec = synth.Spec(pts=synth.even(FRAMES, Fraction(25)))
    clip = synth.write(root / "clip.mp4", spec).read_bytes()

    async def slow(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(Content_Length=1 << 20, Content_Type="video/mp4") + clip)
        while True:  # 20 bytes a second
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.05)

    at = clip.index(b"moov") - 4  # 128 KiB of nothing before the header
    hidden = clip[:at] + (1 << 17).to_bytes(4, "big") + b"free" + bytes((1 << 17) - 8) + clip[at:]

    async def hanging(request: Request, writer: asyncio.StreamWriter) -> None:
        if not request.headers.get("range", "").startswith("bytes=0-"):
            await asyncio.sleep(60)
        await gives(hidden)(request, writer)

    padded = clip + b"\0\1\0\0free" + bytes(65528)
    origin.answers |= {"/clip.mp4": gives(padded), "/slow.mp4": slow, "/hanging.mp4": hanging}


async def again_and_again(a: Caller, url: str) -> None:
    while True:
        await a.submit(url)


async def measure(service: Service, root: Path, *, hostile: bool) -> dict[str, Any]:
    database, port = service.database, service.ports[0]
    secret, _ = await create_token(database, "b", PLENTY)
    async with listening() as origin, caller_of(port) as of_a, caller_of(port, secret) as b:
        set_traps(origin, root)
        a = Caller(of_a)
        video, slow, hanging = (
            origin.url(f"/{name}.mp4", host="origin.example")
            for name in ("clip", "slow", "hanging")
        )
        await twenty(b, database, video)  # children are started, caches warm
        alone = await twenty(b, database, video)
        await asyncio.gather(*(a.submit(each) for each in [video] * JOBS + [slow] * SLOW))
        dead = [f"http://{n}.dead.example/clip.mp4" for n in range(DEAD)]
        asked = [again_and_again(a, hanging) for _ in range(HANGING)]
        asked += [a.submit(each) for each in dead]
        busy = [asyncio.create_task(each) for each in asked]
        attacker = get_context("spawn").Process(target=attacks.play, args=(port, root), daemon=True)
        if hostile:
            attacker.start()
        await asyncio.sleep(10.0 if hostile else 1.0)
        beside = await twenty(b, database, video)
        left = await database.all(
            """select 1 from jobs j join tokens t on t.id = j.token
               where t.name <> 'b' and j.ended_at is null"""
        )
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        if hostile:
            attacker.kill()
    return {
        "B alone": alone,
        "B beside A": beside,
        "ratio of medians": round(beside[TO_MASK] / alone[TO_MASK], 2),
        "A's answers so far": dict(a.answers),
        "A's unfinished jobs when B was done": len(left),
    }


async def main(*, hostile: bool = False) -> int:
    connections, plenty = 200 if hostile else 2000, not hostile
    with workplace() as root:
        async with running(root, workers=2, connections=connections, plenty=plenty) as service:
            found = await measure(service, root, hostile=hostile)
    load = [round(each, 1) for each in os.getloadavg()]
    print(json.dumps(found | {"machine": facts(), "load": load}, indent=2))
    clean = set(found["B beside A"]["answers"]) == {"202"}
    clean = clean and set(found["B beside A"]["ends"]) == {"completed"}
    return 0 if clean and found["ratio of medians"] <= 2 else 1


if __name__ == "__main__":
    run(main, __doc__)
