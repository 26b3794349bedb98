"""The page that shows masks before and after a change."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks.quality import before_after

from tests.benchmarks import scenes


def test_the_worst_frames_are_some_frames_apart_and_the_worst_comes_first() -> None:
    """3 at 20, 2 at 50; 2.9 at 21 is the same moment as 20; nothing else is a peak."""
    values = [0.0] * 80
    values[20], values[21], values[50] = 3, 2.9, 2
    assert before_after.peaks(values, 5) == [20, 50]
    assert before_after.peaks(values, 1) == [20]


def test_what_is_lost_is_red_and_what_is_new_is_green() -> None:
    """Left was mask and is none now, right is new, the middle stays the picture's own grey."""
    rgb = np.full((4, 12, 3), 100, np.uint8)
    before, after = np.zeros((2, 4, 12), np.uint8)
    before[:, :4], after[:, 8:] = 255, 255
    shown = before_after.difference(rgb, before, after)
    assert tuple(shown[0, 0]) == before_after.RED
    assert tuple(shown[0, 6]) == (40, 40, 40)
    assert tuple(shown[0, 11]) == before_after.GREEN


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A clip as a folder of pictures, masks that fade before and are right after, as arrays."""
    scene = scenes.walk(frames=40)
    clips, before, after = (tmp_path / each for each in ("clips", "before", "after"))
    pictures = clips / "walk & run" / "frames"
    for folder in (pictures, before, after):
        folder.mkdir(parents=True)
    for number, frame in enumerate(scene.frames):
        cv2.imwrite(str(pictures / f"{number:05}.jpg"), frame[..., ::-1])
    np.save(before / "walk & run.npy", np.stack(scenes.faded(scene, 8, 24)))
    np.save(after / "walk & run.mask.npy", np.stack(scene.masks))
    return [clips, before, after]


def test_a_page_shows_each_clip_with_its_worst_and_every_tenth_frame(
    folders: list[Path], tmp_path: Path
) -> None:
    """Every sheet that the page names is there, as wide as four pictures."""
    (case,) = before_after.cases_in(*folders)
    found = before_after.look_at(case)
    before, after = found.results
    assert before.lost[16] > 25 > 1 > after.lost[16]
    assert found.most_changed(1)[0] >= 24
    target = before_after.page([found], tmp_path / "out", step=10, worst=3, suffix=".png")
    text = target.read_text()
    assert "walk &amp; run" in text
    assert "left" in text
    sheet = cv2.imread(str(tmp_path / "out" / "walk & run-every-10th-frame-1.png"))
    assert sheet is not None
    assert sheet.shape[1] == 4 * before_after.CELL_PX
    named = [part.split('"')[0] for part in text.split('src="')[1:]]
    assert len(named) >= 2
    for name in named:
        assert (target.parent / name.replace("&amp;", "&")).is_file()


def test_a_folder_without_masks_of_the_clips_is_refused(folders: list[Path]) -> None:
    """It says which folders were compared."""
    with pytest.raises(SystemExit, match="no clip of"):
        before_after.cases_in(folders[0], folders[1], folders[0].parent)
