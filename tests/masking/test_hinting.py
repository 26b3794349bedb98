"""Hints over a file: two red discs, of which one is meant."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import foremask
from foremask import Box, Paint, Point
from foremask.types import Rgb
from tests.support import synth

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FRAMES = 192, 96, 20
SPEC = synth.Spec(WIDTH, HEIGHT, pts=tuple(range(0, 1000 * FRAMES, 1000)))


def picture(moment: int) -> Rgb:
    return synth.discs(WIDTH, HEIGHT, (40 + moment, 48, 22), (130 + moment, 48, 22))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hints") / "clip.mp4"
    return synth.write(path, SPEC, (picture(moment) for moment in range(FRAMES)))


@pytest.mark.parametrize(("frame", "negative"), [(179, False), (179, True), (169, False)])
def test_a_choice_late_in_a_long_clip_holds_from_its_first_frame(
    model: Path, tmp_path: Path, frame: int, negative: bool
) -> None:
    """The first frames are decided in a window that ends before the hint: the last has 168."""
    frames = 180
    spec = synth.Spec(WIDTH, HEIGHT, pts=tuple(range(0, 1000 * frames, 1000)))
    moments = [round(10 + 10 * np.sin(number / 15)) for number in range(frames)]
    clip = synth.write(tmp_path / "clip.mp4", spec, (picture(moment) for moment in moments))
    hint = Point(40 + moments[frame], 48, frame=frame, negative=negative)
    report = foremask.mask_video(clip, tmp_path / "mask.mp4", model=model, hints=[hint])
    for moment, (_, alpha) in zip(moments, foremask.read_masks(report.target), strict=True):
        left, right = (alpha[30:66, x - 15 : x + 15].mean() for x in (40 + moment, 130 + moment))
        assert (left < 0.1) == negative
        assert (right > 0.9) == negative


def shares(mask: Path) -> tuple[float, float]:
    found = []
    for moment, alpha in enumerate(alpha for _, alpha in foremask.read_masks(mask)):
        found.append([alpha[30:66, x - 15 : x + 15].mean() for x in (40 + moment, 130 + moment)])
    left, right = np.mean(found, axis=0)
    return float(left), float(right)


def paint(x: int, level: int) -> bytes:
    levels = np.full((HEIGHT, WIDTH), 128, np.uint8)
    cv2.circle(levels, (x, 48), 24, level, -1)
    return cv2.imencode(".png", levels)[1].tobytes()


@pytest.mark.parametrize(
    ("hint", "left", "right"),
    [
        (Point(40, 48), True, False),
        (Point(149, 48, frame=19), False, True),
        (Point(139, 48, time_s=0.31, negative=True), True, False),
        (Box(15, 20, 50, 60), True, False),
        (Paint(paint(40, 255)), True, False),
        (Paint(paint(130, 0)), True, False),
        (Paint(paint(130, 255), negative=True), True, False),
    ],
)
def test_one_hint_decides_which_disc_it_is(
    clip: Path, model: Path, tmp_path: Path, hint: foremask.Hint, left: bool, right: bool
) -> None:
    report = foremask.mask_video(clip, tmp_path / "mask.mp4", model=model, hints=[hint])
    found = shares(report.target)
    assert [share > 0.95 for share in found] == [left, right], found
    assert [share < 0.03 for share in found] == [not left, not right], found
    foremask.verify(clip, report.target)


def test_points_out_on_two_frames_each_take_a_thing_out_of_all_frames(
    clip: Path, model: Path, tmp_path: Path
) -> None:
    hints = [Point(130, 48, negative=True), Point(59, 48, frame=19, negative=True)]
    report = foremask.mask_video(clip, tmp_path / "mask.mp4", model=model, hints=hints)
    assert max(shares(report.target)) < 0.03


def test_the_latest_of_two_contradicting_hints_counts_and_the_report_says_so(
    clip: Path, model: Path, tmp_path: Path
) -> None:
    hints = [Point(130, 48, negative=True), Point(130, 48)]
    report = foremask.mask_video(clip, tmp_path / "mask.mp4", model=model, hints=hints)
    assert shares(report.target)[1] > 0.95
    assert "hints[1] contradicts hints[0]: the later one counts" in report.warnings
