"""The picture of docs/hints.md: two equal discs that cross, and what one point does.

``python -m benchmarks.quality.hint_pictures [TARGET]``. Source, a point in, and a point out, at
three moments; the network is a drawn one that takes red for foreground.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from tests.vision.temporal.test_guidance import FRAMES, crossing, masks_of

TARGET = Path("docs/pictures/hints.webp")
MOMENTS = (0, 36, FRAMES - 1)
POINT = (50, 84)
GAP_PX = 6
WHITE, DIMMED = 255, 0.25


def marked(rgb: np.ndarray, *, positive: bool) -> np.ndarray:
    """With a ring where the click is; a minus in it means out."""
    result = np.ascontiguousarray(rgb)
    cv2.circle(result, POINT, 9, (255, 255, 255), 2, cv2.LINE_AA)
    cv2.line(result, (POINT[0] - 4, POINT[1]), (POINT[0] + 4, POINT[1]), (255, 255, 255), 2)
    if positive:
        cv2.line(result, (POINT[0], POINT[1] - 4), (POINT[0], POINT[1] + 4), (255, 255, 255), 2)
    return result


def main() -> None:
    """Mask the scene without a point and with each, and write one picture."""
    target = Path(sys.argv[1]) if sys.argv[1:] else TARGET
    rows = []
    for clicks in ([], [(0, *POINT, True)], [(0, *POINT, False)]):
        masks = masks_of(crossing, clicks, FRAMES)
        cells = []
        for moment in MOMENTS:
            rgb = crossing(moment)[0]
            shown = np.where(masks[moment][..., None], rgb, rgb * DIMMED).astype(np.uint8)
            if clicks and moment == 0:
                shown = marked(shown, positive=clicks[0][3])
            cells += [shown, np.full((shown.shape[0], GAP_PX, 3), WHITE, np.uint8)]
        row = np.hstack(cells[:-1])
        rows += [row, np.full((GAP_PX, row.shape[1], 3), WHITE, np.uint8)]
    picture = cv2.cvtColor(np.vstack(rows[:-1]), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(target), picture, [cv2.IMWRITE_WEBP_QUALITY, 60])
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
