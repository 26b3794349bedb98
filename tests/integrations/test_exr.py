"""`foremask-exr`: what OpenEXR's own package and FFmpeg read is the cut-out, and each thing."""

import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import OpenEXR
import pytest
from numpy.typing import NDArray

import foremask
from tests.cli.test_tracks_command import FRAMES, clip
from tests.support.programs import Run

pytestmark = pytest.mark.slow
__all__ = ["clip"]  # a fixture: two discs that cross

PLACE = Path(__file__).parents[2] / "integrations" / "exr"
HALF_STEP = 2**-11  # of 1, rounded
exr = runpy.run_path(str(PLACE / "foremask_exr.py"))["main"]


@pytest.fixture(scope="module")
def written(clip: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exr") / "frames"
    assert exr([str(clip), str(folder / "shot.%04d.exr"), "--model", str(model)]) == 0
    return folder


def channels_of(path: Path) -> dict[str, NDArray[np.float16]]:
    found = OpenEXR.File(str(path), separate_channels=True).channels()
    return {name: channel.pixels for name, channel in found.items()}


def test_frames_have_the_numbers_of_the_clip_and_say_what_they_are(written: Path) -> None:
    names = [f"shot.{number:04}.exr" for number in range(1, FRAMES + 1)]
    assert sorted(path.name for path in written.iterdir()) == names
    header = OpenEXR.File(str(written / names[6])).header()
    assert header["imageCounter"] == 7
    assert header["framesPerSecond"] == 30
    assert header["colorInteropID"] == "lin_rec709_scene"
    assert OpenEXR.checkColorMetadata(header) == OpenEXR.ColorMetadataWarning.OK


def test_colours_and_alpha_are_those_of_the_cut_out(
    written: Path, clip: Path, model: Path, tmp_path: Path
) -> None:
    foremask.cut_out(clip, tmp_path / "cut" / "%04d.png", model=model)
    for number in (1, FRAMES):
        png = cv2.imread(str(tmp_path / "cut" / f"{number:04}.png"), cv2.IMREAD_UNCHANGED)
        assert png is not None
        straight = cv2.cvtColor(png, cv2.COLOR_BGRA2RGBA) / 255
        path = written / f"shot.{number:04}.exr"
        found: dict[str, Any] = channels_of(path)
        assert {pixels.dtype for pixels in found.values()} == {np.dtype(np.float16)}
        rgba = np.dstack([found[name] for name in "RGBA"]).astype(float)
        assert np.abs(rgba[..., 3] - straight[..., 3]).max() <= HALF_STEP
        inside = straight[..., 3] > 0.1
        light = rgba[inside, :3] / rgba[inside, 3:]
        signal = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(signal - straight[inside, :3]).max() < 0.5 / 255
        assert not rgba[straight[..., 3] == 0].any()
        with av.open(path) as container:
            frame = next(container.decode(video=0))
            assert frame.format.name == "gbrapf16le"
            alpha = np.frombuffer(frame.planes[3], np.float16)
            rows = alpha.reshape(frame.height, -1)[:, : frame.width]
        assert np.array_equal(rows, found["A"])


@pytest.mark.parametrize(("compression", "lost"), [("piz", 0.0), ("dwaa", 0.02)])
def test_the_first_number_and_the_compression_are_chosen(
    written: Path, clip: Path, model: Path, tmp_path: Path, compression: str, lost: float
) -> None:
    words = [str(clip), str(tmp_path / "new" / "s.%04d.exr"), "--model", str(model)]
    assert exr([*words, "--first-number", "1001", "--compression", compression]) == 0
    first = tmp_path / "new" / "s.1001.exr"
    header = OpenEXR.File(str(first)).header()
    assert header["imageCounter"] == 1001
    assert header["compression"] == getattr(OpenEXR, f"{compression.upper()}_COMPRESSION")
    before = channels_of(written / "shot.0001.exr")
    for name, pixels in channels_of(first).items():
        assert np.abs(pixels.astype(float) - before[name]).max() <= lost


def test_each_thing_has_a_layer(
    written: Path, clip: Path, model: Path, tmp_path: Path, run: Run
) -> None:
    printed = run("tracks", clip, "--masks", tmp_path, "--json", "--model", model)
    masks = json.loads(printed.out)["masks"]
    first = channels_of(written / "shot.0001.exr")
    assert first.keys() == {*"RGBA", "thing1.A", "thing2.A"}
    for name, mask in zip(("thing1.A", "thing2.A"), masks, strict=True):
        _, alpha = next(foremask.read_masks(mask))
        assert np.abs(first[name] - alpha).max() <= 4 / 255  # its MP4's
    assert not (first["thing1.A"] * first["thing2.A"]).any()
    assert first["thing1.A"].sum() > first["thing2.A"].sum() > 0


def test_nothing_of_others_is_replaced(
    written: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exr([str(clip), str(written / "%04d.exr")]) == 1
    assert "has files already: name a new folder" in capsys.readouterr().err
    assert exr([str(clip.with_name("none.mp4")), str(written / "%04d.exr")]) == 1
    assert "none.mp4" in capsys.readouterr().err


def test_the_tool_has_the_version_of_foremask() -> None:
    facts = tomllib.loads((PLACE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert facts["version"] == foremask.__version__
