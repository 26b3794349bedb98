"""Two API hosts and three workers share only a PostgreSQL over TCP and an S3 server."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av
import pytest

from foremask.service.jobs import records
from foremask.service.jobs.database import Database
from foremask.service.jobs.records import Attempt
from tests.service.api.conftest import http
from tests.support import synth
from tests.support.http_server import answers, free_port
from tests.support.patience import PATIENT, wait_until
from tests.support.postgres import open_directory, tcp_server
from tests.support.programs import environ_with, ran
from tests.support.seaweed import s3_server

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

FRAMES = {"long.mp4": 220, "short.mp4": 25}  # at 10 fps: the long clip has several segments


@dataclass
class Hosts:
    root: Path
    variables: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environ(self, host: str) -> dict[str, str]:
        return environ_with(**self.variables, FOREMASK_DATA_DIR=str(self.root / host))

    def run(self, *command: str) -> str:
        words = sys.executable, "-m", "foremask", *command
        return ran(*words, env=self.environ("operator")).stdout.strip()

    def start(self, host: str, *module: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *module]
        with (self.root / f"{host}.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environ(host), stdout=log, stderr=log)  # noqa: S603
        self.started.append(process)
        return process

    def attempts(self, jobs: Iterable[str]) -> list[Attempt]:
        async def ask() -> list[Attempt]:
            url = self.variables["FOREMASK_DATABASE_URL"]
            async with Database(url, connections=1, **PATIENT) as database:
                return [each for job in jobs for each in await records.history(database, job)]

        return asyncio.run(ask())


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with (
        open_directory() as root,
        tempfile.TemporaryDirectory() as s3,
        tcp_server(root) as url,
        s3_server(Path(s3)) as store,
    ):
        variables = {
            "FOREMASK_DATABASE_URL": url,
            "FOREMASK_OBJECTS_URL": "s3://masks/foremask",
            "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8,10.0.0.0/8",
            "FOREMASK_PUBLIC_URL": "http://masks.example.com",
        }
        made = Hosts(root, store | variables)
        yield made
        for process in made.started:
            process.terminate()
        for process in made.started:
            process.wait(120)


def uploaded(clip: Path, headers: dict[str, str], first: str, second: str) -> str:
    """Upload through the second API with a form of the first, and return the clip's URL."""
    form = http.post(f"{first}/v2/video/upload", json={}, headers=headers).json()["result"]
    files = {"file": (clip.name, clip.read_bytes(), "video/mp4")}
    sent = http.post(f"{second}/v2/uploads", data=form["upload_fields"], files=files)
    assert sent.status_code == 204, sent.text
    return str(form["file_url"])


def pid_of(worker: str) -> int:
    """Return the process in a worker's name, which is host/pid-random."""
    return int(worker.partition("/")[2].partition("-")[0])


def test_hosts_that_share_two_urls_are_one_service(hosts: Hosts, tmp_path: Path) -> None:
    hosts.run("migrate")
    headers = {"api_token": hosts.run("token", "create", "--burst", "1000")}
    apis: list[str] = []
    for number, port in enumerate((free_port(), free_port())):
        hosts.start(f"api-{number}", "foremask", "api", "--port", str(port))
        apis.append(f"http://127.0.0.1:{port}")
        wait_until(partial(answers, f"{apis[-1]}/readyz"))
    # With a network that costs nothing; everything else is real.
    workers = [hosts.start(f"worker-{n}", "benchmarks.member", "worker") for n in range(3)]
    jobs: dict[str, str] = {}
    for name, frames in FRAMES.items():
        spec = synth.Spec(pts=tuple(range(0, 3000 * frames, 3000)))
        asked = {"video": uploaded(synth.write(tmp_path / name, spec), headers, *apis)}
        for number in range(3):
            url = f"{apis[number % 2]}/v2/video/segment/foreground_mask"
            answer = http.post(url, json=asked, headers=headers)
            assert answer.status_code == 202, answer.text
            jobs[answer.json()["request_id"]] = name

    long = [job for job, name in jobs.items() if name == "long.mp4"]

    def held() -> int | None:
        busy = [a for a in hosts.attempts(long) if a.stage == "segment" and not a.ended_at]
        return pid_of(busy[0].worker) if busy and busy[0].worker else None

    victim = wait_until(held)
    next(each for each in workers if each.pid == victim).send_signal(signal.SIGKILL)
    for number, (job, name) in enumerate(jobs.items()):

        def done(status: str = f"{apis[number % 2]}/v2/status/{job}") -> Any:  # noqa: ANN401
            body = http.get(status, headers=headers).json()
            return body if body["status"] != "IN_PROGRESS" else None

        body = wait_until(done)
        assert body["status"] == "COMPLETED", body
        url = body["result"]["video_url"]
        assert url.startswith(hosts.variables["AWS_ENDPOINT"])
        mask = tmp_path / "mask.mp4"
        mask.write_bytes(http.get(url).content)
        with av.open(str(mask)) as container:
            assert sum(1 for _ in container.decode(video=0)) == FRAMES[name]
    attempts = hosts.attempts(jobs)
    assert len({each.worker for each in attempts}) == 3
    lost = [each for each in attempts if each.outcome == "lost"]
    assert {pid_of(each.worker) for each in lost if each.worker} == {victim}
