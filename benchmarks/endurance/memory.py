"""Measures the memory of connections, uploads, downloads, shown clips, live streams and jobs.

``python -m benchmarks.endurance.memory [--count 200] [--only ROW]`` opens so many of each that work
slowly, masks a short and a long clip, and prints the table of docs/operations.md. A cheap masker
replaces the network. The exit code is 1 if a process keeps over 10 % more than before.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from fractions import Fraction
from pathlib import Path

from tests.support import synth
from tests.support.origin import Request, gives, head, listening

from benchmarks.endurance.slow_clients import (
    Crowd,
    download_of,
    shown_clips,
    silent,
    slow_readers,
    slow_streams,
    slow_uploads,
    stored_file,
)
from benchmarks.machine import header, row, run
from benchmarks.service import (
    MASK_PATH,
    MOST_KEPT,
    PLENTY,
    TOKEN,
    Service,
    caller_of,
    family_mib,
    memory_mib,
    running,
    workplace,
)
from foremask.service.api.context import DOWNLOADS_PER_LINK
from foremask.service.api.probing import SHOWS_AT_ONCE, SHOWS_PER_OWNER
from foremask.service.jobs.tokens import create_token
from foremask.service.run.serve import Member

HOLD_S = 5.0
RELEASE_S = 60.0
PER_TOKEN = 50  # uploads; a token has 64 at once
STREAMS = 8  # each has a child process from the start
JOBS = {
    1000: ((320, 180), Fraction(200)),
    10_000: ((320, 180), Fraction(200)),
    100_000: ((64, 48), Fraction(2000)),
}
"""Sizes and rates by numbers of frames; a clip has 60 s at most."""

type Opened = Callable[[], AbstractAsyncContextManager[object]]


async def measure(root: Path, count: int, only: str) -> bool:
    most = max(JOBS)
    async with running(root, workers=1, streams=STREAMS, max_frames=most) as service:
        port, api, worker = service.port, service.api, service.workers[0]
        tokens = [
            (await create_token(service.database, f"t{number}", PLENTY))[0]
            for number in range(max(1 + count // PER_TOKEN, SHOWS_AT_ONCE // SHOWS_PER_OWNER))
        ]
        async with caller_of(port) as client:
            links = [await stored_file(client) for _ in range(1 + count // DOWNLOADS_PER_LINK)]
        downloads = [download_of(link) for link in links for _ in range(DOWNLOADS_PER_LINK)]
        showing = [token for token in tokens for _ in range(SHOWS_PER_OWNER)]
        showing = showing[: min(count, SHOWS_AT_ONCE)]
        kinds: dict[str, tuple[Member, Opened]] = {
            "API, a silent connection": (api, lambda: silent(port, count)),
            "API, a slow upload": (api, lambda: slow_uploads(port, tokens, count)),
            "API, a slow download": (api, lambda: slow_readers(port, downloads[:count])),
            "API, a clip that is shown": (api, lambda: shown_clips(port, showing, root)),
            "API, a live stream": (api, lambda: slow_streams(port, TOKEN, min(count, STREAMS))),
            "API, a job": (api, lambda: jobs(service, count)),
            "worker, a job that waits for its origin": (worker, lambda: jobs(service, count)),
        }
        header("what", "at once", "before, MiB", "with all, MiB", "each, KiB", "after, MiB")
        kept = False
        for name, (member, opened) in kinds.items():
            if only not in name:
                continue
            async with opened():  # the first time, code and pools are loaded
                await asyncio.sleep(1.0)
            await asyncio.sleep(HOLD_S)
            before = memory_mib(member)
            async with opened() as crowd:
                await asyncio.sleep(HOLD_S)
                during = memory_mib(member)
                number = len(crowd.streams) if isinstance(crowd, Crowd) else count
            after = await released(member, before)
            kept = kept or after > MOST_KEPT * before
            each = (during - before) * 1024 / max(1, number)
            row(name, number, f"{before:.0f}", f"{during:.0f}", f"{each:.0f}", f"{after:.0f}")
        for frames, ((width, height), _) in JOBS.items():
            name = f"worker and its children, a job of {frames} frames at {width}x{height}"
            if only not in name:
                continue
            await peak_of_job(service, root, 100)
            before = await settled(worker)
            peak = await peak_of_job(service, root, frames)
            after = await settled(worker)
            kept = kept or after > MOST_KEPT * before
            each = (peak - before) * 1024
            row(name, 1, f"{before:.0f}", f"{peak:.0f}", f"{each:.0f}", f"{after:.0f}")
        return kept


async def settled(worker: Member) -> float:
    """The memory of the worker and its children, after the next spare child has started."""
    await asyncio.sleep(HOLD_S)
    return family_mib(worker)


async def peak_of_job(service: Service, root: Path, frames: int) -> float:
    """Mask a clip; return the most memory that the worker and its children had together."""
    size, fps = JOBS.get(frames, JOBS[1000])  # fewer come first, so that code is loaded
    spec = synth.Spec(*size, synth.even(frames, fps))
    clip = await asyncio.to_thread(synth.write, root / "job.mp4", spec)
    async with listening() as origin, caller_of(service.port) as client:
        origin.answers["/a.mp4"] = gives(clip.read_bytes())
        answer = await client.post(MASK_PATH, json={"video": origin.url("/a.mp4")})
        answer.raise_for_status()
        status = {"status": "IN_PROGRESS"}
        peak = 0.0
        while status["status"] == "IN_PROGRESS":
            for _ in range(10):
                await asyncio.sleep(0.1)
                peak = max(peak, family_mib(service.workers[0]))
            status = (await client.get(f"/v2/status/{answer.json()['request_id']}")).json()
    if status["status"] != "COMPLETED":
        raise SystemExit(f"a job of {frames} frames failed: {status}")
    return peak


async def released(member: Member, before: float) -> float:
    """Wait until the process has given its memory back; return what it has."""
    until = time.monotonic() + RELEASE_S
    while (now := memory_mib(member)) > MOST_KEPT * before and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(1.0)
    return now


@asynccontextmanager
async def jobs(service: Service, count: int) -> AsyncIterator[None]:
    """Submit jobs whose origin sends 64 KiB a second without end, and cancel them."""

    async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(Content_Type="video/mp4"))
        while True:
            writer.write(bytes(16 << 10))
            await writer.drain()
            await asyncio.sleep(0.25)

    async with listening() as origin, caller_of(service.port) as client:
        origin.answers["/a.mp4"] = drip
        body = {"video": origin.url("/a.mp4")}
        asked = (client.post(MASK_PATH, json=body) for _ in range(count))
        answers = await asyncio.gather(*asked)
        try:
            yield
        finally:
            for answer in answers:
                if answer.status_code == 202:
                    await client.delete(f"/v2/status/{answer.json()['request_id']}")


def main(*, count: int = 200, only: str = "") -> int:
    with workplace() as root:
        return int(asyncio.run(measure(root, count, only)))


if __name__ == "__main__":
    run(main, __doc__)
