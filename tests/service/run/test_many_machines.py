"""Two API hosts and three workers share only a PostgreSQL over TCP and an S3 server."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from foremask.service.jobs import records
from foremask.service.jobs.database import Database
from foremask.service.jobs.records import Attempt
from tests.service.api import clip_server
from tests.service.api.conftest import http
from tests.support import synth
from tests.support.hosts import WORKER, Hosts, connected
from tests.support.http_server import answers, free_port
from tests.support.patience import wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SUBMIT = "/v2/video/segment/foreground_mask"
FRAMES = {"short.mp4": 25, "long.mp4": 220}  # at 10 fps: the long one is cut


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("clips")
    for name, frames in FRAMES.items():
        synth.write(folder / name, synth.Spec(pts=tuple(range(0, 3000 * frames, 3000))))
    with clip_server.serving(folder) as address:
        yield address


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    root = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    with connected(root) as made:
        yield made
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def apis(hosts: Hosts) -> Iterator[list[httpx.Client]]:
    hosts.run("migrate")
    token = hosts.run("token", "create", "--burst", "1000").strip()
    ports = [free_port(), free_port()]
    public = f"http://127.0.0.1:{ports[0]}"
    for number, port in enumerate(ports):
        hosts.start(
            f"api-{number}", "foremask", "api", "--port", str(port), FOREMASK_PUBLIC_URL=public
        )
    with ExitStack() as stack:
        headers = {"api_token": token}
        client = partial(httpx.Client, headers=headers, timeout=120)
        clients = [
            stack.enter_context(client(base_url=f"http://127.0.0.1:{port}")) for port in ports
        ]
        for port in ports:
            wait_until(partial(answers, f"http://127.0.0.1:{port}/readyz"))
        yield clients


def _history(hosts: Hosts, request_id: str) -> list[Attempt]:
    async def ask() -> list[Attempt]:
        async with Database(hosts.database_url, connections=1) as database:
            return await records.history(database, request_id)

    return asyncio.run(ask())


def pid_of(worker: str) -> int:
    """The process of a worker by its name: host/pid-random."""
    return int(worker.partition("/")[2].partition("-")[0])


def test_hosts_that_share_two_urls_are_one_service(
    hosts: Hosts, apis: list[httpx.Client], clips: str, tmp_path: Path
) -> None:
    workers = [hosts.start(f"worker-{number}", *WORKER) for number in range(3)]
    jobs: dict[str, str] = {}
    for number, name in enumerate(["long.mp4", "short.mp4"] * 3):
        answer = apis[number % 2].post(SUBMIT, json={"video": f"{clips}/{name}"})
        assert answer.status_code == 202, answer.text
        jobs[answer.json()["request_id"]] = name
    long = [job for job, name in jobs.items() if name == "long.mp4"]

    def held() -> int | None:
        attempts = [each for job in long for each in _history(hosts, job)]
        busy = [a.worker for a in attempts if a.stage == "segment" and not a.ended_at]
        return pid_of(busy[0]) if busy and busy[0] else None

    victim = wait_until(held)
    next(each for each in workers if each.pid == victim).send_signal(signal.SIGKILL)
    for number, (job, name) in enumerate(jobs.items()):

        def done(reader: httpx.Client = apis[(number + 1) % 2], job: str = job) -> Any:  # noqa: ANN401
            body = reader.get(f"/v2/status/{job}").json()
            return body if body["status"] != "IN_PROGRESS" else None

        body = wait_until(done)
        assert body["status"] == "COMPLETED", body
        mask = tmp_path / "mask.mp4"
        url = body["result"]["video_url"]
        assert url.startswith(hosts.store["AWS_ENDPOINT"])
        mask.write_bytes(http.get(url).content)
        with av.open(str(mask)) as container:
            assert sum(1 for _ in container.decode(video=0)) == FRAMES[name]
    attempts = [each for job in jobs for each in _history(hosts, job)]
    assert len({each.worker for each in attempts}) == 3
    lost = [each for each in attempts if each.outcome == "lost"]
    assert {pid_of(each.worker) for each in lost if each.worker} == {victim}


def test_an_upload_through_one_api_is_a_clip_for_the_other(
    hosts: Hosts, apis: list[httpx.Client], clips: str
) -> None:
    """Links are signed with a key that lies in the store."""
    form = apis[0].post("/v2/video/upload", json={"media_type": "video/mp4"}).json()["result"]
    content = http.get(f"{clips}/short.mp4").content
    sent = apis[1].post(
        "/v2/uploads",
        data=form["upload_fields"],
        files={"file": ("clip.mp4", content, "video/mp4")},
    )
    assert sent.status_code == 204, sent.text
    probed = apis[1].post("/v2/video/probe", json={"video": form["file_url"]})
    assert probed.json()["result"]["frames"] == FRAMES["short.mp4"]
