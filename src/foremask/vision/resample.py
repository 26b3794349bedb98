"""Resizes planes, and converts masks between `Levels` and `Alpha`."""

import cv2
import numpy as np

from foremask.types import Alpha, Levels, Luma


def resized(plane: Alpha | Luma, columns: int, rows: int) -> Alpha:
    """Average areas if neither width nor height grows; otherwise interpolate linearly."""
    shrinks = columns <= plane.shape[1] and rows <= plane.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, (columns, rows), interpolation=how), np.float32)


def as_alpha(levels: Levels) -> Alpha:
    return levels * np.float32(1 / 255)


def as_levels(alpha: Alpha) -> Levels:
    return np.rint(alpha * np.float32(255)).astype(np.uint8)


def alpha_on(levels: Levels, columns: int, rows: int) -> Alpha:
    return resized(levels, columns, rows) * np.float32(1 / 255)
