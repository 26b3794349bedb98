"""Resizes planes, and converts masks between levels and alphas."""

import cv2
import numpy as np

from foremask.types import Alpha, Levels, Luma


def resized(plane: Alpha | Luma, columns: int, rows: int) -> Alpha:
    """``plane`` resized to ``columns`` by ``rows``: by area to shrink, linearly to enlarge."""
    shrinks = columns <= plane.shape[1] and rows <= plane.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, (columns, rows), interpolation=how), np.float32)


def as_alpha(levels: Levels) -> Alpha:
    """Levels of 0 to 255 as alphas of 0 to 1."""
    return levels * np.float32(1 / 255)


def as_levels(alpha: Alpha) -> Levels:
    """Alphas of 0 to 1 as the nearest levels of 0 to 255."""
    return np.rint(alpha * np.float32(255)).astype(np.uint8)
