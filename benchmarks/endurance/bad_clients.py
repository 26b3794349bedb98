"""Silent, dribbling and nonsense connections against a running service on this machine.

``python -m benchmarks.endurance.bad_clients PORT PID [SECONDS]``: PID is the API process, whose
memory is read. 2000 silent and 500 dribbling connections are kept for SECONDS (60), each opened
again when it is closed; then 5000 nonsense requests are sent.
"""

import asyncio
import contextlib
import random
import resource
import statistics
import sys
import time
from pathlib import Path

SILENT, DRIBBLING, REQUESTS, AT_ONCE = 2000, 500, 5000, 32
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
PIECES = (
    b"GET ", b"POST ", b"HEAD ", b"BREW ", b"/healthz", b"/v2/video/probe", b"//v2/status/%00",
    b"*", b" HTTP/1.1\r\n", b" HTTP/2.0\r\n", b"\r\n", b"\n", b"\0", b"Host: a\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"5\r\nhello\r\n", b"zz\r\n", b"0\r\n\r\n", b"{}",
    b"Content-Type: application/json\r\n", b"api_token: x\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"\xff\xfe", b"Range: bytes=9-1\r\n", b": \r\n",
    b"a" * 20_000, b"b: " + b"c" * 70_000 + b"\r\n",
)  # fmt: skip


def memory_mib(pid: int) -> float:
    """What the process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def keep(port: int, until: float, *, dribble: bool) -> None:
    """One connection, opened again whenever it ends."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if dribble:
                writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
            while time.monotonic() < until:
                try:
                    async with asyncio.timeout(1.0):
                        if not await reader.read(4096):
                            break
                except TimeoutError:
                    if dribble:
                        writer.write(b"a")
            writer.close()
        await asyncio.sleep(0.5)


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


async def healthy(port: int) -> None:
    """Leave with an error unless the service answers."""
    heard = await ask(port, HEALTH)
    if b" 200 OK" not in heard:
        sys.exit(f"/healthz answered {heard[:200]!r}")


async def crowd(port: int, pid: int, seconds: float) -> None:
    """The crowd, and how soon /healthz is answered meanwhile."""
    until = time.monotonic() + seconds
    before = memory_mib(pid)
    kept = [
        asyncio.create_task(keep(port, until, dribble=number >= SILENT))
        for number in range(SILENT + DRIBBLING)
    ]
    waits, memory = [], []
    while time.monotonic() < until:
        began = time.monotonic()
        await healthy(port)
        waits.append(1000 * (time.monotonic() - began))
        memory.append(memory_mib(pid))
        await asyncio.sleep(0.05)
    await asyncio.gather(*kept)
    cuts = statistics.quantiles(waits, n=100)
    half = len(memory) // 2
    print(
        f"/healthz {len(waits)} reads: median {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms,"
        f" most {max(waits):.1f} ms"
    )
    first, second = max(memory[:half]), max(memory[half:])
    print(f"memory in MiB: {before:.0f} before, {first:.0f} in the first half, {second:.0f} later")


async def fuzz(port: int, pid: int) -> None:
    """Pieces of HTTP in any order; none may bring a 500 or a trace."""
    draw, wrong, gate = random.Random(7), [], asyncio.Semaphore(AT_ONCE)  # noqa: S311
    reported: dict[bytes, int] = {}

    async def one(sent: bytes) -> None:
        async with gate:
            heard = await ask(port, sent)
        reported[heard[9:12]] = reported.get(heard[9:12], 0) + 1
        if b"HTTP/1.1 500" in heard or b"Traceback" in heard:
            wrong.append((sent[:200], heard[:300]))

    await asyncio.gather(
        *(one(b"".join(draw.choices(PIECES, k=draw.randint(1, 12)))) for _ in range(REQUESTS))
    )
    await healthy(port)
    print(
        f"{REQUESTS} raw requests: {dict(sorted(reported.items()))}, {len(wrong)} wrong,"
        f" memory {memory_mib(pid):.0f} MiB"
    )
    if wrong:
        print(*wrong[:5], sep="\n")
        sys.exit(1)


def main() -> None:
    """Both, one after the other."""
    port, pid, *rest = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(crowd(int(port), int(pid), float(rest[0]) if rest else 60.0))
    asyncio.run(fuzz(int(port), int(pid)))


if __name__ == "__main__":
    main()
