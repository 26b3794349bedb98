"""Sends the requests of a hostile caller, all kinds at once, until the process is killed.

``python -m benchmarks.speed.fairness --hostile`` runs it while another token submits clips.
Standard error gets a line with the answers to each kind of attack.
"""

import asyncio
import base64
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import cv2
import httpx2
import numpy as np
from tests.support import synth
from tests.support.http_server import serving_files

from benchmarks.service import MASK_PATH, TOKEN, caller_of

CROWD = 120
DRIBBLE_S = 10
PADDING_BYTES = 100 << 20


async def bodies(port: int, _: Path) -> object:
    """Send JSON that is slow to decode: 32,000 keys, 1 MiB of zeros, one string of 1 MiB."""
    keys = [b'"%d":0' % number for number in range(32_000)]
    sent = [
        b"{" + b",".join([*keys, keys[-1]]) + b"}",
        b'{"a":[' + b"0," * 520_000 + b"0]}",
        b'{"a":"' + b"," * 1_040_000 + b'"}',
    ]
    told: Counter[str] = Counter()
    json_type = {"content-type": "application/json"}
    async with caller_of(port) as attacker:
        for body in 5 * sent:
            answer = await attacker.post(MASK_PATH, content=body, headers=json_type)
            told[answer.json()["error"]["reason"]] += 1
    return dict(told)


async def slow(port: int, _: Path) -> object:
    head = (
        b"POST /v2/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    begun = 0

    async def dribble() -> None:
        nonlocal begun
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                begun += 1
                writer.write(head)
                while not writer.is_closing():
                    writer.write(b"a" * 256)
                    await writer.drain()
                    await asyncio.sleep(1)

    crowd = [asyncio.create_task(dribble()) for _ in range(CROWD)]
    await asyncio.sleep(DRIBBLE_S)
    for each in crowd:
        each.cancel()
    await asyncio.wait(crowd)
    return f"{begun} connections by {CROWD}"


async def clips(port: int, root: Path) -> object:
    """Request eight clips of 100 MiB at once, and do not read them."""
    folder = root / "clips"
    folder.mkdir(exist_ok=True)
    clip = synth.write(folder / "small.mp4")
    padding = (PADDING_BYTES + 8).to_bytes(4, "big") + b"free" + bytes(PADDING_BYTES)
    (folder / "large.mp4").write_bytes(clip.read_bytes() + padding)
    with serving_files(folder) as origin:
        body = json.dumps({"video": f"{origin}/large.mp4"}).encode()
        head = (
            f"POST /v2/playground/clip HTTP/1.1\r\nHost: a\r\napi_token: {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in open_ones:
            writer.write(head + body)
        heads = [await reader.readline() for reader, _ in open_ones]
        await asyncio.sleep(3)
        for _, writer in open_ones:
            writer.close()
    return dict(Counter(line.decode()[9:12] for line in heads))


async def previews(port: int, _: Path) -> object:
    """Ask for six previews at once, each with as many points as are allowed."""
    picture = np.random.default_rng(7).integers(0, 255, (144, 192, 3), np.uint8)
    text = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
    hints = [{"type": "point", "x": 3 * number, "y": number} for number in range(16)]
    body = {"picture": text, "hints": hints, "quality": "fast"}
    async with caller_of(port) as attacker:
        asked = (attacker.post("/v2/video/segment/preview", json=body) for _ in range(6))
        return dict(Counter(each.status_code for each in await asyncio.gather(*asked)))


def play(port: int, root: Path) -> None:
    asyncio.run(_all(port, root))


async def _all(port: int, root: Path) -> None:
    async def again(attack: Callable[[int, Path], Awaitable[object]]) -> None:
        while True:
            try:
                print(f"{attack.__name__}: {await attack(port, root)}", file=sys.stderr)
            except (httpx2.TransportError, OSError, ValueError) as error:
                print(f"{attack.__name__}: {type(error).__name__}", file=sys.stderr)
                await asyncio.sleep(0.1)

    await asyncio.gather(*(again(each) for each in (slow, clips, previews, bodies)))
