"""The real API in a process of its own over the real PostgreSQL, and an origin of clips."""

import asyncio
import dataclasses
import ipaddress
import multiprocessing
import multiprocessing.context
import resource
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, LiteralString

import httpx
import msgspec
import pytest

from foremask.service.jobs.database import Database, Row
from foremask.service.jobs.tokens import TokenLimits, create_token
from foremask.service.storage.objects import Objects, open_objects
from foremask.settings import Settings
from tests.service.api import clips
from tests.service.api.process import run_with
from tests.support.http_server import answers, free_port
from tests.support.patience import PATIENCE_S, PATIENT, wait_until

http = httpx.Client(timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0))
"""Waits for as long as the service may take, on slow machines too."""
TOKEN = "a-known-token-for-tests"
PATH = "/v2/video/segment/foreground_mask"
PLENTY = TokenLimits(rate_per_minute=600_000, burst=100_000, concurrent=100_000)
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
STARTS = {"sandbox.pool.START_S": PATIENCE_S}  # a busy machine takes minutes to start a child


@dataclasses.dataclass(frozen=True)
class Running:
    url: str
    settings: Settings
    database_url: str
    process: multiprocessing.context.SpawnProcess
    token: str = TOKEN

    @property
    def memory_bytes(self) -> int:
        """The resident memory of the API's process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def headers(self) -> dict[str, str]:
        return {"api_token": self.token}

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[Database]:
        async with Database(self.database_url, **PATIENT) as database:
            yield database

    def ask[T](self, question: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        async def work() -> T:
            async with self.database() as database:
                return await question(database)

        with ThreadPoolExecutor(1) as thread:  # beside an open browser, ours has a loop already
            return thread.submit(asyncio.run, work()).result()

    def sql(self, statement: LiteralString, *params: object) -> list[Row]:
        return self.ask(lambda database: database.all(statement, params))

    async def objects(self) -> Objects:
        return await open_objects(self.settings.store_url, self.settings.base_url)

    def new_token(self, limits: TokenLimits = PLENTY, secret: str | None = None) -> dict[str, str]:
        made, _ = self.ask(lambda database: create_token(database, "test", limits, secret=secret))
        return {"api_token": made}


@contextmanager
def running(
    database_url: str,
    data_dir: Path,
    constants: Mapping[str, float] | None = None,
    **changes: object,
) -> Generator[Running]:
    usual = Settings(data_dir=data_dir, port=free_port(), database_url=database_url)
    settings = msgspec.structs.replace(usual, **{"allow_private": LOOPBACK} | changes)
    process = multiprocessing.get_context("spawn").Process(
        target=run_with, args=(settings, STARTS | dict(constants or {}))
    )
    process.start()
    service = Running(settings.base_url, settings, database_url, process)
    try:
        service.new_token(secret=TOKEN)

        def ready() -> bool:
            assert process.is_alive(), "the API ended"
            return answers(f"{service.url}/readyz")

        wait_until(ready)
        yield service
    finally:
        process.terminate()
        process.join(120)
        assert process.exitcode is not None, "the API did not stop"


def serves(
    constants: Mapping[str, float] | None = None, *, own_model: bool = False, **changes: object
) -> Any:  # noqa: ANN401
    @pytest.fixture(scope="module")
    def api(
        database_url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
    ) -> Generator[Running]:
        own = {"model_file": request.getfixturevalue("model")} if own_model else {}
        data = tmp_path_factory.mktemp("data")
        with running(database_url, data, constants, **changes, **own) as made:
            yield made

    return api


service = serves()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, draw in clips.DRAWN.items():
        draw(folder / name)
    return folder


@pytest.fixture(scope="session")
def clip_origin(drawn: Path) -> Generator[str]:
    with clips.serving(drawn) as address:
        yield address


@pytest.fixture
def client(service: Running) -> Generator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers=service.headers, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="session")
def good(clip_origin: str) -> str:
    return f"{clip_origin}/good.mp4"


@pytest.fixture
def job(client: httpx.Client, good: str) -> dict[str, str]:
    made: dict[str, str] = client.post(PATH, json={"video": good}).json()
    return made


def post(
    service: Running, path: str, headers: Mapping[str, str] | None = None, **body: object
) -> httpx.Response:
    return http.post(service.url + path, json=body, headers=headers or service.headers)


def assert_refused(
    answer: httpx.Response, code: int, reason: str, param: str | None = None
) -> dict[str, Any]:
    body = answer.json()
    assert (answer.status_code, body["error"]["reason"]) == (code, reason), body
    assert answer.headers["content-type"] == "application/json"
    if reason == "request_unknown":
        assert body.pop("status") == "NOT_FOUND"
    assert set(body) == {"request_id", "error"}
    assert body["request_id"] == answer.headers["x-request-id"]
    error: dict[str, Any] = body["error"]
    assert error["code"] == code
    assert error["message"] == HTTPStatus(code).phrase
    assert len(error["details"]) > 10
    assert set(error) <= {"code", "message", "details", "reason", "param", "limit", "actual"}
    if param is not None:
        assert error["param"] == param
    return error
