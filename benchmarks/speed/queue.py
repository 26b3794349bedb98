"""What the queue does with many workers: ``python -m benchmarks.speed.queue [--workers 1 10 50 200]``.

PostgreSQL, the engine, claims, leases, segments, joins and the object store are real. The media
child is replaced by a sleep of the length that was measured (``--work`` seconds for a second of
clip), divided by ``--faster``: a clip of 5 to 60 s then takes seconds. What the queue adds is not
scaled. Half of the jobs come one by one, half in bursts of as many as there are workers.
"""

import asyncio
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.service.worker.stand_in import CLIP, REPORT
from tests.support.postgres import started

from benchmarks.machine import facts, options
from benchmarks.service import PLENTY, quantiles, workplace
from foremask.facts import SEGMENT_GRID, Clip, Report, SegmentPlan, Written
from foremask.fetch.client import Outbound
from foremask.options import Limits, Preset
from foremask.service.jobs.admission import NewJob, admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import REPORT_EVERY_S, CountReporter, keep_reporting
from foremask.service.jobs.schema import migrate
from foremask.service.jobs.tokens import create_token
from foremask.service.run import bundled_postgres
from foremask.service.sandbox.messages import Cut, Join, Mask, Plan, Probe, Progress, Request
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import open_objects
from foremask.service.worker.job_stages import WorkerContext
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.process import DATABASE_CONNECTIONS, DATABASE_PATIENCE_S, FILES_AT_ONCE
from foremask.service.worker.queues import serve_queues

CLIP_S = (5.0, 60.0)
WORK_PER_CLIP_S = 4.5  # a second of 1080p at 30 fps in `balanced`, on two cores
OFFERED = 0.6  # of the hands' time is asked for
PER_PROCESS = 50  # simulated workers in one process
TICKS = 1000  # a clip of the stand-in has so many pts a second
CONNECTIONS = 2000
IDLE_S = 5.0
BEAT_S = 0.5
TIMES = """select id, status,
       extract(epoch from started_at - created_at)::float8 as wait_s,
       extract(epoch from ended_at - created_at)::float8 as all_s,
       (select count(*) from steps where job = jobs.id and stage = 'segment') as segments
   from jobs where id = any(%s)"""


class Sleeping:
    """A media runner whose clips are a number of seconds, and whose masks are slept."""

    def __init__(self, slept_per_clip_s: float) -> None:
        self._slept_per_clip_s = slept_per_clip_s

    async def run[R](
        self, request: Request[R], *, on_progress: OnProgress | None = None, **_: object
    ) -> R:
        """As the real one."""
        result: Any
        match request:
            case Probe():
                result = self._clip(float((request.source or Path()).read_text()))
            case Plan():
                result = self._plan(float(request.source.read_text()), request.most)
            case Cut():
                ticks = (request.span.end_pts or 0) - request.span.first_pts
                request.target.write_text(str(ticks / TICKS))
                result = None
            case Mask():
                result = await self._mask(request, on_progress)
            case Join():
                request.target.write_text("joined")
                result = Written(1, 1.0, 0.0, (), (), "", 6)
            case _:
                raise TypeError(type(request).__name__)
        known: R = result
        return known

    def _clip(self, duration_s: float) -> Clip:
        return replace(CLIP, frames=round(25 * duration_s), duration_s=duration_s, size_bytes=9)

    def _plan(self, duration_s: float, most: int) -> tuple[SegmentPlan, ...]:
        frames, grid = round(25 * duration_s), SEGMENT_GRID
        pieces = min(most, frames // grid.least_frames, 1 + frames // grid.frames_per_cut)
        pieces = max(1, pieces)
        ends = [round(TICKS * duration_s * number / pieces) for number in range(pieces + 1)]
        return tuple(SegmentPlan(*pair) for pair in pairwise(ends))

    async def _mask(self, request: Mask, on_progress: OnProgress | None) -> Report:
        left_s = float(request.source.read_text()) * self._slept_per_clip_s
        frames = 0
        while left_s > 0:
            await asyncio.sleep(min(BEAT_S, left_s))
            left_s -= BEAT_S
            frames += 1
            if on_progress is not None:
                await on_progress(Progress(frames))
        request.target.write_text("mask")
        return replace(REPORT, frames_in=frames, frames_out=frames)


async def play_workers(url: str, root: Path, first: int, count: int, slept: float) -> None:
    """So many workers of one slot, each with connections of its own, until killed."""
    objects = await open_objects((root / "objects").absolute().as_uri(), "http://127.0.0.1:1")
    media, team = Sleeping(slept), list[WorkerContext]()
    async with AsyncExitStack() as stack:
        outbound = await stack.enter_async_context(Outbound())
        for number in range(first, first + count):
            database = await stack.enter_async_context(
                Database(url, connections=DATABASE_CONNECTIONS, patience_s=DATABASE_PATIENCE_S)
            )
            work = WorkerContext(
                database=database,
                objects=objects,
                outbound=outbound,
                masks=media,
                files=media,
                scratch=root,
                worker=f"worker-{number}",
                result_ttl_s=3600,
                limits=Limits(),
            )
            team.append(work)
        async with asyncio.TaskGroup() as tasks:  # after all contexts: it waits for ever
            for work in team:
                tasks.create_task(serve_queues(work, {"files": FILES_AT_ONCE, "masks": 1}, 0.0))
                tasks.create_task(run_maintenance(work))
                reporter = CountReporter("worker", 1, "simulated")
                tasks.create_task(keep_reporting(work.database, reporter, work.fleet))


@dataclass(frozen=True, slots=True)
class Load:
    """How PostgreSQL is used at a moment: each of our statements is a transaction."""

    transactions: int
    connections: int
    at_s: float

    @classmethod
    async def now(cls, database: Database) -> "Load":
        row = await database.one(
            """select (select xact_commit + xact_rollback from pg_stat_database
                   where datname = current_database()) as transactions,
                   (select count(*) from pg_stat_activity where datname = current_database())
                   as connections"""
        )
        assert row is not None  # noqa: S101
        return cls(row["transactions"], row["connections"], time.monotonic())

    def rate_since(self, before: "Load") -> float:
        """Transactions a second."""
        return (self.transactions - before.transactions) / (self.at_s - before.at_s)


def arrivals(jobs: int, workers: int, mean_work_s: float, rng: random.Random) -> list[float]:
    """When each job comes: half as a Poisson process, half in bursts of as many as workers."""
    span_s = jobs * mean_work_s / (OFFERED * workers)
    single = sorted(rng.uniform(0, span_s) for _ in range(jobs - jobs // 2))
    bursts = [rng.uniform(0, span_s) for _ in range(math.ceil(jobs // 2 / workers))]
    together = [bursts[number // workers] for number in range(jobs // 2)]
    return sorted([*single, *together])


async def measure(
    workers: int, jobs: int, faster: float, work_per_clip_s: float, root: Path, url: str
) -> dict[str, Any]:
    """One number of workers: start them, watch them idle, send the jobs, wait for the last."""
    slept = work_per_clip_s / faster
    command = [sys.executable, "-m", "benchmarks.speed.queue", "--play", url, str(root), str(slept)]
    players = [
        subprocess.Popen(  # noqa: S603, ASYNC220
            [*command, str(first), str(min(PER_PROCESS, workers - first))], env=os.environ
        )
        for first in range(0, workers, PER_PROCESS)
    ]
    try:
        async with Database(url, connections=8, patience_s=DATABASE_PATIENCE_S) as database:
            _, token = await create_token(database, f"queue {workers}", PLENTY)
            await _all_announced(database, workers)
            await asyncio.sleep(2 * REPORT_EVERY_S)  # until all know how many they are
            idle = await Load.now(database)
            await asyncio.sleep(IDLE_S)
            begun = await Load.now(database)
            sent = await _send(database, root, token.id, workers, jobs, slept)
            own = 0
            while await database.one("select 1 as n from jobs where ended_at is null limit 1"):
                await asyncio.sleep(0.2)
                own += 1
            ended = await Load.now(database)
            rows = await database.all(TIMES, (list(sent),))
    finally:
        for player in players:
            player.kill()
            player.wait()
    idle_rate = begun.rate_since(idle)
    took_s = ended.at_s - begun.at_s
    of_jobs = ended.transactions - begun.transactions - own - idle_rate * took_s
    waits, added = [r["wait_s"] for r in rows], [r["all_s"] - sent[r["id"]] for r in rows]
    return {
        "workers": workers,
        "jobs": jobs,
        "seconds are divided by": faster,
        "failed": sum(row["status"] != "completed" for row in rows),
        "segments a job": round(statistics.mean(row["segments"] for row in rows), 2),
        "to the first step, s, p50 and p99": quantiles(waits, 0.5, 0.99),
        "to the mask less its own work, s, p50 and p99": quantiles(added, 0.5, 0.99),
        "connections": ended.connections,
        "idle statements a second a worker": round(idle_rate / workers, 2),
        "statements a job": round(of_jobs / jobs, 1),
    }


async def _all_announced(database: Database, workers: int) -> None:
    """Wait until every worker has said that it is there."""
    there = "select 1 from processes where kind = 'worker' and seen_at > now() - interval '30 s'"
    while len(await database.all(there)) < workers:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def _send(
    database: Database, root: Path, token: UUID, workers: int, jobs: int, slept: float
) -> dict[str, float]:
    """Admit the jobs at their moments; the seconds of work of each."""
    rng = random.Random(workers)  # noqa: S311
    objects = await open_objects((root / "objects").absolute().as_uri(), "http://127.0.0.1:1")
    lengths_s = [math.exp(rng.uniform(*map(math.log, CLIP_S))) for _ in range(jobs)]
    moments = arrivals(jobs, workers, slept * statistics.mean(lengths_s), rng)
    began, sent = time.monotonic(), {}
    source = root / f"clip-{workers}"
    for number, (moment_s, length_s) in enumerate(zip(moments, lengths_s, strict=True)):
        await asyncio.sleep(max(0.0, began + moment_s - time.monotonic()))
        key = f"uploads/{workers}-{number}/clip"
        source.write_text(str(length_s))
        await objects.put(key, source)
        new = NewJob(
            request_id=str(uuid4()), token_id=token, preset=Preset.MP4_H264, source_key=key
        )
        sent[await admit(database, new)] = slept * length_s
    return sent


async def run(asked: Namespace, root: Path) -> None:
    """Each number of workers with a database of its own; prints JSON."""
    results = []
    for place, workers in enumerate(asked.workers):
        folder = root / str(workers)
        folder.mkdir()
        with started(folder) as server:
            await migrate(server.url)
            asked_for = asked.jobs[place], asked.faster[place], asked.work
            results.append(await measure(workers, *asked_for, folder, server.url))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"runs": results, "machine": facts()}, indent=2))


def main() -> None:
    """Run it, or play workers for a run."""
    if sys.argv[1:2] == ["--play"]:
        url, folder, slept, first, count = sys.argv[2:]
        asyncio.run(play_workers(url, Path(folder), int(first), int(count), float(slept)))
        return
    workers, jobs, faster = [1, 10, 50, 200], [12, 100, 300, 500], [40.0, 40.0, 20.0, 8.0]
    asked = options(__doc__, workers=workers, jobs=jobs, faster=faster, work=WORK_PER_CLIP_S)
    bundled_postgres.OPTIONS["max_connections"] = str(CONNECTIONS)
    with workplace() as root:
        asyncio.run(run(asked, root))


if __name__ == "__main__":
    main()
