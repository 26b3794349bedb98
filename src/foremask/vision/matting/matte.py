"""A compositor's tools: black and white point, gamma, small parts, growth, feather, despill."""

from math import floor

import cv2
import numpy as np

from foremask.options import Despill, Matte
from foremask.types import Levels, Rgb


def inverted(levels: Levels) -> Levels:
    return np.asarray(cv2.bitwise_not(levels), np.uint8)


def adjusted(levels: Levels, matte: Matte) -> Levels:
    """Apply all fields of ``matte`` but ``despill``, in their order."""
    if matte.invert:
        levels = inverted(levels)
    if (matte.black, matte.white, matte.gamma) != (0.0, 1.0, 1.0):
        levels = with_points(levels, matte.black, matte.white, matte.gamma)
    if matte.min_part_px:
        levels = without_small_parts(levels, matte.min_part_px)
    if matte.grow_px:
        levels = grown(levels, matte.grow_px)
    if matte.feather_px:
        levels = feathered(levels, matte.feather_px)
    return levels


def with_points(levels: Levels, black: float, white: float, gamma: float) -> Levels:
    """Scale alpha so that ``black`` becomes 0 and ``white`` 1, and raise it to 1 / ``gamma``."""
    alpha = np.clip((np.arange(256) / 255 - black) / (white - black), 0, 1) ** (1 / gamma)
    return np.asarray(cv2.LUT(levels, np.rint(255 * alpha).astype(np.uint8)), np.uint8)


def without_small_parts(levels: Levels, min_part_px: int) -> Levels:
    """Remove connected parts whose alpha sums to less than ``min_part_px`` pixels."""
    count, found = cv2.connectedComponents(cv2.inRange(levels, 1, 255))
    if count == 1:
        return levels
    labels = np.asarray(found, np.intp)
    size_px = np.bincount(labels.ravel(), levels.ravel(), count) / 255
    small = size_px < min_part_px
    small[0] = False
    return np.where(small[labels], 0, levels).astype(np.uint8) if small.any() else levels


def grown(levels: Levels, grow_px: float) -> Levels:
    """Move the outline outwards by ``grow_px``; a negative value moves it inwards.

    Each pixel takes the greatest alpha within a disc of this radius, so that a soft edge stays
    soft. For a fractional radius, the results of the two nearest whole radii are blended.
    """
    if grow_px < 0:
        return inverted(grown(inverted(levels), -grow_px))
    whole = floor(grow_px)
    share = grow_px - whole
    inner = _greatest(levels, whole)
    if not share:
        return inner
    outer = _greatest(levels, whole + 1)
    return np.asarray(cv2.addWeighted(inner, 1 - share, outer, share, 0), np.uint8)


def _greatest(levels: Levels, radius_px: int) -> Levels:
    if not radius_px:
        return levels
    offsets = np.arange(-radius_px, radius_px + 1)
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius_px**2).astype(np.uint8)
    return np.asarray(cv2.dilate(levels, disc), np.uint8)


def feathered(levels: Levels, feather_px: float) -> Levels:
    """Blur: a hard edge becomes a ramp from 98 % to 2 % alpha, ``feather_px`` to each side."""
    sigma = feather_px / 2
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), sigma, borderType=border), np.uint8)


def despilled(colours: Rgb, despill: Despill) -> Rgb:
    """Limit the screen's channel, green or blue, to the larger of the two other channels."""
    if despill is Despill.NONE:
        return colours
    red, green, blue = cv2.split(colours)
    if despill is Despill.GREEN:
        green = cv2.min(green, cv2.max(red, blue))
    else:
        blue = cv2.min(blue, cv2.max(red, green))
    return np.asarray(cv2.merge([red, green, blue]), np.uint8)
