"""Folders for matting tools, read by the rules of the tools' own loaders.

Those are restated here, since no package registry has the tools: CorridorKey at 0634660
(clip_manager.py, backend/frame_io.py) and 706cb25 (backend/clip_state.py), MatAnyone at f7ccbbc
(inference_matanyone.py), MatAnyone2 at a23c896 (utils/inference_utils.py), and VideoMaMa's
inference_onestep_folder.py as the fork wuweizhe256/VideoMaMa has it at badba7b. Their own
functions, copied from there once, read the folders of a real clip.
"""

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from foremask.errors import ForemaskError
from foremask.facts import Report
from foremask.masking.handoff import hand_off
from foremask.options import Excerpt, MaskOptions, MattingTool
from foremask.types import Alpha, Image
from tests.support import synth

type Picture = NDArray[np.uint8]

TURNED = synth.Spec(pts=tuple(range(0, 12_000, 1_000)), turn=(90, False))
UPRIGHT = (64, 48)  # rows and columns


def made(
    tmp_path: Path,
    tool: MattingTool,
    spec: synth.Spec = TURNED,
    options: MaskOptions = MaskOptions(),  # noqa: B008  (frozen)
    name: str = "shot",
) -> tuple[Path, Report]:
    clip = synth.write(tmp_path / "clip.mp4", spec)
    report = hand_off(
        clip,
        tmp_path / name,
        tool,
        options,
        masker=synth.red_is_foreground,
        refiner=synth.stretched,
    )
    return tmp_path / name, report


def opened(path: Path, how: int) -> Picture:
    picture = cv2.imread(str(path), how)
    assert picture is not None
    assert picture.dtype == np.uint8
    return np.asarray(picture, np.uint8)


def corridorkey_pictures(folder: Path) -> list[Path]:
    """Those with a picture's ending, by text as by number."""
    endings = (".png", ".jpg", ".jpeg", ".exr", ".tif", ".tiff", ".bmp")
    names = [each.name for each in folder.iterdir() if each.name.lower().endswith(endings)]
    by_number = sorted(
        names, key=lambda name: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", name)]
    )
    assert by_number == sorted(names)
    return [folder / name for name in by_number]


def every_file(folder: Path) -> list[Path]:
    """MatAnyone and VideoMaMa read all that is there, by text."""
    return sorted(folder.iterdir(), key=lambda each: each.name)


def check_pairs(frames: list[Picture], masks: list[Picture]) -> None:
    """Each mask is white where its own frame is red."""
    assert len(frames) == len(masks) == 12
    for frame, mask in zip(frames, masks, strict=True):
        assert frame.shape == (*UPRIGHT, 3)
        assert mask.shape == UPRIGHT
        red = frame[:, :, 2].astype(int) - frame[:, :, 1] > 64
        assert np.mean(red != (mask >= 128)) < 0.02
        assert 0.1 < red.mean() < 0.4
    places = [np.nonzero(mask >= 128)[0].mean() for mask in masks]
    assert sorted(places) in (places, places[::-1])
    assert np.ptp(places) > 20


def test_corridorkey_pairs_input_and_hints_and_may_let_videomama_refine_them(
    tmp_path: Path,
) -> None:
    folder, report = made(tmp_path, MattingTool.CORRIDORKEY)
    assert report.frames_out == 12
    assert {each.name for each in folder.iterdir() if each.is_dir()} == {
        "Input",
        "AlphaHint",
        "VideoMamaMaskHint",
    }
    frames = [opened(each, cv2.IMREAD_COLOR) for each in corridorkey_pictures(folder / "Input")]
    unchanged = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_UNCHANGED
    alphas = corridorkey_pictures(folder / "AlphaHint")
    check_pairs(frames, [opened(each, unchanged) for each in alphas])
    masks = [
        opened(each, cv2.IMREAD_GRAYSCALE)
        for each in corridorkey_pictures(folder / "VideoMamaMaskHint")
    ]
    check_pairs(frames, [np.where(each > 10, 255, 0).astype(np.uint8) for each in masks])


def test_matanyone_reads_a_folder_of_frames_alone_and_the_first_mask(tmp_path: Path) -> None:
    folder, _ = made(tmp_path, MattingTool.MATANYONE)
    frames = [opened(each, cv2.IMREAD_COLOR) for each in every_file(folder / "video" / "shot")]
    assert every_file(folder / "mask") == [folder / "mask" / "shot.png"]
    mask = opened(folder / "mask" / "shot.png", cv2.IMREAD_GRAYSCALE)
    known = (mask != 0) == (mask == 255)  # else dilation and erosion would not agree
    assert known.all()
    red = frames[-1][:, :, 2].astype(int) - frames[-1][:, :, 1] > 64
    last = np.where(red, 255, 0).astype(np.uint8)
    check_pairs(frames[:1] * 6 + frames[-1:] * 6, [mask] * 6 + [last] * 6)


def test_videomama_finds_the_mask_of_a_frame_by_its_stem(tmp_path: Path) -> None:
    folder, _ = made(tmp_path, MattingTool.VIDEOMAMA)
    (video,) = (each.name for each in (folder / "image").iterdir() if each.is_dir())
    by_stem = {each.stem: each for each in (folder / "mask" / video).iterdir()}
    paths = every_file(folder / "image" / video)
    masks = [opened(by_stem[each.stem], cv2.IMREAD_GRAYSCALE) for each in paths]
    check_pairs([opened(each, cv2.IMREAD_COLOR) for each in paths], masks)
    assert {0, 255} == set(np.unique(masks).tolist())


def test_an_excerpt_has_its_own_times(tmp_path: Path) -> None:
    options = MaskOptions(excerpt=Excerpt(0.2))
    folder, report = made(tmp_path, MattingTool.CORRIDORKEY, options=options, name="50%03d {x}")
    rows = list(csv.DictReader((folder / "frames.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["file"] for row in rows] == [
        str(each.relative_to(folder)) for each in corridorkey_pictures(folder / "Input")
    ]
    assert len(rows) == report.frames_out < 12
    assert float(rows[0]["time_s"]) == 0
    assert report.bytes == sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def nothing(pictures: Iterable[Image], /) -> Iterator[Alpha]:
    for picture in pictures:
        yield np.zeros((picture.height, picture.width), np.float32)


@pytest.mark.parametrize("tool", list(MattingTool))
def test_a_tool_that_is_given_one_mask_is_given_one_with_something_in_it(
    tmp_path: Path, tool: MattingTool
) -> None:
    clip = synth.write(tmp_path / "clip.mp4", dataclasses.replace(TURNED, pts=(0, 1000)))
    report = hand_off(clip, tmp_path / "50%03d", tool, masker=nothing, refiner=synth.stretched)
    warned = any("--start" in each for each in report.warnings)
    assert warned == (tool is MattingTool.MATANYONE)


def test_a_clip_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    broken = synth.broken(tmp_path / "broken.mp4", synth.write(tmp_path / "clip.mp4"))
    with pytest.raises(ForemaskError):
        hand_off(broken, tmp_path / "shot", MattingTool.VIDEOMAMA, masker=synth.red_is_foreground)
    assert {each.name for each in tmp_path.iterdir()} == {"clip.mp4", "broken.mp4"}
