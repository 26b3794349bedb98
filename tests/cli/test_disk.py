"""Commands on a disk, a pipe or a directory that takes nothing: one sentence each, no trace."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from foremask.cli.exits import Exit
from tests.support import synth
from tests.support.disks import disk_of
from tests.support.programs import Run, environ_with, ran

FULL = "standard output cannot be written: No space left on device"


def commanded(folder: Path, model: Path, line: str, output: Path) -> tuple[int, str]:
    with output.open("w") as out:
        done = ran(
            *(sys.executable, "-m", "foremask", *line.split()),
            capture_output=False,
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            cwd=folder,
            env=environ_with(FOREMASK_MODEL_FILE=str(model)),
        )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "probe clip.mp4",
        "probe --json clip.mp4",
        "mask clip.mp4 --no-cache -q -o -",
        "live clip.mp4",
        "--help",
    ],
)
def test_a_full_standard_output_is_said(tmp_path: Path, model: Path, line: str) -> None:
    synth.write(tmp_path / "clip.mp4")
    code, said = commanded(tmp_path, model, line, Path("/dev/full"))
    assert (code, said.splitlines()[-1].count(FULL)) == (Exit.OUTPUT_FAILED, 1), said
    assert said.splitlines()[-1].endswith("[output_failed]")
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_deleted_working_directory_is_said(tmp_path: Path, model: Path) -> None:
    clip = synth.write(tmp_path / "clip.mp4")
    gone = tmp_path / "gone"
    code = (
        "import os, sys\n"
        f"os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        "from foremask.__main__ import main\n"
        f"sys.argv[1:] = ['mask', {str(clip)!r}, '-o', 'mask.mp4', '--no-cache', '-q']\n"
        "sys.exit(main())"
    )
    done = ran(
        *(sys.executable, "-c", code), check=False, env=environ_with(FOREMASK_MODEL_FILE=str(model))
    )
    assert done.returncode == Exit.USAGE
    assert "the working directory was deleted" in done.stderr


@pytest.mark.linux
@pytest.mark.parametrize(
    "line",
    [
        "mask photo.png -o made.png",
        "cutout photo.png -o made.png",
        "cutout clip.mp4 --mask mask.mp4 -o made.zip",
        "sheet clip.mp4 mask.mp4 -o made.png",
        "tracks clip.mp4 -o made.png",
    ],
)
def test_a_full_disk_under_pictures_is_said(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, run: Run, line: str
) -> None:
    spec = synth.Spec(pts=(0, 1000, 2000))
    synth.write(tmp_path / "clip.mp4", spec)
    synth.write(tmp_path / "mask.mp4", spec, synth.greys(spec))
    cv2.imwrite(str(tmp_path / "photo.png"), synth.disc(64, 48, 0.5)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(model))
    before = set(tmp_path.iterdir())
    with disk_of(40):
        said = run(*line.split(), code=Exit.OUTPUT_FAILED).err
    assert "cannot be written: File too large" in said
    assert set(tmp_path.iterdir()) == before
