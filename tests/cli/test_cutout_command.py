"""``foremask cutout``: what it makes, and what it refuses before it begins."""

import json
from pathlib import Path

import pytest

from foremask.cli.commands import main
from foremask.cli.exits import Exit
from tests.support import networks, synth


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip of three frames and a small network of our own."""
    synth.write(tmp_path / "clip.mp4", synth.Spec(pts=(0, 1000, 2000)))
    networks.redness(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_ending_makes_the_file_and_verify_agrees(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", networks.redness(here).name, "--quality", "fast"]
    assert main(["cutout", "clip.mp4", *model, "--json"]) == Exit.OK
    answer = json.loads(capsys.readouterr().out)
    assert (answer["output"], answer["kind"], answer["frames_out"]) == (
        "clip.cutout.webm",
        "cutout",
        3,
    )
    assert main(["verify", "clip.mp4", "clip.cutout.webm", "--kind", "cutout"]) == Exit.OK
    assert "kept: alpha: 3 frames" in capsys.readouterr().out
    before = (here / "clip.cutout.webm").read_bytes()
    assert main(["cutout", "clip.mp4", *model]) == Exit.OUTPUT_FAILED
    assert (here / "clip.cutout.webm").read_bytes() == before
    words = ["-o", "made.mp4", "--background", "white", "--feather", "2", *model[:2]]
    assert main(["cutout", "clip.mp4", *words, "--quality", "best"]) == Exit.OK
    assert "made.mp4: composite, 3 frames" in capsys.readouterr().out
