"""Starts the real service on loopback for a measurement, and serves clips to it."""

import asyncio
import ipaddress
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tests.support.http_server import free_port
from tests.support.patience import PATIENCE_S
from tests.support.programs import children

from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import TokenLimits
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.run.serve import Member, environment, prepare
from foremask.settings import Settings, variable

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-for-one-measurement"  # noqa: S105
MASK_PATH = "/v2/video/segment/foreground_mask"
MOST_KEPT = 1.1  # of the memory before, when a load is over
PLENTY = TokenLimits(rate_per_minute=6_000_000, burst=1_000_000, concurrent=1_000_000)


@dataclass(frozen=True, slots=True)
class Service:
    settings: Settings
    postgres: EmbeddedPostgres
    database: Database
    api: Member
    workers: list[Member]

    @property
    def port(self) -> int:
        return self.settings.port


def pid(member: Member) -> int | None:
    process = member.process
    return process.pid if process and process.returncode is None else None


def memory_mib(member: Member) -> float:
    """The resident memory of a process, or 0 if it does not run."""
    return _resident_mib(pid(member))


def family_mib(member: Member) -> float:
    """The resident memory of a process and its children, of which some may just have ended."""
    return memory_mib(member) + sum(map(_resident_mib, children(pid(member) or 0)))


def _resident_mib(process: int | None) -> float:
    with suppress(OSError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return 0.0


def caller_of(port: int, token: str = TOKEN, timeout_s: float = 120) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"api_token": token},
        timeout=timeout_s,
        trust_env=False,
        limits=httpx2.Limits(),
    )


@contextmanager
def workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="foremask-bench-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        root.chmod(0o755)
        yield root


@asynccontextmanager
async def running(
    root: Path,
    *,
    workers: int = 0,
    slots: int = 1,
    plenty: bool = True,
    objects_url: str | None = None,
    streams: int = 1,
    max_frames: int = 7200,
) -> AsyncIterator[Service]:
    """Yield a service below ``root`` whose API is ready; a process that dies is started again.

    With ``plenty``, no token has limits.
    """
    postgres = EmbeddedPostgres(root)
    postgres.start()
    settings = Settings(
        data_dir=root,
        database_url=postgres.url,
        objects_url=objects_url or (root / "objects").absolute().as_uri(),
        port=free_port(),
        allow_private=(ipaddress.ip_network("127.0.0.0/8"),),
        bootstrap_token=TOKEN,
        connections=2000,
        streams=streams,
        max_frames=max_frames,
    )
    async with AsyncExitStack() as stack:
        stack.callback(postgres.stop)
        await prepare(settings, print)
        database = await stack.enter_async_context(Database(postgres.url, patience_s=60.0))
        environ = environment(settings, {**os.environ, "PYTHONPATH": str(ROOT)})
        command = (sys.executable, "-m", "benchmarks.member")
        words = (*command, "worker", str(slots))
        own = {variable("data_dir"): str(root / "api")}
        service = Service(
            settings,
            postgres,
            database,
            api=Member("api", (*command, "api"), environ | own),
            workers=[Member(f"worker-{n}", words, environ) for n in range(workers)],
        )
        watching = [asyncio.create_task(m.run()) for m in (service.api, *service.workers)]
        watching.append(asyncio.create_task(postgres.watch()))
        try:
            await _ready(service.port)
            if plenty:
                await database.all(
                    "update tokens set rate_per_minute = 6000000, burst = 1000000,"
                    " concurrent = 1000000"
                )
            yield service
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


async def _ready(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S), caller_of(port) as client:
        while True:
            with suppress(httpx2.TransportError):
                if (await client.get("/readyz")).is_success:
                    return
            await asyncio.sleep(0.1)


def quantiles(values: Sequence[float], *shares: float, digits: int = 2) -> list[float]:
    if len(values) < 2:
        return []
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return [round(cuts[round(100 * share) - 1], digits) for share in shares]
