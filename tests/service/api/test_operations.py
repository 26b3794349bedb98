import asyncio
import os
import signal
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from obstore.store import S3Store

from foremask.fetch.client import Outbound
from foremask.options import Limits
from foremask.service.api.application import create_app
from foremask.service.api.context import Service
from foremask.service.api.probing import Prober
from foremask.service.jobs.admission import NewJob
from foremask.service.jobs.database import Database
from foremask.service.jobs.schema import VERSION, migrate
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.sandbox import confine
from foremask.service.storage.objects import Objects, Signer, open_objects
from foremask.settings import Settings
from tests.service.api.conftest import PATH, Running, assert_refused, http, post, running
from tests.support.origin import listening
from tests.support.patience import wait_until
from tests.support.postgres import read_only, started
from tests.support.programs import children


def test_it_says_whether_it_is_alive_and_ready(service: Running) -> None:
    assert http.get(f"{service.url}/healthz").json() == {"status": "ok"}
    assert http.get(f"{service.url}/readyz").json() == {
        "status": "ready",
        "checks": {"database": "ok", "objects": "ok"},
        "sandbox": str(confine.available()),
    }


async def test_a_missing_store_or_table_is_not_ready(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    objects = await open_objects((tmp_path / "objects").as_uri(), "http://any")
    (tmp_path / "objects" / "signing-key").unlink()
    reported = await faults(postgres.url, objects, tmp_path)
    assert "signing key" in reported["objects"]
    assert reported["database"] == (
        f"the database has no tables of foremask: run `foremask migrate` for version {VERSION}"
    )


async def say_nothing(*_: object) -> None: ...


@pytest.mark.slow
async def test_a_store_that_does_not_answer_is_told_soon(tmp_path: Path) -> None:
    async with listening() as origin:
        origin.answers = defaultdict(lambda: say_nothing)
        silent = S3Store(
            "none",
            endpoint=origin.url(""),
            access_key_id="any",
            secret_access_key="any",
            client_options={"allow_http": True},
        )
        nowhere, store = f"postgresql://any@/none?host={tmp_path}", Objects(silent, Signer("", b""))
        assert await faults(nowhere, store, tmp_path) == {
            "database": "the database does not answer; nothing was lost, try again in a moment",
            "objects": "does not answer within 2 s",
        }


async def faults(database_url: str, objects: Objects, data_dir: Path) -> dict[str, str]:
    async with (
        Outbound() as outbound,
        Database(database_url, patience_s=0.0) as database,
        api_over(database, objects, outbound, data_dir) as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        reported: dict[str, str] = answer.json()["checks"]
        return reported


@asynccontextmanager
async def api_over(
    database: Database, objects: Objects, outbound: Outbound, data_dir: Path
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(data_dir=data_dir)
    parts = (settings, database, objects, outbound, NoVerdict(), Limits())
    app = create_app(Service(*parts, None, None))  # type: ignore[arg-type]  # it masks no picture
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=settings.base_url) as client:
        yield client


class NoVerdict(Prober):
    def __init__(self) -> None: ...

    async def probe(self, job: NewJob, *, now: bool = False) -> NewJob:
        return job


def test_a_database_that_refuses_writes_is_not_ready(
    service: Running, postgres: EmbeddedPostgres, good: str
) -> None:
    with read_only(postgres):
        answer = http.get(f"{service.url}/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"].startswith("the database is read-only")
        for path in (PATH, "/v2/video/upload"):
            refused = post(service, path, video=good)
            assert "read-only" in assert_refused(refused, 503, "unavailable")["details"]
            assert int(refused.headers["retry-after"]) >= 1
    assert http.get(f"{service.url}/readyz").status_code == 200
    assert post(service, PATH, video=good).status_code == 202


def test_a_signing_key_that_was_replaced_is_not_ready(service: Running) -> None:
    key = service.settings.data_dir / "objects" / "signing-key"
    kept = key.read_bytes()
    key.write_bytes(bytes(32))
    try:
        answer = http.get(f"{service.url}/readyz")
    finally:
        key.write_bytes(kept)
    assert answer.status_code == 503
    assert "another signing key" in answer.json()["checks"]["objects"]
    assert http.get(f"{service.url}/readyz").status_code == 200


def test_the_metrics_count_answers_and_jobs(service: Running, good: str) -> None:
    for path in ("/random-1", "/random-2", "/v2/status/random-3"):
        http.get(service.url + path)
    assert post(service, PATH, video=good).status_code == 202
    text = http.get(f"{service.url}/metrics").text
    assert text.startswith("# HELP foremask_")
    assert 'foremask_jobs{status="queued"}' in text
    assert 'foremask_processes{kind="api",sandbox="' in text
    assert f'method="POST",route="{PATH}",status="202"' in text
    assert 'route="/v2/status/{request_id}",status="403"' in text
    assert "random" not in text


def test_a_stop_answers_those_who_wait(database_url: str, good: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        with running(database_url, tmp_path) as other:
            headers = {**other.headers, "Idempotency-Key": "held"}
            held = threads.submit(post, other, PATH, headers, video=good, sync=True)
            on_record = "select 1 from jobs where idempotency_key = 'held'"
            wait_until(lambda: other.sql(on_record))
        assert held.result().status_code == 202


@contextmanager
def stopped(pid: int) -> Generator[None]:
    """Stop a database server by SIGSTOP: a hung disk or a frozen machine looks the same."""
    halted = [pid, *children(pid)]
    for each in halted:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in halted:
            os.kill(each, signal.SIGCONT)


@pytest.mark.postgres
def test_a_database_that_has_stopped_is_told_within_seconds(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="foremask-stop-") as name:
        root = Path(name)
        root.chmod(0o755)
        with started(root) as server:
            asyncio.run(migrate(server.url))
            with running(server.url, tmp_path) as service:
                calls = [("GET", "/readyz"), ("GET", "/v2/status/none"), ("POST", PATH)] * 4

                def ask(call: tuple[str, str]) -> httpx.Response:
                    method, path = call
                    return http.request(method, service.url + path, headers=service.headers)

                assert server.pid is not None
                with stopped(server.pid), ThreadPoolExecutor(12) as threads:
                    for _ in range(2):
                        for (_, path), answer in zip(calls, threads.map(ask, calls), strict=True):
                            if path == "/readyz":
                                assert answer.status_code == 503
                                assert "does not answer" in answer.json()["checks"]["database"]
                            else:
                                assert_refused(answer, 503, "unavailable")
                                assert int(answer.headers["retry-after"]) >= 1
                        assert http.get(f"{service.url}/healthz").status_code == 200
                    counts = http.get(f"{service.url}/metrics").text
                    assert "foremask_database_up 0.0" in counts
                    assert 'route="/v2/status/{request_id}",status="503"' in counts
                    assert "foremask_jobs{" not in counts
                wait_until(lambda: http.get(f"{service.url}/readyz").is_success)
                answer = http.get(f"{service.url}/v2/status/none", headers=service.headers)
                assert_refused(answer, 404, "request_unknown")
