"""Upsamples a mask to the frame's size, along the edges of the frame's luma."""

from collections.abc import Iterator
from math import gcd

import cv2
import numpy as np

from foremask.types import Alpha, Levels, Luma
from foremask.vision.resample import resized

RADIUS_PX = 1  # Radius of the filter's window, in pixels of the small mask: docs/adr/0050.
EPSILON = 1e-3  # Added to the variance of luma (0 to 1), so that faint texture is no edge; by eye.
FLAT = 0.07  # An alpha this near to 0 or 1 becomes 0 or 1; by eye.
STRIP_CELLS = 40  # About this many mask rows are upsampled at once.
MAX_STRIP_PX = 4_000_000


def refine(alpha: Alpha, luma: Luma) -> Levels:
    """Upsample ``alpha`` to the size of ``luma``, along the edges of ``luma``.

    The mask is alpha + a * (luma - low-resolution luma), where a is the slope of the fast guided
    filter (He and Sun, 2015, arXiv:1505.00996). So the mask gets the detail of ``luma`` where
    luma and alpha change together. Unlike that filter, this method does not blur alpha. A constant
    alpha stays constant, whatever the texture.
    """
    height, width = luma.shape
    levels = np.zeros((height, width), np.uint8)
    band, pixels = _band(alpha, height)
    if band.start == band.stop:
        return levels
    guide = _guide(luma[pixels], alpha.shape[1], band.stop - band.start)
    slope = np.zeros_like(alpha)
    offset = np.zeros_like(alpha)
    slope[band] = _slope(alpha[band], guide)
    offset[band] = alpha[band] - slope[band] * guide
    stretch = np.float32(1 / (1 - 2 * FLAT))
    slope *= stretch  # no factor of 255, since luma and levels have the same range
    offset = (offset - np.float32(FLAT)) * np.float32(255 * stretch)
    for pixels, slopes, offsets in _strips(slope, offset, band, height, width):
        detail = cv2.multiply(luma[pixels], slopes, dtype=cv2.CV_32F)
        levels[pixels] = cv2.add(detail, offsets, dtype=cv2.CV_8U)  # also rounds and clips
    return levels


def _band(alpha: Alpha, height: int) -> tuple[slice, slice]:
    """The mask rows, and the frame rows, outside of which alpha and its slope are 0.

    Both ranges end where a mask row and a frame row end together.
    """
    rows = len(alpha)
    inside = np.flatnonzero(alpha.max(axis=1))  # a tenth of the time of OpenCV's reduce
    if not inside.size:
        return slice(0, 0), slice(0, 0)
    unit = rows // gcd(rows, height)
    margin = 2 * RADIUS_PX + 1  # of the slope's two means, and of the interpolation
    first = max(0, int(inside[0]) - margin) // unit
    end = -(-min(rows, int(inside[-1]) + 1 + margin) // unit)
    frame_unit = unit * height // rows
    return slice(first * unit, end * unit), slice(first * frame_unit, end * frame_unit)


def _guide(luma: Luma, columns: int, rows: int) -> Alpha:
    """Luma from 0 to 1 on the mask's grid.

    Where the frame has less than twice the grid's columns, interpolation reads each pixel, and
    takes a sixth of the time of averages over areas with fractions of pixels.
    """
    if luma.shape[1] < 2 * columns:
        small = np.asarray(cv2.resize(luma, (columns, rows)), np.float32)
    else:
        small = resized(luma, columns, rows)
    return small * np.float32(1 / 255)


def _slope(alpha: Alpha, guide: Alpha) -> Alpha:
    window = (2 * RADIUS_PX + 1, 2 * RADIUS_PX + 1)

    def mean(plane: Alpha) -> Alpha:
        return np.asarray(cv2.blur(plane, window), np.float32)

    mean_guide = mean(guide)
    mean_alpha = mean(alpha)
    covariance = mean(guide * alpha) - mean_guide * mean_alpha
    variance = mean(guide * guide) - mean_guide * mean_guide
    return mean(np.asarray(covariance / (variance + EPSILON), np.float32))


def _strips(
    slope: Alpha, offset: Alpha, band: slice, height: int, width: int
) -> Iterator[tuple[slice, Alpha, Alpha]]:
    """Yield the frame rows of each strip that is in ``band``, and both planes upsampled to it.

    Strips end where a mask row and a frame row end together. If such strips would be too large,
    their ends are rounded to frame rows.
    """
    rows = len(slope)
    unit = rows // gcd(rows, height)
    most = max(1, MAX_STRIP_PX * rows // (height * width))
    if unit > most:
        unit = 1
    step = unit * max(1, min(STRIP_CELLS, most) // unit)
    for top in range(0, rows, step):
        bottom = min(rows, top + step)
        if bottom <= band.start or top >= band.stop:
            continue
        above = max(0, top - unit)
        below = min(rows, bottom + unit)
        start, first, stop, end = (
            round(row * height / rows) for row in (above, top, bottom, below)
        )
        size = width, end - start
        shown = slice(first - start, stop - start)
        slopes = cv2.resize(slope[above:below], size)[shown]
        offsets = cv2.resize(offset[above:below], size)[shown]
        yield slice(first, stop), np.asarray(slopes), np.asarray(offsets)
