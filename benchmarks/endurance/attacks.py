"""What one caller can cost the others: each attack against a service of its own on loopback.

``python -m benchmarks.endurance.attacks [NAME ...]`` prints a row for each: how the victim fared
meanwhile, and what the attacker was told. Every attack ends within a minute or so. With ``PORT
FOLDER`` instead of names it goes on and on against a service that runs.
"""

import asyncio
import base64
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import httpx2
import numpy as np
from tests.service.api.clip_server import serving
from tests.support import synth

from benchmarks.service import MASK_PATH, TOKEN, Service, give_plenty, running, workplace
from foremask.service.jobs.database import open_database
from foremask.service.jobs.tokens import create_token
from foremask.service.run.serve import Member, environment

CONNECTIONS, CROWD, VICTIMS = 40, 120, 18
PADDING_BYTES = 100 << 20
MOST_FILE_BYTES = 256 << 10
VICTIM = "the-token-of-the-victim"

type Attack = Callable[[Service, Path], Awaitable[str]]


def client(service: Service, token: str = TOKEN) -> httpx2.AsyncClient:
    """Speaks to the service."""
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{service.ports[0]}",
        headers={"api_token": token},
        timeout=90,
        trust_env=False,
    )


@asynccontextmanager
async def watched(service: Service) -> AsyncIterator[list[float]]:
    """How long each read of /healthz takes, in seconds, while the block lasts."""
    waits: list[float] = []

    async def watch() -> None:
        async with client(service) as victim:
            while True:
                began = time.monotonic()
                await victim.get("/healthz")
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    try:
        yield waits
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def bodies(service: Service, _root: Path) -> str:
    """Bodies that are dear to decode (V.1)."""
    keys = [b'"%d":0' % number for number in range(32_000)]
    sent = {
        "32,000 keys, the last twice": b"{" + b",".join([*keys, keys[-1]]) + b"}",
        "a MiB of zeros": b'{"a":[' + b"0," * 520_000 + b"0]}",
        "a MiB of one string": b'{"a":"' + b"," * 1_040_000 + b'"}',
    }
    told: Counter[str] = Counter()
    async with watched(service) as waits, client(service) as attacker:
        for body in 5 * list(sent.values()):
            answer = await attacker.post(
                MASK_PATH, content=body, headers={"content-type": "application/json"}
            )
            told[answer.json()["error"]["reason"]] += 1
    return f"/healthz at most {1000 * max(waits):.0f} ms in {len(waits)} reads; told {dict(told)}"


async def slow(service: Service, _root: Path) -> str:
    """Slow bodies without a token, three times as many as there are connections (V.2)."""
    head = (
        b"POST /v2/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    ended = asyncio.Event()

    async def dribble() -> None:
        while not ended.is_set():
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", service.ports[0])
                writer.write(head)
                while not ended.is_set() and not writer.is_closing():
                    writer.write(b"a" * 256)
                    await writer.drain()
                    await asyncio.sleep(1)

    crowd = [asyncio.create_task(dribble()) for _ in range(CROWD)]
    await asyncio.sleep(2)
    answers: Counter[int | str] = Counter()
    for _ in range(VICTIMS):
        async with client(service, VICTIM) as victim:
            try:
                answers[(await victim.get("/v2/jobs")).status_code] += 1
            except httpx2.TransportError as error:
                answers[type(error).__name__] += 1
        await asyncio.sleep(0.5)
    ended.set()
    await asyncio.wait(crowd)
    return f"the victim's {VICTIMS} requests: {dict(answers)}"


async def clips(service: Service, root: Path) -> str:
    """Eight clips of 100 MiB that are fetched and not read (V.3)."""
    folder = root / "clips"
    folder.mkdir(exist_ok=True)
    clip = synth.write(folder / "small.mp4")
    padding = (PADDING_BYTES + 8).to_bytes(4, "big") + b"free" + bytes(PADDING_BYTES)
    (folder / "large.mp4").write_bytes(clip.read_bytes() + padding)
    os.sync()
    free = shutil.disk_usage(root).free
    with serving(folder) as origin:
        body = json.dumps({"video": f"{origin}/large.mp4"}).encode()
        head = (
            f"POST /v2/playground/clip HTTP/1.1\r\nHost: a\r\napi_token: {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        open_ones = [await asyncio.open_connection("127.0.0.1", service.ports[0]) for _ in range(8)]
        for _, writer in open_ones:
            writer.write(head + body)
        heads = [await reader.readline() for reader, _ in open_ones]
        await asyncio.sleep(3)
        taken = free - shutil.disk_usage(root).free
        async with client(service, VICTIM) as victim:
            shown = await victim.post("/v2/playground/clip", json={"video": f"{origin}/small.mp4"})
            made = await victim.post(MASK_PATH, json={"video": f"{origin}/small.mp4"})
        for _, writer in open_ones:
            writer.close()
    told = dict(Counter(line.decode().split(" ")[1] for line in heads))
    return (
        f"{max(taken, 0) / (1 << 20):.0f} MiB of the disk taken; told {told};"
        f" the victim's clip {shown.status_code}, job {made.status_code}"
    )


async def previews(service: Service, _root: Path) -> str:
    """Previews of as many points as are legal, six at once (V.6)."""
    picture = np.random.default_rng(7).integers(0, 255, (144, 192, 3), np.uint8)
    text = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()

    async def preview(speaker: httpx2.AsyncClient, points: int) -> tuple[str, float]:
        hints = [{"type": "point", "x": 3 * number, "y": number} for number in range(points)]
        began = time.monotonic()
        body = {"picture": text, "hints": hints, "quality": "fast"}
        answer = await speaker.post("/v2/video/segment/preview", json=body)
        error = answer.json().get("error", {})
        return f"{answer.status_code} {error.get('reason', '')}".strip(), time.monotonic() - began

    async with client(service) as attacker, client(service, VICTIM) as victim:
        many, _ = await preview(attacker, 64)
        attack = [asyncio.create_task(preview(attacker, 16)) for _ in range(6)]
        await asyncio.sleep(1)
        theirs = [await preview(victim, 1) for _ in range(3)]
        told = Counter(status for status, _ in await asyncio.gather(*attack))
    waits = ", ".join(f"{status} after {seconds:.1f} s" for status, seconds in theirs)
    return f"64 points: {many}; 16: {dict(told)}; the victim's: {waits}"


async def forms(service: Service, _root: Path) -> str:
    """Forms and what comes by them, 64 KiB each, from ten connections (a flood)."""
    told: Counter[int] = Counter()

    async def flood() -> None:
        async with client(service) as attacker:
            for _ in range(20):
                answer = await attacker.post("/v2/video/upload", json={"media_type": "video/mp4"})
                told[answer.status_code] += 1
                if answer.is_success:
                    sent = await attacker.post(
                        "/v2/uploads",
                        data=answer.json()["result"]["upload_fields"],
                        files={"file": ("a.mp4", bytes(64 << 10), "video/mp4")},
                    )
                    told[sent.status_code] += 1

    await asyncio.gather(*(flood() for _ in range(10)))
    return f"told {dict(told)}"


async def full(service: Service, root: Path) -> str:
    """A disk that takes a mask and not the network's results, which are kept beside it (V.4)."""
    folder = root / "full"
    folder.mkdir()
    synth.write(folder / "clip.mp4")
    limited = (
        f"import resource as r, runpy; r.setrlimit(r.RLIMIT_FSIZE, 2 * ({MOST_FILE_BYTES},));"
        "runpy.run_module('foremask', run_name='__main__')"
    )
    words = (sys.executable, "-c", limited, "worker")
    worker = Member("worker", words, environment(service.settings, dict(os.environ)))
    working = asyncio.create_task(worker.run())
    try:
        with serving(folder) as origin:
            async with client(service) as attacker:
                made = await attacker.post(MASK_PATH, json={"video": f"{origin}/clip.mp4"})
                path = f"/v2/status/{made.json()['request_id']}"
                said = (await attacker.get(path)).json()
                while said["status"] == "IN_PROGRESS":  # a service has no events
                    await asyncio.sleep(0.5)
                    said = (await attacker.get(path)).json()
    finally:
        working.cancel()
        await asyncio.wait({working})
    return f"the job: {said['status']} {said.get('error', {}).get('reason', '')}".strip()


async def titles(service: Service, root: Path) -> str:
    """Titles of sound in Latin-1 and of three megabytes (V.5, M3)."""
    folder = root / "titles"
    folder.mkdir()
    with serving(folder) as origin:
        told: list[str] = []
        for name, title in (("latin", "Caf\udce9"), ("long", 3_000_000 * "a")):
            tone = synth.Tone(codec="opus", title=title)
            synth.write(folder / f"{name}.webm", synth.Spec(codec="vp9", sound=(tone,)))
            async with client(service) as attacker:
                body = {"video": f"{origin}/{name}.webm"}
                answer = await attacker.post(MASK_PATH, json=body)
            told.append(f"{name}: {answer.status_code}, {len(answer.content)} bytes")
    return "; ".join(told)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (bodies, slow, clips, full, titles, previews, forms)
}


async def against(port: int, root: Path) -> None:
    """All that need only a port, at once, again and again."""
    service = cast(Service, SimpleNamespace(ports=[port]))

    async def again(attack: Attack) -> None:
        while True:
            try:
                print(f"{attack.__name__}: {await attack(service, root)}", flush=True)
            except (httpx2.TransportError, OSError, ValueError) as error:
                print(f"{attack.__name__}: {type(error).__name__}", flush=True)
                await asyncio.sleep(0.1)

    await asyncio.gather(*(again(each) for each in (slow, clips, previews, forms, bodies)))


async def main() -> None:
    """Those that are named, or all; with a port, those of `against`."""
    if sys.argv[1:2] and sys.argv[1].isdigit():
        await against(int(sys.argv[1]), Path(sys.argv[2]))
    for name in sys.argv[1:] or ATTACKS:
        attack = ATTACKS[name]
        with workplace() as root:
            async with running(root, connections=CONNECTIONS) as service:
                async with open_database(service.postgres.url) as database:
                    await create_token(database, name, secret=VICTIM)
                    await give_plenty(database)
                found = await attack(service, root)
        print(f"| {name} | {(attack.__doc__ or '').splitlines()[0]} | {found} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
