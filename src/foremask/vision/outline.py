"""Where exactly the subject ends: decided by the colours on both sides of a mask's edge."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.pictures import Alpha, Picture, Rgb
from foremask.vision.grids import resized

SURE: Final = (
    0.95  # alpha from which a cell shows what the foreground looks like; 0.05 for the background
)
WINDOW_CELLS: Final = (
    14  # of the mask's grid: the square in which the colours of both sides are gathered
)
LEAST_SHARE: Final = 0.02  # of that square: with fewer sure cells a side is not there
SPREAD_WEIGHT: Final = 12.0  # how much the sides' own variance counts against their distance
LEAST_DISTANCE: Final = 0.01  # squared, of colours in [0, 1]: sides nearer than 0.1 say little


def settle(alpha: Alpha, picture: Picture) -> Alpha:
    """Move the undecided cells of ``alpha`` to where their colour lies between the colours of both sides.

    With F and B the mean colours of the sure cells around it, a cell of colour I has alpha (I - B)(F - B) / |F - B|²,
    clipped: the estimate of sampling-based matting (Wang and Cohen, CVPR 2007, section 3). It counts as far as F
    and B lie apart, measured in their own spread; where they do not, or one side is not near, alpha stays as it
    is, and so do sure cells, always. ``alpha`` is upright, as the picture is. Measured: docs/adr/0054.
    """
    foreground, background = alpha > SURE, alpha < 1 - SURE
    undecided = np.nonzero(~(foreground | background))
    if undecided[0].size == 0:
        return alpha
    rows, columns = alpha.shape
    rgb = picture.rgb(columns, rows)
    inside, outside = _side(foreground, rgb), _side(background, rgb)
    near = tuple(
        at * half // full
        for at, half, full in zip(undecided, inside.share.shape, alpha.shape, strict=True)
    )
    across = inside.mean[near] - outside.mean[near]
    distance = (across * across).sum(axis=1)
    colour = rgb[undecided] * np.float32(1 / 255)
    along = ((colour - outside.mean[near]) * across).sum(axis=1)
    told = np.clip(along / (distance + np.float32(1e-6)), 0, 1)
    spread = inside.variance[near] + outside.variance[near]
    weight = distance / (distance + np.float32(SPREAD_WEIGHT) * spread + np.float32(LEAST_DISTANCE))
    weight[np.minimum(inside.share[near], outside.share[near]) < LEAST_SHARE] = 0
    settled = alpha.copy()
    settled[undecided] += weight * (told - alpha[undecided])
    return settled


@dataclass(frozen=True, slots=True)
class _Side:
    """What one side looks like around each cell of half the grid: colour in [0, 1], and share of the window."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    share: NDArray[np.float32]


def _side(sure: NDArray[np.bool_], rgb: Rgb) -> _Side:
    rows, columns = (max(1, length // 2) for length in sure.shape)
    weight = resized(sure.astype(np.uint8), columns, rows)
    small = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    window = (WINDOW_CELLS // 2, WINDOW_CELLS // 2)
    share = np.asarray(cv2.blur(weight, window), np.float32)
    counted = share + np.float32(1e-6)
    mean = cv2.blur(small * weight[..., None], window) / counted[..., None]
    power = cv2.blur((small * small).sum(axis=2) * weight, window) / counted
    variance = np.maximum(power - (mean * mean).sum(axis=2), 0)
    return _Side(np.asarray(mean, np.float32), np.asarray(variance, np.float32), share)
