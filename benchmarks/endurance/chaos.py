"""Kill and pause everything while jobs run, and count what was lost: ``make chaos``.

The API, three workers, their media children and PostgreSQL are real, and so are the clips; only the
network is replaced by one that costs nothing. The seed decides what is hit and when.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import av
from tests.support import synth

from foremask.facts import SEGMENT_GRID
from foremask.service.jobs import process_totals, records
from foremask.service.jobs.database import Database, open_database
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.run.serve import Member, environment, prepare
from foremask.service.settings import Settings
from foremask.service.storage.local_directory import local_url

TOKEN = "a-token-for-the-chaos-run"  # noqa: S105  # lives for one run
WORKERS, SLOTS = 3, 2
RAGE_S = 900.0  # strikes go on until all jobs have ended, at most so long
STUCK_S = 120.0  # without strikes: while jobs end, they are late and not lost
FPS = 25
SHORT, LONG = 25, 2 * SEGMENT_GRID.least_frames + FPS  # frames: the long one can be cut in two
ARRIVAL_S = 2.0  # mean between two jobs: slots must be free now and then, or no clip is cut
EXPECTED = {"short": None, "long": None, "gone": "url_status", "cut": "corrupt"}
"""Kinds of jobs, and the reason with which each must end; None is COMPLETED."""


@dataclass
class Toll:
    """What was done to the service, and when."""

    hits: Counter[str] = field(default_factory=Counter)
    kills: list[tuple[float, int]] = field(default_factory=list)
    """Time and pid of each worker that was killed or paused."""


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


def send(pid: int | None, number: signal.Signals) -> bool:
    """Send a signal to a process of ours that may be gone."""
    try:
        os.kill(pid or -0x7FFFFFFF, number)
    except ProcessLookupError:
        return False
    return True


class Service:
    """What is attacked: the database, the API and the workers, each started again when it dies."""

    def __init__(self, settings: Settings, postgres: EmbeddedPostgres) -> None:
        reported = environment(settings, {**os.environ, "PYTHONPATH": str(Path.cwd())})
        command = (sys.executable, "-m", "benchmarks.endurance.chaos_member")
        worker = (*command, "worker", str(SLOTS))
        self.postgres = postgres
        self.api = Member("api", (*command, "api"), reported)
        self.workers = [Member(f"worker-{n}", worker, reported) for n in range(WORKERS)]

    def pid(self, member: Member) -> int | None:
        """Its process, while it runs."""
        running = member.process is not None and member.process.returncode is None
        return member.process.pid if running and member.process else None


class Monkey:
    """Does one thing after another to the service; the generator decides what."""

    def __init__(self, service: Service, chance: random.Random, slow: float) -> None:
        self.service, self.chance, self.toll, self.slow = service, chance, Toll(), slow

    async def rage(self) -> None:
        """Strike until cancelled."""
        strikes = [
            (3, self.kill_worker),
            (3, self.pause_worker),
            (4, self.kill_child),
            (2, self.pause_child),
            (2, self.kill_api),
            (1, self.kill_postgres),
            (1, self.kill_backend),
            (1, self.pause_postgres),
        ]
        while True:
            await asyncio.sleep(self.slow * self.chance.uniform(0.5, 2.0))
            (strike,) = self.chance.choices(
                [each for _, each in strikes], [weight for weight, _ in strikes]
            )
            self.toll.hits[strike.__name__] += 1
            await strike()

    async def pause(self, pids: list[int], seconds: float) -> None:
        """SIGSTOP, wait, SIGCONT."""
        for pid in pids:
            send(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                send(pid, signal.SIGCONT)

    def worker(self) -> int | None:
        """One of the workers, and a note that it was hit."""
        pid = self.service.pid(self.chance.choice(self.service.workers))
        if pid is not None:
            self.toll.kills.append((time.time(), pid))
        return pid

    async def kill_worker(self) -> None:
        """A machine dies."""
        send(self.worker(), signal.SIGKILL)

    async def pause_worker(self) -> None:
        """Longer than its lease, most of the time: it comes back as a zombie."""
        if pid := self.worker():
            await self.pause([pid], self.chance.uniform(2.0, 12.0))

    def child(self) -> int | None:
        """One of the workers' media children."""
        pids = [
            each
            for worker in self.service.workers
            if (pid := self.service.pid(worker))
            for each in children(pid)
        ]
        return self.chance.choice(sorted(pids)) if pids else None

    async def kill_child(self) -> None:
        """A clip crashes its decoder."""
        send(self.child(), signal.SIGKILL)

    async def pause_child(self) -> None:
        """A child starves."""
        if pid := self.child():
            await self.pause([pid], self.chance.uniform(0.5, 4.0))

    async def kill_api(self) -> None:
        """The API dies between two bytes."""
        send(self.service.pid(self.service.api), signal.SIGKILL)

    async def kill_postgres(self) -> None:
        """The database server dies."""
        send(self.service.postgres.pid, signal.SIGKILL)

    async def kill_backend(self) -> None:
        """One connection's process dies, and the server recovers all."""
        if pids := children(self.service.postgres.pid or 0):
            send(self.chance.choice(pids), signal.SIGKILL)

    async def pause_postgres(self) -> None:
        """The database hangs."""
        if pid := self.service.postgres.pid:
            await self.pause([pid, *children(pid)], self.chance.uniform(1.0, 8.0))


class Client:
    """A caller who behaves: one Idempotency-Key for a job, however often it must be sent."""

    def __init__(self, url: str) -> None:
        self.url, self.retried = url, 0

    async def submit(self, video: str, key: str) -> str:
        """Send until it is accepted; the request's id."""
        body = json.dumps({"video": video}).encode()
        headers = {"api_token": TOKEN, "Content-Type": "application/json", "Idempotency-Key": key}
        request = urllib.request.Request(  # noqa: S310  # our own service
            f"{self.url}/v2/video/segment/foreground_mask", body, headers
        )
        while True:
            try:
                return str(json.loads(await asyncio.to_thread(self._ask, request))["request_id"])
            except urllib.error.HTTPError as error:
                reported = json.loads(error.read())
                if error.code < 500 and error.code != 429:
                    return f"refused:{reported['error']['reason']}"
            except (OSError, ValueError):
                pass
            self.retried += 1
            await asyncio.sleep(0.3)

    def _ask(self, request: urllib.request.Request) -> bytes:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content


class Quiet(SimpleHTTPRequestHandler):
    """The callers' web server."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def draw_clips(folder: Path) -> None:
    """A short clip, a long one that is cut, and one that breaks off."""
    for name, frames in (("short", SHORT), ("long", LONG)):
        step = round(1 / (FPS * synth.TIME_BASE))
        spec = synth.Spec(pts=tuple(range(0, frames * step, step)), last_duration=step)
        synth.write(folder / f"{name}.mp4", spec)
    whole = (folder / "long.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


async def run(jobs: int, seed: int, slow: float, root: Path) -> dict[str, Any]:
    """The whole of it; what came of it, in numbers."""
    chance = random.Random(seed)  # noqa: S311  # a repeatable run
    clips = root / "clips"
    clips.mkdir()
    draw_clips(clips)
    origin = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(clips)))
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{origin.server_address[1]}"
    postgres = EmbeddedPostgres(root)
    postgres.start()
    settings = Settings(
        data_dir=root,
        database_url=postgres.url,
        objects_url=local_url(root / "objects"),
        port=free_port(),
        allow_private=(ip_network("127.0.0.0/8"),),
        bootstrap_token=TOKEN,
    )
    await prepare(settings, print)
    async with open_database(postgres.url, patience_s=60.0) as database:
        await database.all(
            "update tokens set rate_per_minute = 100000, burst = 1000, concurrent = 10000"
        )
        service = Service(settings, postgres)
        watching = [asyncio.create_task(each.run()) for each in (service.api, *service.workers)]
        watching.append(asyncio.create_task(postgres.watch()))
        monkey = Monkey(service, chance, slow)
        try:
            return await _measure(jobs, chance, site, settings, database, monkey)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            postgres.stop()
            origin.shutdown()


async def _measure(
    jobs: int,
    chance: random.Random,
    site: str,
    settings: Settings,
    database: Database,
    monkey: Monkey,
) -> dict[str, Any]:
    client = Client(settings.base_url)
    kinds = chance.choices(["short", "long", "gone", "cut"], [70, 24, 3, 3], k=jobs)
    began = time.monotonic()
    raging = asyncio.create_task(monkey.rage())
    moments = accumulate(chance.expovariate(1 / (monkey.slow * ARRIVAL_S)) for _ in kinds)

    async def submit(number: int, kind: str, moment_s: float) -> str:
        await asyncio.sleep(moment_s)
        return await client.submit(f"{site}/{kind}.mp4", f"job-{number}")

    coming = zip(count(), kinds, moments, strict=False)
    ids = await asyncio.gather(*(submit(*job) for job in coming))
    accepted = {each: kind for each, kind in zip(ids, kinds, strict=True) if ":" not in each}
    refused = [(each, kind) for each, kind in zip(ids, kinds, strict=True) if ":" in each]
    raged_s = await _until_ended(database, began, monkey.slow * RAGE_S)
    raging.cancel()
    await asyncio.gather(raging, return_exceptions=True)
    await _until_ended(database, time.monotonic(), STUCK_S, again=True)
    lasted_s = time.monotonic() - began
    return {
        "seconds": round(lasted_s, 1),
        "seconds with strikes": round(raged_s, 1),
        "jobs": jobs,
        "hits": dict(monkey.toll.hits),
        "posts sent again": client.retried,
        **await _judge(accepted, refused, database, settings.data_dir / "objects"),
        **await _recovery(database, monkey.toll),
    }


async def _until_ended(
    database: Database, since: float, patience_s: float, *, again: bool = False
) -> float:
    """Wait until no job runs, for ``patience_s``; with ``again``, after each that ends."""
    began, before = since, None
    while time.monotonic() - since < patience_s:
        reported = (await process_totals.now(database)).jobs
        unfinished = reported["queued"] + reported["running"]
        if unfinished == 0:
            break
        if again and unfinished != before:
            since, before = time.monotonic(), unfinished
        await asyncio.sleep(1.0)
    return time.monotonic() - began


async def _judge(
    accepted: dict[str, str],
    refused: list[tuple[str, str]],
    database: Database,
    objects: Path,
) -> dict[str, Any]:
    """What must never be, counted."""
    ends: Counter[str] = Counter()
    lost, wrong, broken = [], [], []
    for request_id, kind in accepted.items():
        record = await records.read_any(database, request_id)
        reason = record.error.reason if record.error else None
        ends[f"{kind}: {record.status} {reason or ''}".strip()] += 1
        if not record.status.ended:
            lost.append(request_id)
        elif reason not in (EXPECTED[kind], "worker_crashed"):
            wrong.append((kind, reason, record.error.details if record.error else ""))
        elif record.result_key is not None:
            frames = await asyncio.to_thread(frames_in, objects / record.result_key)
            if frames != {"short": SHORT, "long": LONG}[kind]:
                broken.append((request_id, frames))
    for answer, kind in refused:
        ends[f"{kind}: refused {answer.partition(':')[2]}"] += 1
        if answer.partition(":")[2] != EXPECTED[kind]:
            wrong.append((kind, answer, "at POST"))
    twice = await database.all(
        """select job from attempts where outcome = 'done' group by job, stage, number
           having count(*) > 1"""
    )
    unknown = await database.one(
        "select count(*) as n from jobs where not id = any(%s)", (list(accepted),)
    )
    long = [request_id for request_id, kind in accepted.items() if kind == "long"]
    cut = await database.all(
        """select segments, count(*) as n from (select count(*) as segments from steps
           where stage = 'segment' and job = any(%s) group by job) as of_job group by segments""",
        (long,),
    )
    hit = await database.all(
        """select job from attempts where stage = 'segment' and job = any(%s) group by job
           having count(*) filter (where outcome in ('lost', 'crashed')) > 0
               and count(distinct number) > 1""",
        (long,),
    )
    outcomes = await database.all("select outcome, count(*) as n from attempts group by outcome")
    return {
        "accepted": len(accepted),
        "refused": len(refused),
        "jobs that nobody asked for": unknown["n"] if unknown else None,
        "lost": len(lost),
        "joined or finished twice": len(twice),
        "results that do not decode to every frame": broken,
        "wrong reasons": wrong,
        "ends": dict(ends),
        "long clips by segments": {str(row["segments"]): row["n"] for row in cut},
        "cut clips of which a segment was lost or crashed": len(hit),
        "attempts": {str(row["outcome"]): row["n"] for row in outcomes},
    }


async def _recovery(database: Database, toll: Toll) -> dict[str, Any]:
    """From the kill of a worker to the next attempt at what it held."""
    rows = await database.all(
        """select a.worker, extract(epoch from a.started_at)::float8 as began,
               extract(epoch from a.ended_at)::float8 as ended,
               extract(epoch from n.started_at)::float8 as next
           from attempts a join attempts n on n.job = a.job and n.stage = a.stage
               and n.number = a.number and n.attempt = a.attempt + 1
           where a.outcome = 'lost'"""
    )
    noticed, took = [], []
    for row in rows:
        pid = int(row["worker"].rpartition("/")[2].partition("-")[0])
        hits = [at for at, hit in toll.kills if hit == pid and row["began"] < at < row["ended"]]
        if hits:
            noticed.append(row["ended"] - max(hits))
            took.append(row["next"] - max(hits))
    if len(took) < 2:
        return {"recoveries": len(took)}
    return {
        "recoveries": len(took),
        "until it is noticed, p50 and p95 s": _p50_and_p95(noticed),
        "until the next attempt, p50 and p95 s": _p50_and_p95(took),
    }


def _p50_and_p95(values: list[float]) -> list[float]:
    return [round(statistics.median(values), 1), round(statistics.quantiles(values, n=20)[18], 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--slow",
        type=float,
        default=1.0,
        help="times between strikes and jobs, so many times as long",
    )
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="foremask-chaos-", ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o755)
        found = asyncio.run(run(wanted.jobs, wanted.seed, wanted.slow, Path(root)))
    print(json.dumps(found, indent=2))
    clean = not found["lost"] and not found["joined or finished twice"]
    return 0 if clean and not found["wrong reasons"] and found["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main())
