"""``make chaos``: kills and pauses processes while jobs run, and counts lost jobs.

The API, three workers, their media children and PostgreSQL are real; only the network is replaced
by a cheap masker. Jobs of all kinds have webhooks, the database's clock is changed at times, and
at the end all results expire. The database also refuses writes or has no connection left; with
``--bucket``, the files are in an S3 server, which at times answers 503. ``--seed`` determines what
is hit and when; ``--slow`` multiplies all times. The exit code is 1 if a job was lost, was done
twice, failed for a wrong reason or sent no webhook, or if a file remains in the store.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, LiteralString

import httpx2
import psycopg
from PIL import Image
from tests.support import synth
from tests.support.http_server import s3_server, serving_files
from tests.support.origin import head
from tests.support.programs import children

from benchmarks.machine import run
from benchmarks.service import MASK_PATH, Service, caller_of, pid, running, workplace
from foremask.facts import SEGMENT_GRID
from foremask.service.jobs import process_totals, records
from foremask.service.jobs.database import Database, Row
from foremask.service.storage.objects import Objects, open_objects

WORKERS, SLOTS = 3, 2
RAGE_S = 900.0  # strikes go on until all jobs have ended, at most so long
STUCK_S = 120.0  # without strikes: while jobs end, they are late and not lost
FPS = 25
FRAMES = {"short": 25, "long": 2 * SEGMENT_GRID.least_frames + FPS}  # the long one is cut in two
ARRIVAL_S = 2.0  # mean between two jobs: slots must be free now and then, or no clip is cut
SHARES = {"short": 44, "long": 24, "cut-out": 8, "composite": 6, "convert": 6, "refine": 6}
SHARES |= {"gone": 3, "cut": 3}
EXPECTED = {"gone": "url_status", "cut": "corrupt"}
"""Kinds of jobs: how many in a hundred, and the reason with which those must end that fail."""
EDIT = "/v2/video/edit"
PATHS = {"cut-out": f"{EDIT}/remove_background", "composite": f"{EDIT}/replace_background"}
HINTS: list[dict[str, Any]] = [{"type": "point", "x": 20, "y": 20, "frame": 0}]
CONVERTED = {"output_container_and_codec": "mov_proresks"}
SHIFTS_S = (-3600.0, 0.0, 0.0, 5 * 3600.0)  # of the database's clock
STRIKES = {
    "kill a worker": 3,
    "pause a worker": 3,  # longer than its lease, mostly: it comes back as a zombie
    "kill a child": 4,  # a clip crashes its decoder
    "pause a child": 2,
    "kill the API": 2,
    "kill PostgreSQL": 1,
    "kill a backend": 1,  # the server then recovers all
    "pause PostgreSQL": 1,
    "set the clock": 1,
    "forbid writes": 1,
    "take all connections": 1,
    "refuse objects": 2,  # only with a bucket
}
PAUSES_S = {"worker": (2.0, 12.0), "child": (0.5, 4.0), "PostgreSQL": (1.0, 12.0)}
READ_ONLY_S = 10.0
NO_CONNECTION_S = (2.0, 10.0)
NO_OBJECTS_S = (2.0, 12.0)
BAD = (
    *("lost", "joined or finished twice", "wrong reasons", "jobs that nobody asked for"),
    *("results that do not decode to every frame", "jobs without their webhook"),
    *("jobs that did not expire", "files that stay", "bytes that stay counted"),
)
"""What must be none."""
PLACES = ("uploads", "sources", "segments", "parts", "results")


@dataclass
class Monkey:
    service: Service
    chance: random.Random
    slow: float
    bucket: "Bucket | None"
    hits: Counter[str] = field(default_factory=Counter)

    async def rage(self) -> None:
        while True:
            await asyncio.sleep(self.slow * self.chance.uniform(0.5, 2.0))
            strikes = STRIKES if self.bucket else {**STRIKES, "refuse objects": 0}
            (strike,) = self.chance.choices(list(strikes), list(strikes.values()))
            if await self.refuse(strike):
                self.hits[strike] += 1
                continue
            deed, _, victim = strike.partition(" ")
            pids = self.find(victim.removeprefix("a ").removeprefix("the "), deed)
            if not pids:
                continue
            self.hits[strike] += 1
            if deed == "kill":
                send(pids[:1], signal.SIGKILL)
                continue
            send(pids, signal.SIGSTOP)
            try:
                await asyncio.sleep(self.chance.uniform(*PAUSES_S[victim.removeprefix("a ")]))
            finally:
                send(pids, signal.SIGCONT)

    async def refuse(self, strike: str) -> bool:
        """Let the database or the bucket refuse what it is asked; False for another strike."""
        match strike:
            case "set the clock":
                await set_clock(self.service.database, self.chance.choice(SHIFTS_S))
            case "forbid writes":
                await forbid_writes(self.service.postgres.url, READ_ONLY_S)
            case "take all connections":
                seconds = self.chance.uniform(*NO_CONNECTION_S)
                await take_all_connections(self.service.postgres.url, seconds)
            case "refuse objects" if self.bucket is not None:
                await self.bucket.refuse(self.chance.uniform(*NO_OBJECTS_S))
            case _:
                return False
        return True

    def find(self, victim: str, deed: str) -> list[int]:
        workers = [found for each in self.service.workers if (found := pid(each))]
        server = self.service.postgres.pid
        match victim:
            case "worker" if workers:
                return [self.chance.choice(workers)]
            case "child":
                of_workers = sorted(child for each in workers for child in children(each))
                return [self.chance.choice(of_workers)] if of_workers else []
            case "API":
                return [found] if (found := pid(self.service.api)) else []
            case "PostgreSQL" if server:
                return [server, *(children(server) if deed == "pause" else [])]
            case "backend" if server and (backends := sorted(children(server))):
                return [self.chance.choice(backends)]
        return []


def send(pids: Sequence[int], number: signal.Signals) -> None:
    for each in pids:
        with suppress(ProcessLookupError):
            os.kill(each, number)


async def forbid_writes(url: str, seconds: float) -> None:
    """Let PostgreSQL refuse writes, as a standby does."""

    async def turn(state: LiteralString) -> None:
        while True:  # the server may be starting
            with suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as by:
                    await by.execute(f"alter system set default_transaction_read_only = {state}")
                    await by.execute("select pg_reload_conf()")
                    return
            await asyncio.sleep(0.2)

    try:
        await turn("on")
        await asyncio.sleep(seconds)
    finally:
        await asyncio.shield(turn("off"))


async def take_all_connections(url: str, seconds: float) -> None:
    """End all sessions, and hold every connection that the server allows."""
    until = time.monotonic() + seconds
    async with AsyncExitStack() as stack:
        is_first = True
        while time.monotonic() < until:
            try:
                connecting = psycopg.AsyncConnection.connect(url, autocommit=True)
                held = await stack.enter_async_context(await connecting)
                if is_first:
                    await held.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where backend_type = 'client backend' and pid <> pg_backend_pid()"
                    )
                is_first = False
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)


@dataclass
class Bucket:
    """Relays connections to an S3 server at ``port``, and answers 503 while it refuses."""

    port: int
    is_refusing: bool = False
    open_ones: set[asyncio.StreamWriter] = field(default_factory=set)

    async def refuse(self, seconds: float) -> None:
        self.is_refusing = True
        try:
            for writer in list(self.open_ones):
                writer.close()
            await asyncio.sleep(seconds)
        finally:
            self.is_refusing = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_ones.add(writer)
        try:
            if self.is_refusing:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(head("503 Slow Down", Content_Length=0, Connection="close"))
                await writer.drain()
                return
            theirs, to_it = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.gather(copy(reader, to_it), copy(theirs, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_ones.discard(writer)
            writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def bucket_of(root: Path) -> AsyncIterator[Bucket]:
    """Yield a bucket of a real S3 server, and name it in this process's environment."""
    with s3_server(root) as store:
        bucket = Bucket(int(store["AWS_ENDPOINT"].rpartition(":")[2]))
        relay = await asyncio.start_server(bucket.serve, "127.0.0.1", 0)
        port = relay.sockets[0].getsockname()[1]
        os.environ.update(store | {"AWS_ENDPOINT": f"http://127.0.0.1:{port}"})
        async with relay:
            yield bucket


async def set_clock(database: Database, shift_s: float) -> None:
    await database.all(
        "create or replace function clock() returns timestamptz language sql as"
        f" $$ select clock_timestamp() + interval '{shift_s} s' $$"
    )


@dataclass
class Caller:
    client: httpx2.AsyncClient
    site: str
    again: Counter[str] = field(default_factory=Counter)

    async def submit(self, kind: str, key: str) -> list[tuple[str, str]]:
        """Submit a job, after the mask that it needs; return the kinds with ids or refusals."""
        if kind in ("convert", "refine"):
            first = await self.post(MASK_PATH, {"video": f"{self.site}/short.mp4"}, key)
            if not await self.completed(first):
                return [("short", first)]
            clip = {"video": f"{self.site}/short.mp4"}  # its URL is forgotten when a job ends
            again = clip | ({"hints": HINTS} if kind == "refine" else CONVERTED)
            return [("short", first), (kind, await self.post(f"/v2/status/{first}/{kind}", again))]
        path = PATHS.get(kind, MASK_PATH)
        body = {"video": f"{self.site}/{'short' if kind in PATHS else kind}.mp4"}
        if kind == "composite":
            body["background_url"] = f"{self.site}/behind.png"
        return [(kind, await self.post(path, body, key))]

    async def post(self, path: str, body: Mapping[str, Any], key: str | None = None) -> str:
        """Repeat a request until it is accepted; return the id, or why it was refused."""
        headers = {"Idempotency-Key": key} if key else {}
        if key:
            body = {**body, "webhook_url": f"{self.site}/hook"}
        while True:
            with suppress(httpx2.HTTPError, ValueError):
                answer = await self.client.post(path, json=body, headers=headers)
                if answer.is_success:
                    return str(answer.json()["request_id"])
                if answer.status_code < 500 and answer.status_code != 429:
                    return f"refused: {answer.json()['error']['reason']}"
            self.again["posts sent again"] += 1
            await asyncio.sleep(0.3)

    async def completed(self, request_id: str) -> bool:
        while True:
            with suppress(httpx2.HTTPError, ValueError):
                answer = await self.client.get(f"/v2/status/{request_id}")
                if answer.is_success and (status := answer.json()["status"]) != "IN_PROGRESS":
                    return bool(status == "COMPLETED")
            await asyncio.sleep(1.0)


def draw_clips(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (64, 48), "blue").save(folder / "behind.png")
    step = round(1 / (FPS * synth.TIME_BASE))
    for name, frames in FRAMES.items():
        spec = synth.Spec(pts=tuple(range(0, frames * step, step)), last_duration=step)
        synth.write(folder / f"{name}.mp4", spec)
    whole = (folder / "long.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])


async def measure(
    jobs: int, seed: int, slow: float, root: Path, *, in_bucket: bool
) -> dict[str, Any]:
    chance = random.Random(seed)  # noqa: S311  # a repeatable run
    draw_clips(root / "clips")
    kinds = chance.choices(list(SHARES), list(SHARES.values()), k=jobs)
    moments = accumulate(chance.expovariate(1 / (slow * ARRIVAL_S)) for _ in kinds)
    with serving_files(root / "clips") as site:
        async with AsyncExitStack() as stack:
            bucket = None
            if in_bucket:
                (root / "s3").mkdir()
                bucket = await stack.enter_async_context(bucket_of(root / "s3"))
            url = "s3://chaos/foremask" if in_bucket else None
            starting = running(root, workers=WORKERS, slots=SLOTS, objects_url=url)
            service = await stack.enter_async_context(starting)
            client = await stack.enter_async_context(caller_of(service.port, timeout_s=30))
            database, caller = service.database, Caller(client, site)
            settings = service.settings
            objects = await open_objects(settings.store_url, settings.base_url)

            async def send_later(number: int, kind: str, moment_s: float) -> list[tuple[str, str]]:
                await asyncio.sleep(moment_s)
                return await caller.submit(kind, f"job-{number}")

            began, monkey = time.monotonic(), Monkey(service, chance, slow, bucket)
            raging = asyncio.create_task(monkey.rage())
            coming = enumerate(zip(kinds, moments, strict=True))
            sent = await asyncio.gather(*(send_later(n, *job) for n, job in coming))
            kinds_of = {made: kind for each in sent for kind, made in each}
            await until_ended(database, slow * RAGE_S)
            raged_s = time.monotonic() - began
            raging.cancel()
            await asyncio.gather(raging, return_exceptions=True)
            await set_clock(database, 0.0)
            await until_ended(database, STUCK_S, while_they_end=True)
            return {
                "seconds, and with strikes": [round(time.monotonic() - began), round(raged_s)],
                "jobs": jobs,
                "hits": dict(monkey.hits),
                **caller.again,
                **await judge(kinds_of, database, objects, root),
                **await expire(database, objects, root / "objects"),
            }


async def until_ended(
    database: Database, patience_s: float, *, while_they_end: bool = False
) -> None:
    """Wait at most ``patience_s`` until no job runs.

    With ``while_they_end``, the time starts again whenever a job ends.
    """
    since, before = time.monotonic(), -1.0
    while time.monotonic() - since < patience_s:
        now = await process_totals.now(database)
        unfinished = now["foremask_jobs", ("queued",)] + now["foremask_jobs", ("running",)]
        if unfinished == 0:
            return
        if while_they_end and unfinished != before:
            since, before = time.monotonic(), unfinished
        await asyncio.sleep(1.0)


async def left_of(database: Database, waiting: LiteralString) -> list[Row]:
    """Wait until the query finds no row, or as many for `STUCK_S`; return the rows."""
    rows = await database.all(waiting)
    since = time.monotonic()
    while rows and time.monotonic() - since < STUCK_S:
        await asyncio.sleep(1.0)
        before = len(rows)
        rows = await database.all(waiting)
        if len(rows) < before:
            since = time.monotonic()
    return rows


async def judge(
    kinds: dict[str, str], database: Database, objects: Objects, root: Path
) -> dict[str, Any]:
    ends: Counter[str] = Counter()
    lost, wrong, broken = [], [], []
    accepted = [each for each in kinds if ":" not in each]
    for request_id, kind in kinds.items():
        if request_id not in accepted:
            reason = request_id.removeprefix("refused: ")
            ends[f"{kind}: {request_id}"] += 1
            if reason != EXPECTED.get(kind):
                wrong.append((kind, reason))
            continue
        record = await records.read_any(database, request_id)
        ended = record.error.reason if record.error else None
        ends[f"{kind}: {record.status} {ended or ''}".strip()] += 1
        if not record.status.ended:
            lost.append(request_id)
        elif ended not in (EXPECTED.get(kind), "worker_crashed"):
            wrong.append((kind, f"{ended}: {record.error and record.error.details}"))
        elif record.result_key is not None:
            result = root / "result"
            await objects.get(record.result_key, result)
            shown = await asyncio.to_thread(synth.shown_at, result)
            if len(shown) != FRAMES.get(kind, FRAMES["short"]):
                broken.append((request_id, len(shown)))
    twice = await database.all(
        """select job from attempts where outcome = 'done' group by job, stage, number
           having count(*) > 1"""
    )
    unknown = await database.all(
        "select id from jobs where not id = any(%s) and idempotency_key is not null", (accepted,)
    )
    await left_of(database, "select id from deliveries where status = 'pending'")
    silent = await database.all(
        """select id from jobs j where webhook_url is not null and 1 <> (
               select count(*) from deliveries d where d.job = j.id and d.status = 'delivered')"""
    )
    outcomes = await database.all("select outcome, count(*) as n from attempts group by outcome")
    return {
        "accepted": len(accepted),
        "jobs that nobody asked for": len(unknown),
        "jobs without their webhook": len(silent),
        "lost": len(lost),
        "joined or finished twice": len(twice),
        "results that do not decode to every frame": broken,
        "wrong reasons": wrong,
        "ends": dict(ends),
        "attempts": {str(row["outcome"]): row["n"] for row in outcomes},
    }


async def expire(database: Database, objects: Objects, folder: Path) -> dict[str, Any]:
    """Let all results be forty days old; return what remains stored and counted."""
    await database.all("update jobs set ended_at = ended_at - interval '40 days'")
    rows = await left_of(
        database,
        "select id from jobs where swept_at is null"
        " or (result_key is not null and expired_at is null)",
    )
    left = await asyncio.to_thread(files_below, folder)  # unfinished ones too, if it is no bucket
    if objects.disk() is None:
        left = [stored["path"] for place in PLACES async for stored in objects.list(place)]
    counted = await database.one("select sum(stored)::bigint as n from tokens")
    return {
        "jobs that did not expire": len(rows),
        "files that stay": [each for each in left if each != "signing-key"],
        "bytes that stay counted": counted and counted["n"],
    }


def files_below(folder: Path) -> list[str]:
    return [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]


def main(*, jobs: int = 200, seed: int = 7, slow: float = 1.0, bucket: bool = False) -> int:
    with workplace() as root:
        found = asyncio.run(measure(jobs, seed, slow, root, in_bucket=bucket))
    print(json.dumps(found, indent=2))
    return int(any(found[each] for each in BAD) or not found["accepted"])


if __name__ == "__main__":
    run(main, __doc__)
