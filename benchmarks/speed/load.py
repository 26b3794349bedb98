"""How many callers the API serves: submissions against their limits, status reads, rates over two processes.

``python -m benchmarks.speed.load`` starts a database, two API processes and an origin of its own,
all on the loopback, and stops them again. The client is a few lines over plain sockets: it shares
the cores with what it measures, so every number here is a lower bound.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from foremask.service.api.application import run
from foremask.service.jobs.database import Database, open_database
from foremask.service.jobs.tokens import TokenLimits, create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.settings import LogLevel, Settings
from foremask.service.worker.queue_schema import migrate

CLIENTS = 64
SUBMIT_PATH = "/v2/video/segment/foreground_mask"
PLENTY = TokenLimits(rate_per_minute=6_000_000, burst=1_000_000, concurrent=1_000_000)


class Caller:
    """One client: a connection that is kept, one request at a time."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1\r\napi_token: {token}\r\n"

    async def __aenter__(self) -> "Caller":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(
        self, method: str, path: str, body: bytes = b"", extra: str = ""
    ) -> tuple[int, bytes, float]:
        """Status, body and seconds of one exchange."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{extra}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        began = time.perf_counter()
        self._writer.write(head.encode() + b"\r\n" + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        size = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await self._reader.readexactly(size)
        return int(answer[9:12]), content, time.perf_counter() - began


@dataclasses.dataclass(frozen=True)
class Bench:
    """What was started."""

    ports: tuple[int, ...]
    database_url: str
    clip_url: str

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[Database]:
        """Its database."""
        async with open_database(self.database_url) as database:
            yield database


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=20, help="how long the rate is measured")
    options = parser.parse_args()
    with started() as bench:
        asyncio.run(_measure(bench, options.submissions, options.reads, options.seconds))


async def _measure(bench: Bench, submissions: int, reads: int, seconds: int) -> None:
    await read_many(bench, reads)
    await submit_many(bench, submissions)
    await keep_rate(bench, seconds)


async def submit_many(bench: Bench, count: int) -> None:
    """64 clients send ``count`` submissions against real limits: accepted + refused = sent = on record."""
    limits = TokenLimits(rate_per_minute=600, burst=300, concurrent=400)
    async with bench.database() as database:
        token, record = await create_token(database, "load", limits)
        body = json.dumps({"video": bench.clip_url}).encode()
        outcomes: Counter[str] = Counter()
        ids: set[str] = set()
        accepted_s: list[float] = []
        refused_s: list[float] = []

        async def one(caller: Caller) -> None:
            status, content, seconds = await caller.ask("POST", SUBMIT_PATH, body)
            reported = json.loads(content)
            outcomes["202" if status == 202 else f"{status} {reported['error']['reason']}"] += 1
            (accepted_s if status == 202 else refused_s).append(seconds)
            if status == 202:
                ids.add(reported["request_id"])

        wall_s = await _spread(bench.ports, token, count, one)
        row = await database.one("select count(*) as n from jobs where token = %s", (record.id,))
        assert row is not None  # noqa: S101
        print(f"submissions: {count} sent in {wall_s:.1f} s by {CLIENTS} clients to 2 processes")
        print(f"  {dict(outcomes)}; sum {sum(outcomes.values())}")
        print(f"  accepted {len(accepted_s)}, distinct ids {len(ids)}, jobs on record {row['n']}")
        _print_times("  accepted", accepted_s)
        _print_times("  refused", refused_s)
        await _replay(bench, body)
        assert sum(outcomes.values()) == count  # noqa: S101
        assert len(ids) == len(accepted_s) == row["n"]  # noqa: S101


async def _replay(bench: Bench, body: bytes) -> None:
    """The way of a POST without its probe: one request, sent again and again under its key."""
    async with bench.database() as database:
        token, _ = await create_token(database, "replays", PLENTY)
    times_s: list[float] = []

    async def one(caller: Caller) -> None:
        _, _, seconds = await caller.ask("POST", SUBMIT_PATH, body, "Idempotency-Key: one\r\n")
        times_s.append(seconds)

    wall_s = await _spread(bench.ports, token, 2_000, one)
    print(f"POST without a probe: {len(times_s) / wall_s:.0f}/s")
    _print_times("  each", times_s[CLIENTS:])


async def read_many(bench: Bench, count: int) -> None:
    """64 clients read the status of jobs of their own from one process, then from two."""
    async with bench.database() as database:
        token, _ = await create_token(database, "reads", PLENTY)
    body = json.dumps({"video": bench.clip_url}).encode()
    paths: list[str] = []
    async with Caller(bench.ports[0], token) as caller:
        for _ in range(CLIENTS):
            _, content, _ = await caller.ask("POST", SUBMIT_PATH, body)
            paths.append("/v2/status/" + json.loads(content)["request_id"])
    for ports in (bench.ports[:1], bench.ports):
        statuses: Counter[int] = Counter()
        times_s: list[float] = []

        async def one(
            caller: Caller, statuses: Counter[int] = statuses, times_s: list[float] = times_s
        ) -> None:
            status, _, seconds = await caller.ask("GET", paths[len(times_s) % CLIENTS])
            statuses[status] += 1
            times_s.append(seconds)

        wall_s = await _spread(ports, token, count, one)
        print(
            f"status reads from {len(ports)} process(es): {count / wall_s:.0f}/s, {dict(statuses)}"
        )
        _print_times("  each", times_s)


async def keep_rate(bench: Bench, seconds: int) -> None:
    """One token's rate over two processes: as many as are allowed get in, and no more."""
    rate_per_minute, burst = 1_200, 20
    limits = TokenLimits(rate_per_minute=rate_per_minute, burst=burst, concurrent=1_000_000)
    async with bench.database() as database:
        token, _ = await create_token(database, "rate", limits)
    admitted = 0
    stop_at = time.perf_counter() + seconds

    async def hammer(port: int) -> None:
        nonlocal admitted
        async with Caller(port, token) as caller:
            while time.perf_counter() < stop_at:
                status, _, _ = await caller.ask("POST", "/v2/video/upload", b"{}")
                admitted += status == 200
                await asyncio.sleep(0.02)

    began = time.perf_counter()
    await asyncio.gather(*(hammer(bench.ports[number % 2]) for number in range(16)))
    lasted_s = time.perf_counter() - began
    due = burst + lasted_s * rate_per_minute / 60
    off = 100 * (admitted - due) / due
    print(
        f"rate over 2 processes: {admitted} let in, {due:.1f} due in {lasted_s:.1f} s: {off:+.2f} %"
    )


async def _spread(
    ports: tuple[int, ...], token: str, count: int, one: Callable[[Caller], Awaitable[None]]
) -> float:
    """Let all clients call ``one`` until it was called ``count`` times; how long that took."""
    left = iter(range(count))

    async def client(port: int) -> None:
        async with Caller(port, token) as caller:
            for _ in left:
                await one(caller)

    began = time.perf_counter()
    await asyncio.gather(*(client(ports[number % len(ports)]) for number in range(CLIENTS)))
    return time.perf_counter() - began


def _print_times(name: str, times_s: list[float]) -> None:
    if len(times_s) < 2:
        return
    cuts = statistics.quantiles(times_s, n=100)
    print(
        f"{name}: p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms, "
        f"worst {max(times_s) * 1e3:.0f} ms"
    )


@contextmanager
def started() -> Generator[Bench]:
    """A database, two API processes over one store, and an origin with one small clip."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foremask-load-")))
        root.chmod(0o755)
        postgres = EmbeddedPostgres(root)
        postgres.start()
        stack.callback(postgres.stop)
        asyncio.run(migrate(postgres.url))
        clip_url = stack.enter_context(_origin(root))
        ports = tuple(stack.enter_context(_api(postgres.url, root, n)) for n in range(2))
        yield Bench(ports, postgres.url, clip_url)


@contextmanager
def _api(database_url: str, root: Path, number: int) -> Generator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    settings = Settings(
        data_dir=root / f"api-{number}",
        objects_url=(root / "objects").as_uri(),
        database_url=database_url,
        port=port,
        allow_private=(ipaddress.ip_network("127.0.0.0/8"),),
        log_level=LogLevel.WARNING,
    )
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(settings,))
    process.start()
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.join(15)


def _run(settings: Settings) -> None:
    from foremask.service.observability.logs import configure_logs  # in the new process

    configure_logs(settings.log_level, "api")
    run(settings)


@contextmanager
def _origin(root: Path) -> Generator[str]:
    clip = _draw(root / "clip.mp4")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-{len(clip) - 1}/{len(clip)}")
            self.send_header("Content-Length", str(len(clip)))
            self.send_header("Content-Type", "video/mp4")
            self.end_headers()
            self.wfile.write(clip)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/clip.mp4"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _draw(path: Path) -> bytes:
    """A second of grey, smaller than one block of the probe."""
    import av  # the API processes, which import this module, load no pixels

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


if __name__ == "__main__":
    main()
