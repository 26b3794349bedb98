"""A database server that is stopped by SIGSTOP, as a hung disk or a frozen machine looks."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from foremask.service.jobs.schema import migrate
from tests.service.api.conftest import running
from tests.service.api.patient import http
from tests.service.api.test_decisions import PATH, assert_refused
from tests.support.patience import wait_until
from tests.support.postgres import started

pytestmark = pytest.mark.postgres


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


@contextmanager
def stopped(pid: int) -> Generator[None]:
    halted = family(pid)
    for each in halted:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in halted:
            os.kill(each, signal.SIGCONT)


def test_a_database_that_has_stopped_is_told_within_seconds(tmp_path: Path) -> None:
    """/readyz within 3 s, calls within 5 s with 503 and Retry-After, many at once."""
    with tempfile.TemporaryDirectory(prefix="foremask-stop-") as name:
        root = Path(name)
        root.chmod(0o755)
        with started(root) as server:
            asyncio.run(migrate(server.url))
            with running(server.url, tmp_path) as service:
                body = {"video": "http://example.com/a.mp4"}

                def ask(number: int) -> httpx.Response:
                    kind = number % 3
                    if kind == 0:
                        return http.get(f"{service.url}/readyz")
                    if kind == 1:
                        return http.post(service.url + PATH, json=body, headers=service.headers)
                    return http.get(f"{service.url}/v2/status/none", headers=service.headers)

                assert server.pid is not None
                with stopped(server.pid), ThreadPoolExecutor(12) as threads:
                    for _ in range(2):
                        for number, answer in enumerate(threads.map(ask, range(12))):
                            assert answer.status_code == 503, answer.text
                            if number % 3 == 0:
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
