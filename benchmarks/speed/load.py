"""Measures status reads a second of the API, and submissions against the limits of tokens.

``python -m benchmarks.speed.load`` starts a database, two API processes and an origin on loopback.
The clients share the cores with the service, so every number is a lower bound.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from tests.support import synth
from tests.support.origin import gives, listening

from benchmarks.machine import run
from benchmarks.service import MASK_PATH, PLENTY, quantiles, running, workplace
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import TokenLimits, create_token

CLIENTS = 64


class Caller:
    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1\r\napi_token: {token}\r\n"

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, float]:
        """Return the status, the body and the seconds of one request."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        began = time.perf_counter()
        self._writer.write(head.encode() + b"\r\n" + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        size = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await self._reader.readexactly(size)
        return int(answer[9:12]), content, time.perf_counter() - began


async def spread(
    ports: Sequence[int], token: str, count: int, one: Callable[[Caller], Awaitable[None]]
) -> float:
    """Call ``one`` ``count`` times, spread over all clients; return the seconds."""
    left = iter(range(count))

    async def client(port: int) -> None:
        async with Caller(port, token) as caller:
            for _ in left:
                await one(caller)

    began = time.perf_counter()
    await asyncio.gather(*(client(ports[number % len(ports)]) for number in range(CLIENTS)))
    return time.perf_counter() - began


def times(name: str, times_s: list[float]) -> str:
    p50, p99 = quantiles([1e3 * each for each in times_s], 0.5, 0.99, digits=1) or (0.0, 0.0)
    return f"  {name}: p50 {p50} ms, p99 {p99} ms, worst {1e3 * max(times_s, default=0):.0f} ms"


async def read_many(ports: list[int], database: Database, body: bytes, count: int) -> None:
    """Read the status of jobs from one API process, then from two."""
    token, _ = await create_token(database, "reads", PLENTY)
    paths: list[str] = []
    async with Caller(ports[0], token) as caller:
        for _ in range(CLIENTS):
            _, content, _ = await caller.ask("POST", MASK_PATH, body)
            paths.append("/v2/status/" + json.loads(content)["request_id"])
    for some in (ports[:1], ports):
        statuses: Counter[int] = Counter()
        times_s: list[float] = []

        async def one(
            caller: Caller, statuses: Counter[int] = statuses, times_s: list[float] = times_s
        ) -> None:
            status, _, seconds = await caller.ask("GET", paths[len(times_s) % CLIENTS])
            statuses[status] += 1
            times_s.append(seconds)

        rate = count / await spread(some, token, count, one)
        print(f"status reads from {len(some)} process(es): {rate:.0f}/s, {dict(statuses)}")
        print(times("each", times_s))


async def submit_many(ports: list[int], database: Database, body: bytes, count: int) -> None:
    """Submit more than the limits allow; check that each accepted job is stored."""
    limits = TokenLimits(rate_per_minute=600, burst=300, concurrent=400)
    token, record = await create_token(database, "load", limits)
    outcomes: Counter[str] = Counter()
    ids: set[str] = set()
    accepted_s: list[float] = []
    refused_s: list[float] = []

    async def one(caller: Caller) -> None:
        status, content, seconds = await caller.ask("POST", MASK_PATH, body)
        reported = json.loads(content)
        if status == 202:
            ids.add(reported["request_id"])
            accepted_s.append(seconds)
        else:
            outcomes[f"{status} {reported['error']['reason']}"] += 1
            refused_s.append(seconds)

    wall_s = await spread(ports, token, count, one)
    jobs = await database.all("select id from jobs where token = %s", (record.id,))
    print(f"submissions: {count} in {wall_s:.1f} s, refused {dict(outcomes)}")
    print(f"  accepted {len(accepted_s)}, distinct ids {len(ids)}, on record {len(jobs)}")
    print(times("accepted", accepted_s), times("refused", refused_s), sep="\n")
    if not len(ids) == len(accepted_s) == len(jobs) == count - sum(outcomes.values()):
        raise SystemExit("a job was lost or made twice")


async def main(*, submissions: int = 10_000, reads: int = 20_000) -> None:
    with workplace() as root:
        clip = synth.write(root / "clip.mp4", synth.Spec(64, 48)).read_bytes()
        async with running(root, apis=2) as service, listening() as origin:
            database = service.database
            origin.answers["/clip.mp4"] = gives(clip)
            body = json.dumps({"video": origin.url()}).encode()
            await read_many(service.ports, database, body, reads)
            await submit_many(service.ports, database, body, submissions)


if __name__ == "__main__":
    run(main, __doc__)
