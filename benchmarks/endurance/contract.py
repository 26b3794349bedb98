"""Sends a running service all requests that its OpenAPI document allows, and malformed HTTP.

``python -m benchmarks.endurance.contract URL TOKEN [--seconds 600] [--examples 100] [--raw 5000]``
runs schemathesis, then sends pieces of HTTP in random order. An answer fails if it is a 500,
contains a traceback, or is not in the document. The token needs high limits: `foremask token
create --rate-per-minute 1000000 --concurrent 1000000`.
"""

import random
import re
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.machine import run

# An answer that says no is right too: a made-up URL leads to no video, a made-up id to no job.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 403, 404, 413, 415, 416, 422, 429]
"""
SEED = 19
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


def examine(url: str, token: str, *, examples: int, seconds: int) -> tuple[int, str]:
    """Run all checks of schemathesis for about ``seconds``; return the cases and the failures."""
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
    return cases, done.stdout + done.stderr if done.returncode else ""


def ask(port: int, sent: bytes) -> bytes:
    heard = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        while block := raw.recv(65_536):
            heard += block
    return heard


def try_raw(port: int, count: int) -> list[str]:
    """Send pieces of HTTP in random order; return the wrong answers."""
    dice = random.Random(SEED)  # noqa: S311
    sent = [b"".join(dice.choices(PIECES, k=dice.randint(1, 12))) for _ in range(count)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        heard = list(threads.map(partial(ask, port), sent))
    wrong = [
        f"{ours[:200]!r}: {theirs[:300]!r}"
        for ours, theirs in zip(sent, heard, strict=True)
        if b"HTTP/1.1 500" in theirs or b"Traceback" in theirs
    ]
    answers = Counter(each[9:12] for each in heard)
    print(f"{count} raw requests: {dict(sorted(answers.items()))}, {len(wrong)} wrong")
    return wrong


def main(
    url: str, token: str, /, *, seconds: int = 600, examples: int = 100, raw: int = 5000
) -> int:
    cases, failures = examine(url, token, examples=examples, seconds=seconds)
    print(f"{cases} cases, {failures or 'no failure'}")
    wrong = try_raw(urlsplit(url).port or 80, raw)
    print(*wrong[:10], sep="\n")
    return int(bool(wrong or failures))


if __name__ == "__main__":
    run(main, __doc__)
