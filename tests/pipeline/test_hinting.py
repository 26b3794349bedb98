"""Hints over a file: two red discs, of which one is meant."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import foremask
from foremask import Box, Paint, Point
from foremask.errors import FieldInvalid
from foremask.masking.library import FileReport
from tests.support import synth

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 192, 96


def masked(
    folder: Path, model: Path, moments: list[int], *hints: foremask.Hint
) -> tuple[FileReport, NDArray[np.float32]]:
    spec = synth.Spec(WIDTH, HEIGHT, pts=tuple(range(0, 1000 * len(moments), 1000)))
    drawn = (synth.discs(WIDTH, HEIGHT, (40 + x, 48, 22), (130 + x, 48, 22)) for x in moments)
    clip = synth.write(folder / "clip.mp4", spec, drawn)
    report = foremask.mask_video(clip, folder / "mask.mp4", model=model, hints=hints)
    shares = [
        [alpha[30:66, x - 15 : x + 15].mean() for x in (40 + moment, 130 + moment)]
        for moment, (_, alpha) in zip(moments, foremask.read_masks(report.target), strict=True)
    ]
    return report, np.array(shares)


@pytest.mark.parametrize(("frame", "negative"), [(0, False), (169, False), (179, True)])
def test_a_choice_holds_from_the_first_frame_of_a_long_clip_to_its_last(
    model: Path, tmp_path: Path, frame: int, negative: bool
) -> None:
    """The first of the two windows ends with frame 168, before two of these hints."""
    moments = [round(10 + 10 * np.sin(number / 15)) for number in range(180)]
    hint = Point(40 + moments[frame], 48, frame=frame, negative=negative)
    _, shares = masked(tmp_path, model, moments, hint)
    assert ((shares < 0.1) == (negative, not negative)).all()
    assert ((shares > 0.9) == (not negative, negative)).all()


def paint(x: int, level: int) -> bytes:
    levels = np.full((HEIGHT, WIDTH), 128, np.uint8)
    cv2.circle(levels, (x, 48), 24, level, -1)
    return cv2.imencode(".png", levels)[1].tobytes()


def test_a_hint_beyond_the_part_is_refused_and_the_error_says_from_where_frames_count(
    tmp_path: Path, model: Path
) -> None:
    """Frame 7 is in the clip of 9 frames, and not in the part from its 5th frame on."""
    clip = synth.write(
        tmp_path / "clip.mp4", synth.Spec(WIDTH, HEIGHT, pts=tuple(range(0, 9_000, 1_000)))
    )
    hints = [Point(40, 48, frame=0), Point(40, 48, frame=7)]
    with pytest.raises(FieldInvalid) as caught:
        foremask.mask_video(clip, tmp_path / "m.mp4", model=model, start_s=4 / 30, hints=hints)
    assert caught.value.param == "hints[1].frame"
    assert caught.value.details == (
        "hints[1].frame is 7, and the last frame that is masked is 4; frames count from the first"
        " that is."
    )


@pytest.mark.parametrize(
    ("hints", "kept"),
    [
        ([Point(40, 48)], (True, False)),
        ([Point(149, 48, frame=19)], (False, True)),
        ([Point(139, 48, time_s=0.31, negative=True)], (True, False)),
        ([Box(15, 20, 50, 60)], (True, False)),
        ([Paint(paint(40, 255))], (True, False)),
        ([Paint(paint(130, 0))], (True, False)),
        ([Paint(paint(130, 255), negative=True)], (True, False)),
        ([Point(130, 48, negative=True), Point(59, 48, frame=19, negative=True)], (False, False)),
    ],
)
def test_hints_decide_which_disc_it_is(
    model: Path, tmp_path: Path, hints: list[foremask.Hint], kept: tuple[bool, bool]
) -> None:
    _, shares = masked(tmp_path, model, list(range(20)), *hints)
    found = shares.mean(axis=0)
    assert [share > 0.95 for share in found] == [*kept], found
    assert [share < 0.03 for share in found] == [not each for each in kept], found


def test_the_latest_of_two_contradicting_hints_counts_and_the_report_says_so(
    model: Path, tmp_path: Path
) -> None:
    hints = [Point(130, 48, negative=True), Point(130, 48)]
    report, shares = masked(tmp_path, model, list(range(20)), *hints)
    assert shares[:, 1].mean() > 0.95
    assert "hints[1] contradicts hints[0]: the later one counts" in report.warnings


@pytest.mark.parametrize("corrects", [False, True])
def test_the_report_says_that_corrections_follow_the_motion_where_isnet_is_missing(
    model: Path, tmp_path: Path, *, corrects: bool
) -> None:
    """The point chooses one of the two discs, and the paint corrects the mask."""
    hints = [Paint(paint(40, 255)) if corrects else Point(40, 48)]
    report, _ = masked(tmp_path, model, list(range(20)), *hints)
    said = [each for each in report.warnings if "corrections follow the motion alone" in each]
    assert len(said) == corrects
