"""Measures the queue with many workers: ``python -m benchmarks.speed.queue [--workers 1 10 50 200]``.

All is real but the media child: it sleeps ``--work`` seconds for a second of clip, divided by
``--faster``, so that a clip of 5 to 60 s takes seconds. Waits in the queue are not divided. Half
of the jobs arrive one by one, half in bursts of as many jobs as there are workers.
"""

import asyncio
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.service.worker.stand_in import TextMedia, clip
from tests.support.postgres import started

from benchmarks.machine import facts, run
from benchmarks.service import PLENTY, quantiles, workplace
from foremask.facts import SEGMENT_GRID, SegmentPlan
from foremask.fetch.client import Outbound
from foremask.options import JobSpec
from foremask.service.jobs.admission import NewJob, admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import REPORT_EVERY_S, CountReporter, keep_reporting
from foremask.service.jobs.schema import migrate
from foremask.service.jobs.tokens import create_token
from foremask.service.run import bundled_postgres
from foremask.service.sandbox.messages import Plan
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import open_objects
from foremask.service.worker.job_stages import WorkerContext
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.process import DATABASE_CONNECTIONS, DATABASE_PATIENCE_S, FILES_AT_ONCE
from foremask.service.worker.queues import serve_queues

CLIP_S = (5.0, 60.0)
OFFERED = 0.6  # of the hands' time is asked for
PER_PROCESS = 50  # simulated workers in one process
CONNECTIONS = 2000
IDLE_S = 5.0
TIMES = """select id, status,
       extract(epoch from started_at - created_at)::float8 as wait_s,
       extract(epoch from ended_at - created_at)::float8 as all_s,
       (select count(*) from steps where job = jobs.id and stage = 'segment') as segments
   from jobs where id = any(%s)"""


class Sleeping(TextMedia):
    """A media runner; a clip has a line for each second, with the time to sleep."""

    async def _plan(self, request: Plan, _: OnProgress | None) -> tuple[SegmentPlan, ...]:
        seconds, grid = request.source.read_text().count("frame "), SEGMENT_GRID
        frames = 25 * seconds
        most = min(request.most, frames // grid.least_frames, 1 + frames // grid.frames_per_cut)
        ends = [round(seconds * number / max(1, most)) for number in range(max(1, most) + 1)]
        return tuple(SegmentPlan(*pair) for pair in pairwise(ends))


async def _play(url: str, root: Path, first: int, count: int) -> None:
    objects = await open_objects((root / "objects").absolute().as_uri(), "http://127.0.0.1:1")
    media, team = Sleeping(), list[WorkerContext]()
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
            )
            team.append(work)
        async with asyncio.TaskGroup() as tasks:  # after all contexts: it waits for ever
            for work in team:
                tasks.create_task(serve_queues(work, {"files": FILES_AT_ONCE, "masks": 1}, 0.0))
                tasks.create_task(run_maintenance(work))
                reporter = CountReporter("worker", 1, "simulated")
                tasks.create_task(keep_reporting(work.database, reporter, work.fleet))


def play_workers(*args: Any) -> None:  # noqa: ANN401
    asyncio.run(_play(*args))


@dataclass(frozen=True, slots=True)
class Load:
    """Counts of PostgreSQL at one moment; each of our statements is a transaction."""

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
        return (self.transactions - before.transactions) / (self.at_s - before.at_s)


def arrivals(jobs: int, workers: int, mean_work_s: float, rng: random.Random) -> list[float]:
    span_s = jobs * mean_work_s / (OFFERED * workers)
    single = sorted(rng.uniform(0, span_s) for _ in range(jobs - jobs // 2))
    bursts = [rng.uniform(0, span_s) for _ in range(math.ceil(jobs // 2 / workers))]
    together = [bursts[number // workers] for number in range(jobs // 2)]
    return sorted([*single, *together])


async def measure(
    workers: int, jobs: int, faster: float, work_per_clip_s: float, root: Path, url: str
) -> dict[str, Any]:
    """Start the workers, measure them idle, send the jobs, and wait for the last one."""
    slept = work_per_clip_s / faster
    players = [
        get_context("spawn").Process(
            target=play_workers, args=(url, root, first, min(PER_PROCESS, workers - first))
        )
        for first in range(0, workers, PER_PROCESS)
    ]
    for player in players:
        player.start()
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
            player.join()
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
    there = "select 1 from processes where kind = 'worker' and seen_at > now() - interval '30 s'"
    while len(await database.all(there)) < workers:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def _send(
    database: Database, root: Path, token: UUID, workers: int, jobs: int, slept: float
) -> dict[str, float]:
    """Submit the jobs at their moments; return the seconds of work of each."""
    rng = random.Random(workers)  # noqa: S311
    objects = await open_objects((root / "objects").absolute().as_uri(), "http://127.0.0.1:1")
    lengths_s = [round(math.exp(rng.uniform(*map(math.log, CLIP_S)))) for _ in range(jobs)]
    moments = arrivals(jobs, workers, slept * statistics.mean(lengths_s), rng)
    began, sent = time.monotonic(), {}
    source = root / f"clip-{workers}"
    for number, (moment_s, length_s) in enumerate(zip(moments, lengths_s, strict=True)):
        await asyncio.sleep(max(0.0, began + moment_s - time.monotonic()))
        key = f"uploads/{workers}-{number}/clip"
        source.write_bytes(clip(length_s, pause_s=slept))
        await objects.put(key, source)
        new = NewJob(request_id=str(uuid4()), token_id=token, spec=JobSpec(), source_key=key)
        sent[await admit(database, new)] = slept * length_s
    return sent


async def main(
    *,
    workers: Sequence[int] = (1, 10, 50, 200),
    jobs: Sequence[int] = (12, 100, 300, 500),
    faster: Sequence[float] = (40, 40, 20, 8),
    work: float = 4.5,
) -> None:
    """Use a new database for each number of workers; print JSON.

    Masking a second of a clip takes ``work`` seconds: measured at 1080p and 30 fps on two cores.
    """
    bundled_postgres.OPTIONS["max_connections"] = str(CONNECTIONS)
    results = []
    with workplace() as root:
        for load in zip(workers, jobs, faster, strict=False):
            folder = root / str(load[0])
            folder.mkdir()
            with started(folder) as server:
                await migrate(server.url)
                results.append(await measure(*load, work, folder, server.url))
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"runs": results, "machine": facts()}, indent=2))


if __name__ == "__main__":
    run(main, __doc__)
