import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support import synth
from tests.support.http_server import answers, ask, free_port, serving_files
from tests.support.patience import wait_until
from tests.support.postgres import open_directory
from tests.support.programs import children, environ_with, is_gone

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-token-for-this-test"


class Served:
    process: subprocess.Popen[str]

    def __init__(self, root: Path, clip_url: str) -> None:
        self.root, self.clip_url, self.port = root, clip_url, free_port()
        (root / "model.onnx").write_bytes(b"no network is needed here")

    def start(self, **more: str) -> list[str]:
        environ = environ_with(
            FOREMASK_DATA_DIR=str(self.root),
            FOREMASK_PORT=str(self.port),
            FOREMASK_ALLOW_PRIVATE="127.0.0.0/8",
            **{"FOREMASK_MODEL_FILE": str(self.root / "model.onnx")} | more,
        )
        environ.pop("PYTHONUNBUFFERED", None)  # a journal must not wait for the lines
        command = [sys.executable, "-m", "foremask", "serve"]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        message: list[str] = []
        for line in self.process.stdout:
            message.append(line.strip())
            if "in a browser" in line:
                return message
        raise AssertionError((self.root / "log").read_text()[-2000:])

    def submit(self, token: str) -> str:
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
    with open_directory() as root, serving_files(root) as url:
        synth.write(root / "clip.mp4")
        made = Served(root, f"{url}/clip.mp4")
        yield made
        if made.process.poll() is None:
            made.end(signal.SIGTERM)


def test_a_service_of_this_machine_alone_takes_what_ffmpeg_reads(served: Served) -> None:
    """With a public address it takes the contract's containers."""
    synth.write(served.root / "clip.mkv")
    asked = {"video": served.clip_url.replace(".mp4", ".mkv")}
    probe = f"http://127.0.0.1:{served.port}/v2/video/probe"
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN)
    assert ask(probe, TOKEN, asked)["result"]["container"] == "mkv"
    served.end(signal.SIGTERM)
    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN, FOREMASK_PUBLIC_URL="http://masks.example")
    with pytest.raises(httpx.HTTPStatusError, match="415"):
        ask(probe, TOKEN, asked)


def test_after_a_stop_or_a_kill_nothing_is_left_and_the_next_start_goes_on(served: Served) -> None:
    message = served.start()
    (token,) = [line.split()[-1] for line in message if "API token" in line]
    assert [line for line in message if line.endswith(f"/#token={token}")]
    stopped_job = served.submit(token)
    assert len(family(served.process.pid)) > 4
    assert served.end(signal.SIGTERM) == 0

    served.start(FOREMASK_BOOTSTRAP_TOKEN=TOKEN, FOREMASK_WORKERS="2")
    for pid in family(served.process.pid) - {served.process.pid}:
        with suppress(OSError):  # only the parent needs the first token
            assert TOKEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    for pid in children(served.process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: answers(f"http://127.0.0.1:{served.port}/readyz"))
    killed_job = served.submit(TOKEN)
    assert served.end(signal.SIGKILL) == -signal.SIGKILL

    message = served.start()
    assert not [line for line in message if "API token" in line or "#token" in line]
    for status_url, owner in ((stopped_job, token), (killed_job, TOKEN)):
        assert status_url.endswith(ask(status_url, owner)["request_id"])
