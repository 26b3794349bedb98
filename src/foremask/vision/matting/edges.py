"""Enlarges a mask from a small grid to the frame's size, along the edges of the picture."""

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np

from foremask.types import Alpha, Levels, Luma
from foremask.vision.resample import resized

RADIUS_PX = 1  # of the small grid; this and EPSILON by measurement: docs/adr/0050
EPSILON = 1e-3  # of luma in [0, 1], squared: steps smaller than about 0.03 are no edge
FLAT = 0.07  # an alpha this near to 0 or 1 is 0 or 1
TILE_CELLS = 40  # of the small grid: tiles that are flat are filled, and only the others computed


def refine(alpha: Alpha, luma: Luma) -> Levels:
    """Levels at the size of ``luma`` from ``alpha`` on a smaller grid, in the same orientation.

    Method: where luma and alpha change together on the small grid, the luma's detail at full size
    is transferred: mask = alpha + a * (luma - luma of the small grid), with the slope a of the
    guided filter (He and Sun, 2015, arXiv:1505.00996). Unlike the filter itself this never blurs
    the alpha, and where the alpha is constant it stays so, whatever the texture. Needs memory for
    one tile beside the result.
    """
    height, width = luma.shape
    rows, columns = alpha.shape
    guide = resized(luma, columns, rows) * np.float32(1 / 255)
    slope = _slope(alpha, guide)
    offset = alpha - slope * guide
    stretch = np.float32(1 / (1 - 2 * FLAT))
    slope *= stretch  # 255 for the levels, and 1 / 255 for the luma
    offset = (offset - np.float32(FLAT)) * np.float32(255 * stretch)
    levels = np.zeros((height, width), np.uint8)
    for cells, pixels in _tiles(rows, columns, height, width):
        around = alpha[
            max(0, cells[0].start - 2) : cells[0].stop + 2,
            max(0, cells[1].start - 2) : cells[1].stop + 2,
        ]
        if around.max() <= FLAT:
            continue
        if around.min() >= 1 - FLAT:
            levels[pixels] = 255
            continue
        a, b = (_enlarged(each, pixels, height, width) for each in (slope, offset))
        detail = cv2.multiply(luma[pixels], a, dtype=cv2.CV_32F)
        levels[pixels] = cv2.add(detail, b, dtype=cv2.CV_8U)  # rounds, and clips to 0 and 255
    return levels


def _slope(alpha: Alpha, guide: Alpha) -> Alpha:
    window = (2 * RADIUS_PX + 1, 2 * RADIUS_PX + 1)

    def mean(plane: Alpha) -> Alpha:
        return np.asarray(cv2.blur(plane, window), np.float32)

    mean_guide, mean_alpha = mean(guide), mean(alpha)
    covariance = mean(guide * alpha) - mean_guide * mean_alpha
    variance = mean(guide * guide) - mean_guide * mean_guide
    return mean(np.asarray(covariance / (variance + EPSILON), np.float32))


type _Box = tuple[slice, slice]


def _tiles(rows: int, columns: int, height: int, width: int) -> Iterator[tuple[_Box, _Box]]:
    """Boxes of the small grid, and the boxes of the frame that lie over them."""
    for top, bottom in pairwise([*range(0, rows, TILE_CELLS), rows]):
        for left, right in pairwise([*range(0, columns, TILE_CELLS), columns]):
            down = slice(top * height // rows, bottom * height // rows)
            across = slice(left * width // columns, right * width // columns)
            yield (slice(top, bottom), slice(left, right)), (down, across)


def _enlarged(plane: Alpha, pixels: _Box, height: int, width: int) -> Alpha:
    """The ``pixels`` of ``plane`` as if it were resized linearly to ``width`` by ``height``."""
    down, across = pixels
    scale_y, scale_x = plane.shape[0] / height, plane.shape[1] / width
    # The inverse map of cv2.warpAffine: where the centre of each pixel lies on the small grid.
    inverse = np.array(
        [
            [scale_x, 0, (across.start + 0.5) * scale_x - 0.5],
            [0, scale_y, (down.start + 0.5) * scale_y - 0.5],
        ]
    )
    enlarged = cv2.warpAffine(
        plane,
        inverse,
        (across.stop - across.start, down.stop - down.start),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(enlarged, np.float32)
