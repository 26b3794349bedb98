"""Enlarges a mask from a small grid to the frame's size, along the edges of the picture."""

from collections.abc import Iterator
from math import gcd

import cv2
import numpy as np

from foremask.types import Alpha, Levels, Luma
from foremask.vision.resample import resized

RADIUS_PX = 1  # of a window, in cells of the small grid; by measurement, as EPSILON: docs/adr/0050
EPSILON = 1e-3  # of luma in [0, 1], squared: steps smaller than about 0.03 are no edge
FLAT = 0.07  # an alpha this near to 0 or 1 becomes 0 or 1
STRIP_CELLS = 40  # about this many rows of the small grid are enlarged at once
MAX_STRIP_PX = 4_000_000


def refine(alpha: Alpha, luma: Luma) -> Levels:
    """Enlarge ``alpha`` to the size of ``luma``, along the edges of ``luma``.

    Where luma and alpha change together on the small grid, the luma's detail at full size is
    transferred: mask = alpha + a * (luma - luma of the small grid), with the slope a of the guided
    filter (He and Sun, 2015, arXiv:1505.00996). Unlike the filter, this method never blurs the
    alpha. A constant alpha stays constant, whatever the texture.
    """
    height, width = luma.shape
    rows, columns = alpha.shape
    guide = resized(luma, columns, rows) * np.float32(1 / 255)
    slope = _slope(alpha, guide)
    offset = alpha - slope * guide
    stretch = np.float32(1 / (1 - 2 * FLAT))
    slope *= stretch  # 255 for the levels cancels 1 / 255 for the luma
    offset = (offset - np.float32(FLAT)) * np.float32(255 * stretch)
    levels = np.empty((height, width), np.uint8)
    for pixels, slopes, offsets in _strips(slope, offset, height, width):
        detail = cv2.multiply(luma[pixels], slopes, dtype=cv2.CV_32F)
        levels[pixels] = cv2.add(detail, offsets, dtype=cv2.CV_8U)  # rounds, and clips to 0 and 255
    return levels


def _slope(alpha: Alpha, guide: Alpha) -> Alpha:
    window = (2 * RADIUS_PX + 1, 2 * RADIUS_PX + 1)

    def mean(plane: Alpha) -> Alpha:
        return np.asarray(cv2.blur(plane, window), np.float32)

    mean_guide, mean_alpha = mean(guide), mean(alpha)
    covariance = mean(guide * alpha) - mean_guide * mean_alpha
    variance = mean(guide * guide) - mean_guide * mean_guide
    return mean(np.asarray(covariance / (variance + EPSILON), np.float32))


def _strips(
    slope: Alpha, offset: Alpha, height: int, width: int
) -> Iterator[tuple[slice, Alpha, Alpha]]:
    """Yield a range of the frame's rows, and both planes enlarged linearly to it.

    A strip ends where a row of cells and a row of pixels end together, unless such strips would be
    too large, as in a huge frame of an odd height.
    """
    rows = len(slope)
    unit = rows // gcd(rows, height)
    most = max(1, MAX_STRIP_PX * rows // (height * width))
    if unit > most:
        unit = 1
    step = unit * max(1, min(STRIP_CELLS, most) // unit)
    for top in range(0, rows, step):
        bottom = min(rows, top + step)
        above, below = max(0, top - unit), min(rows, bottom + unit)
        start, first, stop, end = (
            round(row * height / rows) for row in (above, top, bottom, below)
        )
        slopes, offsets = (
            cv2.resize(plane[above:below], (width, end - start))[first - start : stop - start]
            for plane in (slope, offset)
        )
        yield slice(first, stop), np.asarray(slopes), np.asarray(offsets)
