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

from tests.support import synth
from tests.support.http_server import answers, ask, free_port, serving_files
from tests.support.patience import wait_until
from tests.support.programs import children, is_gone

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-token-for-this-test"


class Served:
    process: subprocess.Popen[str]

    def __init__(self, root: Path, clip_url: str) -> None:
        self.root, self.clip_url, self.port = root, clip_url, free_port()
        (root / "model.onnx").write_bytes(b"no network is needed here")

    def start(self, **more: str) -> list[str]:
        """Return the lines of the greeting."""
        # Without PYTHONUNBUFFERED: a journal is no terminal, and must not wait for the lines.
        unwanted = ("FOREMASK_", "PYTHONUNBUFFERED")
        environ = {name: text for name, text in os.environ.items() if not name.startswith(unwanted)}
        environ |= {
            "FOREMASK_DATA_DIR": str(self.root),
            "FOREMASK_PORT": str(self.port),
            "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
            "FOREMASK_MODEL_FILE": str(self.root / "model.onnx"),
            **more,
        }
        command = [sys.executable, "-m", "foremask", "serve"]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        message: list[str] = []
        for line in self.process.stdout:
            message.append(line)
            if "listens on" in line:
                return message
        raise AssertionError((self.root / "log").read_text()[-2000:])

    def submit(self, token: str = TOKEN) -> str:
        url = f"http://127.0.0.1:{self.port}/v2/video/segment/foreground_mask"
        return str(ask(url, token, {"video": self.clip_url})["status_url"])

    def end(self, number: signal.Signals) -> int:
        """Return the exit status, once the processes that it started have ended, too."""
        started = family(self.process.pid)
        self.process.send_signal(number)
        status = self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()
        wait_until(lambda: all(is_gone(pid) for pid in started))
        return status


def family(pid: int) -> set[int]:
    return {pid}.union(*map(family, children(pid)))


@pytest.fixture
def served() -> Iterator[Served]:
    root = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    root.chmod(0o755)
    synth.write(root / "clip.mp4")
    with serving_files(root) as url:
        made = Served(root, f"{url}/clip.mp4")
        yield made
    if made.process.poll() is None:
        made.end(signal.SIGTERM)
    shutil.rmtree(root, ignore_errors=True)


def test_sigterm_stops_everything_and_the_next_start_goes_on(served: Served) -> None:
    message = served.start()
    (token,) = [line.split()[-1] for line in message if "API token" in line]
    assert [line.strip() for line in message if line.strip().endswith(f"/#token={token}")]
    status_url = served.submit(token)
    assert len(family(served.process.pid)) > 4
    assert served.end(signal.SIGTERM) == 0
    message = served.start()
    assert not [line for line in message if "API token" in line or "#token" in line]
    assert status_url.endswith(ask(status_url, token)["request_id"])


def test_killed_processes_start_again_and_a_killed_parent_leaves_none(served: Served) -> None:
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN, FOREMASK_WORKERS="2")
    for pid in family(served.process.pid) - {served.process.pid}:
        with suppress(OSError):  # only the parent needs the first token
            assert TOKEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    for pid in children(served.process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: answers(f"http://127.0.0.1:{served.port}/readyz"))
    status_url = served.submit()
    assert served.end(signal.SIGKILL) == -signal.SIGKILL
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN)
    assert status_url.endswith(ask(status_url, TOKEN)["request_id"])
