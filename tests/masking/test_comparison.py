"""Source, mask and cut-out, side by side: as a clip, and as a sheet of some moments."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from foremask.masking.comparison import SHEET_CELL_PX, compare, contact_sheet
from foremask.vision.drawing import GAP_PX, overlay
from tests.support import synth

SPEC = synth.Spec(
    width=128, height=97, pts=(0, 1000, 2500, 3000), pixel_format="yuv444p", sound=(synth.Tone(),)
)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_each_moment_has_three_pictures_and_the_source_its_sound(
    tmp_path: Path, suffix: str
) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    mask = synth.write(tmp_path / "mask.mp4", SPEC, synth.greys(SPEC))
    target = tmp_path / f"side{suffix}"
    heard: list[int] = []
    compare(source, mask, target, lambda done, _: heard.append(done))
    assert heard == [1, 2, 3, 4]
    times = [float(time) for time in synth.shown_at(target)]
    assert times == pytest.approx([pts / 30_000 for pts in SPEC.pts], abs=0.001)
    with av.open(str(target)) as opened:
        assert len(opened.streams.audio) == 1
        pictures = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    _, truth = synth.disc(128, 96, 0.0)
    assert pictures[0].shape == (96, 3 * 128, 3)
    left, middle, right = np.hsplit(pictures[0].astype(int), 3)
    inside = truth == 255
    inside[:, :2] = inside[:, -2:] = False
    assert left[inside].mean(axis=0) == pytest.approx((220, 30, 30), abs=20)
    assert middle[inside].mean() > 235
    assert middle[~inside].mean() < 20
    assert right[inside].mean(axis=0) == pytest.approx((220, 30, 30), abs=20)


def test_a_sheet_has_a_row_for_each_moment_and_four_pictures_in_each(tmp_path: Path) -> None:
    """Here a clip serves as its own mask: the first and the second cell are the same picture."""
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec())
    contact_sheet(clip, clip, tmp_path / "sheet.png", moments=2)
    drawn = np.asarray(cv2.imread(str(tmp_path / "sheet.png")))
    width = (drawn.shape[1] - 3 * GAP_PX) // 4
    height = (drawn.shape[0] - GAP_PX) // 2
    assert max(width, height) == SHEET_CELL_PX
    np.testing.assert_array_equal(drawn[:, :width], drawn[:, width + GAP_PX : 2 * width + GAP_PX])


def test_an_overlay_tints_the_foreground_only() -> None:
    alpha = np.zeros((4, 4), np.float32)
    alpha[0] = 1
    drawn = overlay(np.zeros((4, 4, 3), np.uint8), alpha)
    assert drawn[0, 0].tolist() == [128, 32, 32]
    assert not drawn[1:].any()
