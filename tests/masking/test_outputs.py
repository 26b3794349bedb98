import os
import re
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from foremask import errors
from foremask.masking.library import contact_sheet
from foremask.masking.outputs import check_output, written_whole
from foremask.masking.sheet import SHEET_CELL_PX, draw_sheet, warnings_of
from foremask.vision.drawing import CAPTION_PX, GAP_PX, TINT
from tests.support import synth

WRITE_AND_HANG = """
import sys, time
from pathlib import Path
from foremask.masking.outputs import written_whole
with written_whole(Path(sys.argv[1]), replace=True) as part:
    part.write_text("half")
    part.with_name(f".{part.name}.part").write_text("half")
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mp4")


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_an_output_that_is_the_input_is_always_refused(clip: Path) -> None:
    folder = clip.parent
    (folder / "folder").mkdir()
    (folder / "again").symlink_to(folder)
    (folder / "symlink.mp4").symlink_to(clip)
    (folder / "hard link.mp4").hardlink_to(clip)
    before, there = clip.read_bytes(), names(folder)
    same = ("clip.mp4", "folder/../clip.mp4", "again/clip.mp4", "symlink.mp4", "hard link.mp4")
    for name, replace in product(same, (False, True)):
        with pytest.raises(errors.OutputFailed, match="the output is the input"):
            synth.mask(clip, folder / name, replace=replace)
        with pytest.raises(errors.OutputFailed, match="the output is the input"):
            contact_sheet(clip, clip, folder / name, moments=1, replace=replace)
    assert clip.read_bytes() == before
    assert names(folder) == there


def test_a_file_that_came_meanwhile_is_not_lost(tmp_path: Path) -> None:
    target = tmp_path / "mask.mp4"

    def write_both() -> None:
        with written_whole(target) as late:
            late.write_text("second")
            with written_whole(target) as early:
                early.write_text("first")

    with pytest.raises(errors.OutputExists):
        write_both()
    assert target.read_text() == "first"
    assert names(tmp_path) == ["mask.mp4"]


@pytest.mark.slow
def test_what_a_killed_masking_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "mask.mp4"
    target.write_text("the old one")
    with subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-c", WRITE_AND_HANG, target], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(names(tmp_path)) == 4
        with written_whole(target, replace=True) as part:
            part.write_text("new")
            assert len(names(tmp_path)) == 6
        os.kill(process.pid, signal.SIGKILL)
    assert len(names(tmp_path)) == 4
    with written_whole(target, replace=True) as part:
        part.write_text("newer")
    assert names(tmp_path) == ["mask.mp4"]
    assert target.read_text() == "newer"


def test_only_a_file_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for target in (Path("/dev/null"), pipe, tmp_path):
        with pytest.raises(errors.OutputFailed):
            check_output(target, replace=True)
    with pytest.raises(errors.OutputExists):
        check_output(dangling)
    assert not (tmp_path / "nowhere").exists()


def test_what_has_the_name_of_a_hidden_file_of_ours_is_not_waited_for(
    clip: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / ".mask.12345678.part.mp4")
    synth.mask(clip, tmp_path / "mask.mp4")
    assert (tmp_path / "mask.mp4").is_file()


def test_a_sheet_shows_each_moment_in_a_row_with_the_foreground_tinted(
    clip: Path, tmp_path: Path
) -> None:
    synth.mask(clip, tmp_path / "mask.mp4")
    contact_sheet(clip, tmp_path / "mask.mp4", tmp_path / "sheet.png", moments=2)
    drawn = np.asarray(cv2.imread(str(tmp_path / "sheet.png")), np.float64)[..., ::-1]
    width = (drawn.shape[1] - 3 * GAP_PX) // 4
    below = (drawn.shape[0] - GAP_PX) // 2
    height = below - CAPTION_PX
    assert max(width, height) == SHEET_CELL_PX
    source, mask, tinted = (drawn[:, at * (width + GAP_PX) :][:, :width] for at in range(3))
    rows = np.r_[CAPTION_PX:below, below + GAP_PX + CAPTION_PX : drawn.shape[0]]
    expected = source + (TINT - source) * 0.5 * mask / 255
    np.testing.assert_allclose(tinted[rows], expected[rows], atol=1)


def test_a_sheet_warns_of_a_mask_that_ends_early_and_still_shows_the_rest_of_the_clip(
    clip: Path, tmp_path: Path
) -> None:
    half = synth.Spec(pts=tuple(range(0, 5000, 1000)))
    mask = synth.write(tmp_path / "mask.mp4", half, synth.greys(half))
    assert warnings_of(clip, clip) == ()
    (said,) = warnings_of(clip, mask)
    assert re.fullmatch(r"the mask has 0\.\d\d s, and the clip has 0\.\d\d s", said)
    drawn = cv2.imdecode(np.frombuffer(draw_sheet(clip, mask, 10), np.uint8), cv2.IMREAD_COLOR)
    whole = cv2.imdecode(np.frombuffer(draw_sheet(clip, clip, 10), np.uint8), 1)
    assert drawn is not None
    assert whole is not None
    assert drawn.shape == whole.shape
