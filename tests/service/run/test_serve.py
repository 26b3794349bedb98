import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.service.api import clip_server
from tests.support import synth
from tests.support.http_server import answers, ask, free_port
from tests.support.patience import wait_until
from tests.support.programs import children, is_gone

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-token-for-this-test"


@pytest.fixture(scope="module")
def clip_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("clips")
    synth.write(folder / "clip.mp4")
    with clip_server.serving(folder) as url:
        yield f"{url}/clip.mp4"


class Served:
    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.process: subprocess.Popen[str] | None = None
        (root / "model.onnx").write_bytes(b"no network is needed here")

    def start(self, **more: str) -> list[str]:
        # A journal is no terminal: what is said must not wait.
        unwanted = ("FOREMASK_", "PYTHONUNBUFFERED")
        reported = {n: text for n, text in os.environ.items() if not n.startswith(unwanted)}
        reported |= {
            "FOREMASK_DATA_DIR": str(self.root),
            "FOREMASK_PORT": str(self.port),
            "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
            "FOREMASK_MODEL_FILE": str(self.root / "model.onnx"),
            **more,
        }
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "foremask", "serve"],
                env=reported,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        message: list[str] = []
        for line in self.process.stdout:
            message.append(line)
            if "listens on" in line:
                return message
        raise AssertionError((self.root / "log").read_text()[-2000:])

    def submit(self, url: str, token: str = TOKEN) -> str:
        path = "/v2/video/segment/foreground_mask"
        answer = ask(f"http://127.0.0.1:{self.port}{path}", token, {"video": url})
        return str(answer["status_url"])

    def family(self) -> set[int]:
        assert self.process is not None
        found, fresh = set[int](), {self.process.pid}
        while fresh:
            found |= fresh
            fresh = {child for pid in fresh for child in children(pid)} - found
        return found

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status


def running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if not is_gone(pid)}


@pytest.fixture
def served() -> Iterator[Served]:
    root = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    root.chmod(0o755)
    made = Served(root)
    yield made
    if made.process is not None:
        made.end(signal.SIGTERM)
    shutil.rmtree(root, ignore_errors=True)


def test_sigterm_stops_everything_and_the_next_start_goes_on(served: Served, clip_url: str) -> None:
    message = served.start()
    (token,) = [line.split()[-1] for line in message if "API token" in line]
    assert [line.strip() for line in message if line.strip().endswith(f"/#token={token}")]
    status_url = served.submit(clip_url, token)
    family = served.family()
    assert len(family) > 4
    assert served.end(signal.SIGTERM) == 0
    wait_until(lambda: not running(family))
    message = served.start()
    assert not [line for line in message if "API token" in line or "#token" in line]
    assert status_url.endswith(ask(status_url, token)["request_id"])


def test_a_killed_parent_leaves_no_process_and_loses_no_job(served: Served, clip_url: str) -> None:
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN, FOREMASK_WORKERS="2")
    status_url = served.submit(clip_url)
    family = served.family()
    assert served.process is not None
    for pid in family - {served.process.pid}:
        with suppress(OSError):  # the first token stays with the one process that needed it
            assert TOKEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert served.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not running(family))
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN)
    assert status_url.endswith(ask(status_url, TOKEN)["request_id"])


def test_a_killed_member_is_started_again(served: Served) -> None:
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN)
    assert served.process is not None
    for pid in children(served.process.pid):
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: answers(f"http://127.0.0.1:{served.port}/readyz"))
