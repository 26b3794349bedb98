"""Two API hosts and three workers share only a PostgreSQL over TCP and an S3 server."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
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
from tests.support.http_server import answers, free_port
from tests.support.patience import PATIENT, wait_until
from tests.support.postgres import tcp_server
from tests.support.programs import ran
from tests.support.seaweed import s3_server

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SUBMIT = "/v2/video/segment/foreground_mask"
FRAMES = {"short.mp4": 25, "long.mp4": 220}  # at 10 fps: the long one is cut


WORKER = ("benchmarks.member", "worker")
"""A worker with everything real but the network, which costs nothing."""


@dataclass
class Hosts:
    root: Path
    database_url: str
    store: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environ(self, host: str, **more: str) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")}
        return kept | {
            **self.store,
            "FOREMASK_DATABASE_URL": self.database_url,
            "FOREMASK_OBJECTS_URL": "s3://masks/foremask",
            "FOREMASK_DATA_DIR": str(self.root / host),
            "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8,10.0.0.0/8",
            **more,
        }

    def run(self, *command: str) -> str:
        program = (sys.executable, "-m", "foremask")
        return ran(*program, *command, env=self.environ("operator")).stdout

    def start(self, host: str, *module: str, **more: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{host}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", *module],
                env=self.environ(host, **more),
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def stop(self) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            process.wait(120)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("clips")
    for name, frames in FRAMES.items():
        synth.write(folder / name, synth.Spec(pts=tuple(range(0, 3000 * frames, 3000))))
    with clip_server.serving(folder) as address:
        yield address


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """PostgreSQL on TCP and S3, the tables made, and no host yet."""
    root = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    root.chmod(0o755)
    for name in ("database", "store"):
        (root / name).mkdir()
    with tcp_server(root / "database") as url, s3_server(root / "store") as store:
        made = Hosts(root, url, store)
        made.run("migrate")
        yield made
        made.stop()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def apis(hosts: Hosts) -> Iterator[list[httpx.Client]]:
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
        async with Database(hosts.database_url, connections=1, **PATIENT) as database:
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
