"""Measures token B alone and beside an attack of token A, and prints one line.

An attack runs in a process of its own, with the limits of a usual token. It sends one text when it
is at full strength, and is then killed when B is done.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2
from tests.support import synth
from tests.support.origin import gives, listening
from tests.support.programs import children

from benchmarks.service import (
    MASK_PATH,
    PLENTY,
    caller_of,
    pid,
    quantiles,
    running,
    workplace,
)
from foremask.service.jobs.tokens import create_token
from foremask.service.run.serve import Member

CLIPS, FRAMES = 10, 50
STRENGTH_S = 120.0
SETTLE_S = 15.0
MOST_POST_S = 1.0
MOST_RATIO = 2.0
MOST_KEPT = 1.1  # of the memory before

type Attack = Callable[[int, Path, Connection], None]
"""Called with the API's port, a folder, and where to send the text."""


@dataclass(frozen=True, slots=True)
class Times:
    post_s: list[float]
    mask_s: list[float]

    @property
    def post_p95_s(self) -> float:
        return quantiles(self.post_s, 0.95, digits=3)[0]

    @property
    def median_mask_s(self) -> float:
        return statistics.median(self.mask_s)


def memory_mib(member: Member) -> float:
    """The resident memory of a process, or 0 if it does not run."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid(member)}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def family_mib(member: Member) -> float:
    """The resident memory of a process and its children, of which some may just have ended."""
    total = memory_mib(member)
    for child in children(pid(member) or 0):
        with suppress(OSError):
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
            total += pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return total


async def submit_in_turn(client: httpx2.AsyncClient, video: str) -> Times:
    """Submit `CLIPS` clips, each when the one before it is masked."""
    times = Times([], [])
    for _ in range(CLIPS):
        began = time.monotonic()
        answer = await client.post(MASK_PATH, json={"video": video})
        times.post_s.append(time.monotonic() - began)
        answer.raise_for_status()
        status = {"status": "IN_PROGRESS"}
        while status["status"] == "IN_PROGRESS":
            await asyncio.sleep(0.05)
            status = (await client.get(f"/v2/status/{answer.json()['request_id']}")).json()
        if status["status"] != "COMPLETED":
            raise SystemExit(f"a clip of B failed: {status}")
        times.mask_s.append(time.monotonic() - began)
    return times


async def measure(name: str, attack: Attack, root: Path) -> int:
    spec = synth.Spec(pts=synth.even(FRAMES, Fraction(25)))
    clip = synth.write(root / "b.mp4", spec).read_bytes()
    context = get_context("spawn")
    async with running(root, workers=1, plenty=False) as service, listening() as origin:
        origin.answers["/b.mp4"] = gives(clip)
        video, port, api = origin.url("/b.mp4"), service.ports[0], service.apis[0]
        secret, _ = await create_token(service.database, "b", PLENTY)
        async with caller_of(port, secret) as b:
            await submit_in_turn(b, video)  # children are started, caches warm
            before_mib = memory_mib(api)
            first_pid = pid(api)
            alone = await submit_in_turn(b, video)
            heard, told = context.Pipe(duplex=False)
            attacker = context.Process(target=attack, args=(port, root, told), daemon=True)
            attacker.start()
            try:
                is_strong = await asyncio.to_thread(heard.poll, STRENGTH_S)
                said = heard.recv() if is_strong else "not at full strength"
                beside = await submit_in_turn(b, video)
                during_mib = memory_mib(api)
            finally:
                attacker.kill()
                attacker.join()
            await asyncio.sleep(SETTLE_S)
            after_mib = memory_mib(api)
            is_same = pid(api) == first_pid
    ratio = beside.median_mask_s / alone.median_mask_s
    is_good = (
        is_same
        and is_strong
        and beside.post_p95_s <= MOST_POST_S
        and ratio <= MOST_RATIO
        and after_mib <= MOST_KEPT * before_mib
    )
    print(
        f"{name}: {said} | API {before_mib:.0f} -> {during_mib:.0f} -> {after_mib:.0f} MiB"
        f"{'' if is_same else ', and it died'} | B's POST p95 {alone.post_p95_s:.2f} ->"
        f" {beside.post_p95_s:.2f} s | B's mask {alone.median_mask_s:.1f} ->"
        f" {beside.median_mask_s:.1f} s, {ratio:.1f} times | {'good' if is_good else 'BAD'}",
        flush=True,
    )
    return int(not is_good)


def beside(name: str, attack: Attack) -> int:
    with workplace() as root:
        return asyncio.run(measure(name, attack, root))
