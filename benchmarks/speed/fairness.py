"""Does one token wait for another? ``python -m benchmarks.speed.fairness``: loopback, the real server, two tokens.

B submits 20 clips, first alone and then while A has 40 jobs and 4 slow origins under way and 26
connections that ask for clips at 200 names of a dead zone, and at origins that hang while a clip is
looked at. API, two workers, their confined children and PostgreSQL are real; the network is
replaced by one that takes a fixed time a frame (benchmarks.endurance.chaos_operations).
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
from tests.support import synth
from tests.support.origin import Request, gives, head, listening

from benchmarks.endurance.chaos import free_port
from foremask.service.jobs.database import Database, open_database
from foremask.service.jobs.tokens import TokenLimits, create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.run.serve import Member, environment, prepare
from foremask.service.settings import Settings
from foremask.service.storage.local_directory import local_url

PATH = "/v2/video/segment/foreground_mask"
CLIPS = 20
JOBS, SLOW, HANGING, DEAD = 40, 4, 6, 200
WORKERS = 2
FRAMES = 100
DEADLINE_S = 300.0
PLENTY = TokenLimits(rate_per_minute=600_000, burst=10_000, concurrent=10_000)


@dataclass
class Run:
    """What B has seen."""

    answers: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    post_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


async def submit(client: httpx2.AsyncClient, token: str, video: str, run: Run) -> None:
    """One POST; its answer is counted."""
    began = time.monotonic()
    try:
        answer = await client.post(PATH, json={"video": video}, headers={"api_token": token})
    except httpx2.TransportError as error:
        run.answers[type(error).__name__] += 1
        return
    run.post_s.append(time.monotonic() - began)
    reported = answer.json()
    run.answers[f"{answer.status_code} {reported.get('error', {}).get('reason', '')}".strip()] += 1
    if answer.status_code == 202:
        run.ids.append(reported["request_id"])


async def twenty(
    client: httpx2.AsyncClient, database: Database, token: str, video: str
) -> dict[str, Any]:
    """B's clips, all at once; how long each waited."""
    run = Run()
    await asyncio.gather(*(submit(client, token, video, run) for _ in range(CLIPS)))
    async with asyncio.timeout(DEADLINE_S):
        while await database.one(  # noqa: ASYNC110
            "select 1 as n from jobs where id = any(%s) and ended_at is null limit 1", (run.ids,)
        ):
            await asyncio.sleep(0.1)
    rows = await database.all(
        """select status, error ->> 'reason' as reason,
               extract(epoch from ended_at - created_at)::float8 as done_s,
               extract(epoch from started_at - created_at)::float8 as started_s
           from jobs where id = any(%s)""",
        (run.ids,),
    )
    run.ends.update(f"{row['status']} {row['reason'] or ''}".strip() for row in rows)
    return {
        "answers": dict(run.answers),
        "ends": dict(run.ends),
        "POST median s": round(statistics.median(run.post_s), 3),
        "POST worst s": round(max(run.post_s), 3),
        "to its first step, median s": round(statistics.median(r["started_s"] for r in rows), 2),
        "to its mask, median s": round(statistics.median(r["done_s"] for r in rows), 2),
        "to its mask, worst s": round(max(r["done_s"] for r in rows), 2),
    }


async def measure(
    root: Path, settings: Settings, database: Database, endless: bool
) -> dict[str, Any]:
    """B alone, then B beside A."""
    clip = synth.write(
        root / "clip.mp4", synth.Spec(pts=synth.even(FRAMES, Fraction(25)))
    ).read_bytes()
    padded = clip + b"\0\1\0\0free" + bytes(65528)  # 64 KiB more, so that a probe asks twice
    a, _ = await create_token(database, "a", PLENTY)
    b, _ = await create_token(database, "b", PLENTY)
    async with (
        listening() as origin,
        httpx2.AsyncClient(base_url=settings.base_url, timeout=60, trust_env=False) as client,
        httpx2.AsyncClient(
            base_url=settings.base_url, timeout=60, trust_env=False, limits=httpx2.Limits()
        ) as of_others,  # by default one client has 100 connections, and B would wait for A in it
    ):

        async def slow(_: Request, writer: Any) -> None:  # noqa: ANN401
            writer.write(head(Content_Length=1 << 20, Content_Type="video/mp4") + clip)
            while True:  # 20 bytes a second
                writer.write(b"\0")
                await writer.drain()
                await asyncio.sleep(0.05)

        async def hanging(request: Request, writer: Any) -> None:  # noqa: ANN401
            if not request.headers.get("range", "").startswith("bytes=0-"):
                await asyncio.sleep(60)
            await gives(hidden)(request, writer)

        at = clip.index(b"moov") - 4  # 128 KiB of nothing before the header
        hidden = (
            clip[:at] + (1 << 17).to_bytes(4, "big") + b"free" + bytes((1 << 17) - 8) + clip[at:]
        )
        origin.answers |= {"/clip.mp4": gives(padded), "/slow.mp4": slow, "/hanging.mp4": hanging}
        video = origin.url("/clip.mp4", host="origin.example")
        await twenty(client, database, b, video)  # children are started, caches warm
        alone = await twenty(client, database, b, video)
        of_a = Run()
        under_way = [video] * JOBS + [origin.url("/slow.mp4", host="origin.example")] * SLOW
        await asyncio.gather(*(submit(of_others, a, url, of_a) for url in under_way))

        async def again_and_again(urls: list[str]) -> None:
            while True:
                for url in urls:
                    await submit(of_others, a, url, of_a)

        async def under_way_once(url: str) -> None:
            await submit(of_others, a, url, of_a)

        dead = [f"http://{n}.dead.example/clip.mp4" for n in range(DEAD)]
        hangs = [origin.url("/hanging.mp4", host="origin.example")]
        busy = [
            *(asyncio.create_task(under_way_once(url)) for url in dead if not endless),
            *(asyncio.create_task(again_and_again(dead[n::20])) for n in range(20) if endless),
            *(asyncio.create_task(again_and_again(hangs)) for _ in range(HANGING)),
        ]
        await asyncio.sleep(1.0)
        beside = await twenty(client, database, b, video)
        of_a_left = await database.one(
            """select count(*) as n from jobs j join tokens t on t.id = j.token
               where t.name = 'a' and j.ended_at is null"""
        )
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    key = "to its mask, median s"
    return {
        "B alone": alone,
        "B beside A": beside,
        "ratio of medians": round(beside[key] / alone[key], 2),
        "A's answers so far": dict(of_a.answers),
        "A's unfinished jobs when B was done": of_a_left["n"] if of_a_left else None,
    }


async def run(root: Path, endless: bool) -> dict[str, Any]:
    """Start the service, measure, stop it."""
    postgres = EmbeddedPostgres(root)
    postgres.start()
    settings = Settings(
        data_dir=root,
        database_url=postgres.url,
        objects_url=local_url(root / "objects"),
        port=free_port(),
        allow_private=(ip_network("127.0.0.0/8"),),
        bootstrap_token="a-token-for-the-fairness-run",  # noqa: S106  # lives for one run
    )
    members: list[asyncio.Task[None]] = []
    try:
        await prepare(settings, print)
        reported = environment(settings, {**os.environ, "PYTHONPATH": str(Path.cwd())})
        command = (sys.executable, "-m", "benchmarks.speed.fairness_member")
        members = [
            asyncio.create_task(Member(name, (*command, kind), reported).run())
            for name, kind in (
                ("api", "api"),
                *((f"worker-{n}", "worker") for n in range(WORKERS)),
            )
        ]
        async with open_database(postgres.url, patience_s=30.0) as database:
            await _ready(settings.base_url)
            return await measure(root, settings, database, endless)
    finally:
        for task in members:
            task.cancel()
        await asyncio.gather(*members, return_exceptions=True)
        postgres.stop()


async def _ready(url: str) -> None:
    async with asyncio.timeout(60), httpx2.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(f"{url}/readyz")).status_code == httpx2.codes.OK:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--endless", action="store_true", help="A asks for the dead names without end"
    )
    endless = parser.parse_args().endless
    with tempfile.TemporaryDirectory(prefix="foremask-fair-", ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o755)
        found = asyncio.run(run(Path(root), endless))
    commit = subprocess.run(
        ("git", "rev-parse", "--short", "HEAD"),  # noqa: S607  # whichever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    found["machine"] = {
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "kernel": platform.release(),
        "procrastinate": importlib.metadata.version("procrastinate"),
        "commit": commit,
    }
    print(json.dumps(found, indent=2))
    clean = set(found["B beside A"]["answers"]) == {"202"}
    clean = clean and set(found["B beside A"]["ends"]) == {"completed"}
    return 0 if clean and found["ratio of medians"] <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
