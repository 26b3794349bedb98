"""Send a running service everything that its document allows, and much that it does not.

``python -m benchmarks.endurance.contract URL TOKEN [--seconds 600] [--examples 100] [--hints 2000]
[--raw 5000] [--video URL]``: schemathesis tries the OpenAPI document, then come hints of every kind
of nonsense, then pieces of HTTP in any order. No answer may be a 500, hold a trace, or be outside
the document. Give it a token with high limits (`foremask token create --rate-per-minute 1000000
--concurrent 1000000`), and the URL of a clip that the service can read.
"""

import asyncio
import base64
import contextlib
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np

from benchmarks.machine import options

# An answer that says no is right too: a made-up URL leads to no video, a made-up id to no job.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 403, 404, 413, 415, 416, 422, 429]
"""
SEED = 19
WIDTH, HEIGHT = 96, 64
JOB = "00000000-0000-4000-8000-000000000000"
NUMBERS: list[Any] = [0, 1, 5, 47, 48, 63, 64, 95, 96, -1, 0.5, 1e308, -1e308, 10**40, 2**63]
ODD: list[Any] = [None, True, "", "5", "NaN", [], {}, [0], {"x": 0}, "\0", "é" * 300]
NAMES = ("x", "y", "width", "height", "frame", "time_s", "negative", "png", "type", "unknown")
AT_ONCE = 32
PIECES = (
    b"GET ", b"POST ", b"HEAD ", b"BREW ", b"/healthz", b"/v2/video/probe", b"//v2/status/%00",
    b"*", b" HTTP/1.1\r\n", b" HTTP/2.0\r\n", b"\r\n", b"\n", b"\0", b"Host: a\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"5\r\nhello\r\n", b"zz\r\n", b"0\r\n\r\n", b"{}",
    b"Content-Type: application/json\r\n", b"api_token: x\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"\xff\xfe", b"Range: bytes=9-1\r\n", b": \r\n",
    b"a" * 20_000, b"b: " + b"c" * 70_000 + b"\r\n",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of it; ``report`` is what schemathesis printed."""

    passed: bool
    cases: int
    report: str


def examine(url: str, token: str, *, examples: int, seconds: int) -> Examined:
    """Every check of schemathesis, for at most about ``seconds``."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(CONFIG)
        config.flush()
        command = [
            str(Path(sys.executable).parent / "schemathesis"),
            f"--config-file={config.name}",
            *("run", f"{url}/openapi.json", "-H", f"api_token: {token}"),
            *("--checks", "all", "--phases", "coverage,fuzzing", "--continue-on-failure"),
            *("-n", str(examples), "--max-time", str(seconds)),
            *("--suppress-health-check", "all", "--request-timeout", "30", "--warnings", "off"),
            "--generation-deterministic",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())  # noqa: S603
    counted = re.search(r"(\d+) generated", done.stdout)
    cases = int(counted[1]) if counted else 0
    return Examined(done.returncode == 0, cases, done.stdout + done.stderr)


def picture(dice: random.Random) -> str:
    """A small PNG in base64, with something red in it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    cv2.circle(pixels, (dice.randrange(WIDTH), dice.randrange(HEIGHT)), 14, (30, 30, 220), -1)
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


def hint(dice: random.Random) -> Any:  # noqa: ANN401
    """A hint that is right in most of its fields, or something else altogether."""
    if dice.random() < 0.1:
        return dice.choice(ODD)
    kind = dice.choice(["point", "point", "box", "paint"])
    made: dict[str, Any] = {"type": kind}
    if kind != "paint":
        made |= {"x": dice.randrange(WIDTH), "y": dice.randrange(HEIGHT)}
    if kind == "box":
        made |= {"width": dice.randint(1, WIDTH), "height": dice.randint(1, HEIGHT)}
    if kind == "paint":
        made["png"] = dice.choice([picture(dice), picture(dice)[:80], "AAAA", ""])
    if dice.random() < 0.3:
        made["negative"] = True
    for _ in range(dice.choice([0, 0, 0, 1, 2])):
        made[dice.choice(NAMES)] = dice.choice(NUMBERS + ODD)
    if dice.random() < 0.1:
        made.pop(dice.choice(list(made)))
    return made


def call(dice: random.Random, video: str) -> tuple[str, dict[str, Any]]:
    """A path and a body."""
    hints: Any = [hint(dice) for _ in range(dice.choice([0, 1, 1, 2, 3, 64, 65]))]
    if dice.random() < 0.05:
        hints = dice.choice(ODD + NUMBERS)
    which = dice.random()
    if which < 0.5:
        body = {"picture": picture(dice), "hints": hints, "quality": dice.choice(["fast", "x", 1])}
        return "/v2/video/segment/preview", body
    if which < 0.7:
        return "/v2/video/segment/foreground_mask", {"video": video, "hints": hints}
    if which < 0.9:
        points = [hint(dice) for _ in range(dice.randint(0, 3))]
        body = {"video": video, "key_points": points, "frame_index": dice.choice(NUMBERS + ODD)}
        return "/v2/video/segment/mask_by_key_points", body
    return f"/v2/status/{JOB}/refine", {"video": video, "hints": hints}


def try_hints(url: str, token: str, video: str, count: int) -> list[str]:
    """Calls with hints; what was wrong."""
    dice, answers, wrong = random.Random(SEED), Counter[int](), []  # noqa: S311
    with httpx.Client(base_url=url, headers={"api_token": token}, timeout=60) as client:
        for _ in range(count):
            path, body = call(dice, video)
            try:
                answer = client.post(path, json=body)
            except ValueError:
                continue  # no JSON says this
            answers[answer.status_code] += 1
            if answer.status_code >= 500 or "Traceback" in answer.text:
                wrong.append(f"{path} {str(body)[:300]}: {answer.text[:300]}")
    print(f"{count} calls with hints: {dict(sorted(answers.items()))}, {len(wrong)} wrong")
    return wrong


async def ask(port: int, sent: bytes) -> bytes:
    """What comes back within 5 s."""
    heard = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(sent)
                writer.write_eof()
                while block := await reader.read(65_536):
                    heard += block
            finally:
                writer.close()
    return heard


async def try_raw(port: int, count: int) -> list[str]:
    """Pieces of HTTP in any order; what was wrong."""
    dice, wrong, gate = random.Random(SEED), list[str](), asyncio.Semaphore(AT_ONCE)  # noqa: S311
    answers: Counter[bytes] = Counter()

    async def one(sent: bytes) -> None:
        async with gate:
            heard = await ask(port, sent)
        answers[heard[9:12]] += 1
        if b"HTTP/1.1 500" in heard or b"Traceback" in heard:
            wrong.append(f"{sent[:200]!r}: {heard[:300]!r}")

    await asyncio.gather(
        *(one(b"".join(dice.choices(PIECES, k=dice.randint(1, 12)))) for _ in range(count))
    )
    print(f"{count} raw requests: {dict(sorted(answers.items()))}, {len(wrong)} wrong")
    return wrong


def main() -> int:
    """All three; 1 where anything was wrong."""
    counts = {"seconds": 600, "examples": 100, "hints": 2000, "raw": 5000}
    asked = options(__doc__, "url", "token", **counts, video="ftp://nowhere")
    examined = examine(asked.url, asked.token, examples=asked.examples, seconds=asked.seconds)
    print(examined.report)
    print(f"{examined.cases} cases, {'no failure' if examined.passed else 'FAILED'}")
    wrong = try_hints(asked.url, asked.token, asked.video, asked.hints)
    wrong += asyncio.run(try_raw(urlsplit(asked.url).port or 80, asked.raw))
    print(*wrong[:10], sep="\n")
    return int(bool(wrong) or not examined.passed)


if __name__ == "__main__":
    sys.exit(main())
