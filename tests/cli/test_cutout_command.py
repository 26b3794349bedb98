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
    """Without an output, a WebM beside the clip; a second time it is not overwritten."""
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


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "a.mp4"], Exit.CLIP_REFUSED, "use one of webm_vp9, mkv_vp9, mov_proresks"),
        (["--preset", "mov_h265"], Exit.CLIP_REFUSED, "x265 writes no alpha"),
        (["--preset", "avi"], Exit.USAGE, "there is no preset 'avi'"),
        (["-o", "a.txt"], Exit.USAGE, "the preset does not follow"),
        (["-o", "a.png"], Exit.USAGE, "%04d.png"),
        (["-o", "a.webm", "--preset", "mov_proresks"], Exit.USAGE, "writes .mov"),
        (["--background", "blur:0"], Exit.USAGE, "from 1 to 200"),
        (["--background", "original:x"], Exit.USAGE, "from 0 to 1"),
        (["--background", "nowhere.png"], Exit.USAGE, "is no file"),
        (["--grow", "51"], Exit.USAGE, "from -50 to 50"),
        (["--background", "#12"], Exit.USAGE, "#rrggbb"),
        (
            ["-o", "clip.mp4", "--background", "white", "--force"],
            Exit.USAGE,
            "OUTPUT is INPUT",
        ),
        (["other.mp4"], Exit.USAGE, "to write it there: foremask cutout clip.mp4 -o other.mp4"),
        (["--mask", "no.mp4"], Exit.USAGE, "there is no file no.mp4"),
        (["--cache", "a", "--no-cache"], Exit.USAGE, "cannot both be"),
        (["-o", "%04d.png"], Exit.OUTPUT_FAILED, "name a directory of its own"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: Exit,
    said: str,
) -> None:
    """With the exit code of its kind and a sentence that says what can be."""
    before = {path.name: path.stat().st_mtime_ns for path in here.iterdir()}
    assert main(["cutout", "clip.mp4", *words]) == code
    assert said in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in here.iterdir()} == before
