"""Two API hosts and three workers share only a PostgreSQL over TCP and an S3 server."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from foremask.media.verify import verify
from tests.service.api.conftest import http
from tests.support import synth
from tests.support.http_server import answers, ask, free_port, s3_server
from tests.support.patience import wait_until
from tests.support.postgres import open_directory, tcp_server
from tests.support.programs import environ_with, ran

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


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

    def workers(self, condition: LiteralString) -> list[int]:
        """The processes in the names of workers, host/pid-random, of attempts at steps."""
        with psycopg.connect(self.variables["FOREMASK_DATABASE_URL"]) as connection:
            names = "select distinct worker from attempts where worker is not null and "
            rows = connection.execute(names + condition).fetchall()
        return sorted({int(name.partition("/")[2].partition("-")[0]) for (name,) in rows})


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


def uploaded(clip: Path, token: str, first: str, second: str) -> str:
    """Upload through the second API with a form of the first, and return the clip's URL."""
    form = ask(f"{first}/v2/video/upload", token, {})["result"]
    files = {"file": (clip.name, clip.read_bytes(), "video/mp4")}
    sent = http.post(f"{second}/v2/uploads", data=form["upload_fields"], files=files)
    assert sent.status_code == 204, sent.text
    return str(form["file_url"])


def ended(status_url: str, token: str) -> Any:  # noqa: ANN401
    body = ask(status_url, token)
    return body if body["status"] != "IN_PROGRESS" else None


def test_hosts_that_share_two_urls_are_one_service(hosts: Hosts, tmp_path: Path) -> None:
    hosts.run("migrate")
    token = hosts.run("token", "create", "--burst", "1000")
    apis: list[str] = []
    for number, port in enumerate((free_port(), free_port())):
        hosts.start(f"api-{number}", "foremask", "api", "--port", str(port))
        apis.append(f"http://127.0.0.1:{port}")
        wait_until(partial(answers, f"{apis[-1]}/readyz"))
    # With a network that costs nothing; everything else is real.
    workers = [hosts.start(f"worker-{n}", "benchmarks.member", "worker") for n in range(3)]
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec(pts=tuple(range(0, 660_000, 3000))))
    body = {"video": uploaded(clip, token, *apis)}
    jobs = [ask(f"{api}/v2/video/segment/foreground_mask", token, body) for api in apis * 2]
    victim, *_ = wait_until(lambda: hosts.workers("stage = 'segment' and ended_at is null"))
    next(each for each in workers if each.pid == victim).send_signal(signal.SIGKILL)
    for job, api in zip(jobs, apis * 2, strict=True):
        found = wait_until(partial(ended, f"{api}/v2/status/{job['request_id']}", token))
        assert found["status"] == "COMPLETED", found
        url = found["result"]["video_url"]
        assert url.startswith(hosts.variables["AWS_ENDPOINT"])
        mask = tmp_path / "mask.mp4"
        mask.write_bytes(http.get(url).content)
        verify(clip, mask)
    assert len(hosts.workers("true")) == 3
    assert hosts.workers("outcome = 'lost'") == [victim]
