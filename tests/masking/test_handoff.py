"""Folders for matting tools, in the names that the tools' own loaders read.

CorridorKey at 0634660 (clip_manager.py, backend/frame_io.py) and 706cb25 (backend/clip_state.py),
MatAnyone at f7ccbbc (inference_matanyone.py), MatAnyone2 at a23c896 (utils/inference_utils.py), and
VideoMaMa's inference_onestep_folder.py in the fork wuweizhe256/VideoMaMa at badba7b. Their
functions, which no package registry has, once read the folders of a real clip.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from foremask.errors import CorruptVideo
from foremask.facts import Report
from foremask.options import TOOL_FORMS, Excerpt, Form, JobSpec
from foremask.pipeline.values import ImageMasker
from foremask.types import Alpha, Image
from tests.support import synth

TURNED = synth.Spec(pts=tuple(range(0, 12_000, 1_000)), turn=(90, False))


def opened(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.dtype == np.uint8
    return np.asarray(picture, np.uint8)


def numbered(folder: str) -> list[str]:
    return [f"{folder}/{number:06d}.png" for number in range(1, 13)]


LAYOUTS = {
    Form.CORRIDORKEY: (
        numbered("Input"),
        {"hard": numbered("VideoMamaMaskHint"), "soft": numbered("AlphaHint")},
    ),
    Form.MATANYONE: (numbered("video/shot"), {"hard": ["mask/shot.png"]}),
    Form.VIDEOMAMA: (numbered("image/shot"), {"hard": numbered("mask/shot")}),
}


def hand_off(
    clip: Path,
    folder: Path,
    tool: Form,
    masker: ImageMasker = synth.red_is_foreground,
    excerpt: Excerpt | None = None,
) -> Report:
    return synth.mask(clip, folder, JobSpec(form=tool, excerpt=excerpt), masker)


@pytest.mark.parametrize("tool", TOOL_FORMS)
def test_each_mask_is_white_where_its_own_upright_frame_is_red(tmp_path: Path, tool: Form) -> None:
    clip, folder = synth.write(tmp_path / "clip.mp4", TURNED), tmp_path / "shot"
    hand_off(clip, folder, tool)
    frames, masks = LAYOUTS[tool]
    made = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
    assert made == {*frames, *(name for each in masks.values() for name in each), "frames.csv"}
    for kind, names in masks.items():
        for frame_name, mask_name in zip(frames, names, strict=len(names) > 1):
            frame, mask = opened(folder / frame_name), opened(folder / mask_name)
            assert (frame.shape, mask.shape) == ((64, 48, 3), (64, 48))
            red = frame[:, :, 2].astype(int) - frame[:, :, 1] > 64
            assert np.mean(red != (mask >= 128)) < 0.02
            assert 0.1 < red.mean() < 0.4
            assert (set(np.unique(mask)) == {0, 255}) == (kind == "hard")


def test_an_excerpt_has_its_own_times(tmp_path: Path) -> None:
    clip, folder = synth.write(tmp_path / "clip.mp4", TURNED), tmp_path / "50%03d {x}"
    report = hand_off(clip, folder, Form.CORRIDORKEY, excerpt=Excerpt(0.2))
    rows = list(csv.DictReader((folder / "frames.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == report.frames_out < 12
    assert [row["file"] for row in rows] == numbered("Input")[: len(rows)]
    assert float(rows[0]["time_s"]) == 0
    assert report.bytes == sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def nothing(pictures: Iterable[Image], /) -> Iterator[Alpha]:
    for picture in pictures:
        yield np.zeros((picture.height, picture.width), np.float32)


@pytest.mark.parametrize("tool", TOOL_FORMS)
def test_a_tool_that_is_given_one_mask_is_given_one_with_something_in_it(
    tmp_path: Path, tool: Form
) -> None:
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec(pts=(0, 1000)))
    report = hand_off(clip, tmp_path / "50%03d", tool, nothing)
    warned = any("--start" in each for each in report.warnings)
    assert warned == (tool is Form.MATANYONE)


def test_a_clip_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    broken = synth.broken(tmp_path / "broken.mp4", synth.write(tmp_path / "clip.mp4"))
    with pytest.raises(CorruptVideo):
        hand_off(broken, tmp_path / "shot", Form.VIDEOMAMA)
    assert {each.name for each in tmp_path.iterdir()} == {"clip.mp4", "broken.mp4"}
