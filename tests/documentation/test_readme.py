"""The README's examples, taken from the file as they stand, do what it says."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foremask.media.verify import verify
from tests.documentation.test_docs import ROOT, blocks
from tests.support import synth
from tests.support.http_server import answers, free_port
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.programs import fresh, shell

pytestmark = pytest.mark.slow

README = ROOT / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synth.write(tmp_path / "clip.mp4", synth.Spec(width=128, height=96, sound=(synth.Tone(),)))
    return tmp_path


@contextmanager
def serving(exports: str, port: int, data_dir: Path) -> Iterator[None]:
    environ = os.environ | dict(word.split("=", 1) for word in exports.split()[1:])
    environ |= {"FOREMASK_PORT": str(port), "FOREMASK_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "foremask", "serve"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:

            def ready() -> bool:
                assert process.poll() is None
                return answers(f"http://127.0.0.1:{port}/readyz")

            wait_until(ready)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.mark.weights
def test_the_library_example_masks(folder: Path) -> None:
    (example,) = blocks(README, "python")
    ran = fresh(example, cwd=folder, timeout=300)
    assert ran.stdout.startswith("10 frames, ")
    assert verify(folder / "clip.mp4", folder / "mask.mp4")


@pytest.mark.weights
@pytest.mark.postgres
def test_the_service_example_submits_and_downloads(folder: Path) -> None:
    first, second = blocks(README, "sh")
    exports, command = first.strip().split("\n")
    assert command == "make run"
    port = free_port()
    script = second.replace(":8000", f":{port}")
    script = script.replace(".venv/bin/foremask", f"{sys.executable} -m foremask")
    assert str(port) in script
    data_dir = Path("/tmp") / f"foremask-readme-{port}"  # noqa: S108  # an unprivileged user gets there
    try:
        with serving(exports, port, data_dir):
            shell(script, folder)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    assert verify(folder / "clip.mp4", folder / "mask.mp4")
