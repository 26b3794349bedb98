"""The README's examples, taken from the file as they stand, do what it says."""

import sys
from pathlib import Path

import pytest

from foremask.media.verify import verify
from tests.documentation.test_docs import ROOT, blocks
from tests.service.run.test_serve import Served, served
from tests.support import synth
from tests.support.http_server import answers
from tests.support.patience import wait_until
from tests.support.programs import fresh, shell

__all__ = ["served"]  # a fixture
pytestmark = pytest.mark.slow

README = ROOT / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synth.write(tmp_path / "clip.mp4", synth.Spec(width=128, height=96, sound=(synth.Tone(),)))
    return tmp_path


@pytest.mark.weights
def test_the_library_example_masks(folder: Path) -> None:
    (example,) = blocks(README, "python")
    ran = fresh(example, cwd=folder, timeout=300)
    assert ran.stdout.startswith("10 frames, ")
    assert verify(folder / "clip.mp4", folder / "mask.mp4")


@pytest.mark.weights
@pytest.mark.postgres
def test_the_service_example_submits_and_downloads(folder: Path, served: Served) -> None:
    first, second = blocks(README, "sh")
    exports, command = first.strip().split("\n")
    assert command == "make run"
    served.start(
        **dict(word.split("=", 1) for word in exports.split()[1:]) | {"FOREMASK_MODEL_FILE": ""}
    )
    wait_until(lambda: answers(f"http://127.0.0.1:{served.port}/readyz"))
    script = second.replace(":8000", f":{served.port}")
    script = script.replace(".venv/bin/foremask", f"{sys.executable} -m foremask")
    assert str(served.port) in script
    shell(script, folder)
    assert verify(folder / "clip.mp4", folder / "mask.mp4")
