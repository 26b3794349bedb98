"""Measures token B alone, and beside a load that token A or nobody's token puts on the service.

``python -m benchmarks.endurance.loads [LOAD ...]`` prints a line for each load. A load runs in a
process of its own, tells once what it does at full strength, and is killed when B is done. All is
real but the network (benchmarks.member). The exit code is 1 if the API keeps memory or dies, if one
of B's clips fails, or if B waits too long.
"""

import asyncio
import base64
import json
import socket
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import httpx2
import numpy as np
from tests.support import synth
from tests.support.origin import Request, gives, head, listening

from benchmarks.endurance.slow_clients import (
    download_of,
    shown_clips,
    slow_readers,
    slow_uploads,
    stored_file,
)
from benchmarks.machine import run
from benchmarks.service import (
    MASK_PATH,
    MOST_KEPT,
    PLENTY,
    TOKEN,
    caller_of,
    memory_mib,
    pid,
    quantiles,
    running,
    workplace,
)
from foremask.service.jobs.tokens import create_token

CLIPS, FRAMES = 20, 100  # of B
STRENGTH_S = 120.0
SETTLE_S = 15.0
MOST_POST_S = 1.0
MOST_RATIO = 2.0
FOREVER_S = 3600.0

UPLOADS, READERS, SHOWS, PREVIEWS = 130, 190, 8, 6
CHUNK = b"8\r\n01234567\r\n"
CHUNKS_A_WRITE = 20_000
PAUSE_S = 0.2  # a usual token's rate allows ten requests a second
HANDSHAKE = (
    b"GET /?api_token=none HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
BEGUN = b"\x02\x80" + bytes(4)  # a message whose end never comes
EMPTY_PARTS = 20_000 * (b"\x00\x80" + bytes(4))
JOBS, SLOW, HANGING, DEAD = 40, 4, 6, 200

type Tell = Callable[[object], None]
type Load = Callable[[int, Path, Tell], Awaitable[None]]
"""Called with the API's port, a folder, and what to tell at full strength."""


async def uploads(port: int, _: Path, tell: Tell) -> None:
    """One token opens 130 uploads and sends slowly."""
    async with slow_uploads(port, [TOKEN], UPLOADS) as crowd:
        tell(f"{crowd} of {UPLOADS} uploads")
        await asyncio.sleep(FOREVER_S)


async def readers(port: int, _: Path, tell: Tell) -> None:
    """190 slow downloads of one link, without a token."""
    async with caller_of(port) as client:
        link = await stored_file(client)
    async with slow_readers(port, READERS * [download_of(link)]) as crowd:
        tell(f"{crowd} of {READERS} downloads")
        await asyncio.sleep(FOREVER_S)


async def shows(port: int, root: Path, tell: Tell) -> None:
    """Eight clips that the API shall show, and that are read slowly."""
    async with shown_clips(port, [TOKEN] * SHOWS, root) as crowd:
        tell(f"{crowd} of {SHOWS} shown clips")
        await asyncio.sleep(FOREVER_S)


async def chunks(port: int, _: Path, tell: Tell) -> None:
    """Four jobs at once, at an origin that sends tiny chunks."""

    async def tiny_chunks(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(Transfer_Encoding="chunked", Content_Type="video/mp4"))
        while True:
            writer.write(CHUNK * CHUNKS_A_WRITE)
            await writer.drain()

    async with listening() as origin, caller_of(port) as client:
        origin.answers["/a.mp4"] = tiny_chunks
        body = json.dumps({"video": origin.url("/a.mp4")}).encode()
        await post_again_and_again(client, MASK_PATH, [body], 4, tell)


async def bodies(port: int, _: Path, tell: Tell) -> None:
    """JSON that is slow to decode: 32,000 keys, 1 MiB of zeros, one string of 1 MiB."""
    keys = [b'"%d":0' % number for number in range(32_000)]
    sent = [
        b"{" + b",".join([*keys, keys[-1]]) + b"}",
        b'{"a":[' + b"0," * 520_000 + b"0]}",
        b'{"a":"' + b"," * 1_040_000 + b'"}',
    ]
    async with caller_of(port) as client:
        await post_again_and_again(client, MASK_PATH, sent, 1, tell)


async def previews(port: int, _: Path, tell: Tell) -> None:
    """Six previews at once, each with as many points as are allowed."""
    picture = np.random.default_rng(7).integers(0, 255, (144, 192, 3), np.uint8)
    text = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
    hints = [{"type": "point", "x": 3 * number, "y": number} for number in range(16)]
    body = json.dumps({"picture": text, "hints": hints, "quality": "fast"}).encode()
    async with caller_of(port) as client:
        path = "/v2/video/segment/preview"
        await post_again_and_again(client, path, [body], PREVIEWS, tell)


async def post_again_and_again(
    client: httpx2.AsyncClient, path: str, bodies: list[bytes], at_once: int, tell: Tell
) -> None:
    """Post the bodies in turn, ``at_once`` at once; tell what a first round was answered."""
    answers: Counter[str] = Counter()
    json_type = {"content-type": "application/json"}

    async def post_in_turn() -> None:
        while True:
            for body in bodies:
                answer = await client.post(path, content=body, headers=json_type)
                reason = answer.json().get("error", {}).get("reason", "")
                answers[f"{answer.status_code} {reason}".strip()] += 1
                if answers.total() == at_once * len(bodies):
                    tell(f"{at_once} at once, answered {dict(answers)}")
                await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(post_in_turn() for _ in range(at_once)))


async def frames(port: int, _: Path, tell: Tell) -> None:
    """Live streams of tiny frames, without a token; each is closed after a while."""

    def send_for_ever() -> None:
        connections, sent_bytes, has_told = 0, 0, False
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 60) as raw:
                    connections += 1
                    raw.sendall(HANDSHAKE)
                    raw.recv(4096)
                    raw.sendall(BEGUN)
                    while True:
                        sent_bytes += raw.send(EMPTY_PARTS)
            except OSError:  # closed
                if not has_told:
                    tell(f"connection {connections} was closed after {sent_bytes >> 10} KiB")
                has_told = True

    await asyncio.to_thread(send_for_ever)


async def jobs(port: int, root: Path, tell: Tell) -> None:
    """A token without limits: 40 jobs, 4 slow origins, 200 dead names, 6 origins that hang."""
    spec = synth.Spec(pts=synth.even(FRAMES, Fraction(25)))
    clip = (await asyncio.to_thread(synth.write, root / "clip.mp4", spec)).read_bytes()
    at = clip.index(b"moov") - 4  # 128 KiB of nothing before the header: a second read
    hidden = clip[:at] + (1 << 17).to_bytes(4, "big") + b"free" + bytes((1 << 17) - 8) + clip[at:]

    async def slow(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(Content_Length=1 << 20, Content_Type="video/mp4") + clip)
        while True:  # 20 bytes a second
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def hanging(request: Request, writer: asyncio.StreamWriter) -> None:
        if not request.headers.get("range", "").startswith("bytes=0-"):
            await asyncio.sleep(60)
        await gives(hidden)(request, writer)

    async with listening() as origin, caller_of(port) as client:
        padded = clip + b"\0\1\0\0free" + bytes(65528)
        origin.answers |= {"/clip.mp4": gives(padded), "/slow.mp4": slow, "/hanging.mp4": hanging}
        answers: Counter[int] = Counter()

        async def submit(url: str) -> None:
            answer = await client.post(MASK_PATH, json={"video": url})
            answers[answer.status_code] += 1

        async def submit_again_and_again(url: str) -> None:
            while True:
                await submit(url)

        urls = {name: origin.url(name, host="origin.example") for name in origin.answers}
        queued = [urls["/clip.mp4"]] * JOBS + [urls["/slow.mp4"]] * SLOW
        await asyncio.gather(*map(submit, queued))
        tell(f"{JOBS} jobs and {SLOW} slow origins, answered {dict(answers)}")
        await asyncio.gather(
            *(submit_again_and_again(urls["/hanging.mp4"]) for _ in range(HANGING)),
            *(submit(f"http://{n}.dead.example/clip.mp4") for n in range(DEAD)),
        )


FLOODS: tuple[Load, ...] = (jobs,)
"""Loads of a token without limits. A worker stays with a token for seconds (docs/adr/0090), so B
submits all its clips at once; beside the others, each when the one before it is masked."""
LOADS: dict[str, Load] = {
    each.__name__: each
    for each in (uploads, readers, shows, chunks, bodies, previews, frames, jobs)
}


def put_on(name: str, port: int, root: Path, told: Connection) -> None:
    asyncio.run(LOADS[name](port, root, told.send))  # type: ignore[arg-type]


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


async def submit(client: httpx2.AsyncClient, video: str, at_once: int) -> Times:
    """Submit `CLIPS` clips, ``at_once`` of them without waiting for a mask."""
    times = Times([], [])
    free = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with free:
            began = time.monotonic()
            answer = await client.post(MASK_PATH, json={"video": video})
            times.post_s.append(time.monotonic() - began)
            answer.raise_for_status()
            status = {"status": "IN_PROGRESS"}
            while status["status"] == "IN_PROGRESS":
                await asyncio.sleep(0.05 * at_once)  # as many reads a second, however many
                status = (await client.get(f"/v2/status/{answer.json()['request_id']}")).json()
            if status["status"] != "COMPLETED":
                raise SystemExit(f"a clip of B failed: {status}")
            times.mask_s.append(time.monotonic() - began)

    await asyncio.gather(*(one() for _ in range(CLIPS)))
    return times


async def is_borne(name: str, root: Path) -> bool:
    """Measure B alone and beside a load, and print the line; False if it is too much."""
    spec = synth.Spec(pts=synth.even(FRAMES, Fraction(25)))
    clip = synth.write(root / "b.mp4", spec).read_bytes()
    context = get_context("spawn")
    is_flood = LOADS[name] in FLOODS
    at_once = CLIPS if is_flood else 1
    async with running(root, workers=2, plenty=is_flood) as service, listening() as origin:
        origin.answers["/b.mp4"] = gives(clip)
        video, port, api = origin.url("/b.mp4"), service.port, service.api
        secret, _ = await create_token(service.database, "b", PLENTY)
        async with caller_of(port, secret) as b:
            await submit(b, video, at_once)  # children are started, caches warm
            before_mib = memory_mib(api)
            first_pid = pid(api)
            alone = await submit(b, video, at_once)
            heard, told = context.Pipe(duplex=False)
            loading = context.Process(target=put_on, args=(name, port, root, told), daemon=True)
            loading.start()
            try:
                is_strong = await asyncio.to_thread(heard.poll, STRENGTH_S)
                said = heard.recv() if is_strong else "not at full strength"
                beside = await submit(b, video, at_once)
                during_mib = memory_mib(api)
            finally:
                loading.kill()
                loading.join()
            await asyncio.sleep(SETTLE_S)
            after_mib = memory_mib(api)
            is_same = pid(api) == first_pid
    ratio = beside.median_mask_s / alone.median_mask_s
    is_good = (
        is_same
        and is_strong
        and (is_flood or beside.post_p95_s <= MOST_POST_S)  # B's own posts are a flood, too
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
    return is_good


def main(*names: str) -> int:
    borne = []
    for name in names or LOADS:
        with workplace() as root:
            borne.append(asyncio.run(is_borne(name, root)))
    return int(not all(borne))


if __name__ == "__main__":
    run(main, __doc__)
