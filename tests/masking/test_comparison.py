from pathlib import Path

import cv2
import numpy as np

from foremask.masking.comparison import SHEET_CELL_PX, contact_sheet
from foremask.vision.drawing import GAP_PX
from tests.support import synth


def test_a_sheet_has_a_row_for_each_moment_and_four_pictures_in_each(tmp_path: Path) -> None:
    """Here a clip serves as its own mask: the first and the second cell are the same picture."""
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec())
    contact_sheet(clip, clip, tmp_path / "sheet.png", moments=2)
    drawn = np.asarray(cv2.imread(str(tmp_path / "sheet.png")))
    width = (drawn.shape[1] - 3 * GAP_PX) // 4
    height = (drawn.shape[0] - GAP_PX) // 2
    assert max(width, height) == SHEET_CELL_PX
    np.testing.assert_array_equal(drawn[:, :width], drawn[:, width + GAP_PX : 2 * width + GAP_PX])
