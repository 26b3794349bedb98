"""Adjusts mattes, removes colour spill, and composites the subject over backgrounds."""

from math import floor
from typing import Final

import cv2
import numpy as np

from foremask.options import Despill, Fit, Matte
from foremask.types import DeepRgb, Levels, Rgb


def inverted(levels: Levels) -> Levels:
    return np.asarray(cv2.bitwise_not(levels), np.uint8)


def adjusted(levels: Levels, matte: Matte) -> Levels:
    """Apply all fields of ``matte`` except ``despill``, in the order of the fields."""
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
    """Map alpha ``black`` to 0 and ``white`` to 1, then raise it to the power 1 / ``gamma``."""
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
    if not small.any():
        return levels
    return np.where(small[labels], 0, levels).astype(np.uint8)


def grown(levels: Levels, grow_px: float) -> Levels:
    """Move the outline outwards by ``grow_px``; a negative value moves it inwards.

    Each pixel gets the greatest alpha within a disc of this radius. For a fractional radius, the
    results of the two nearest whole radii are blended.
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
    """Blur the matte: a hard edge becomes a ramp of ``feather_px`` to each side."""
    sigma = feather_px / 2
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), sigma, borderType=border), np.uint8)


def despilled(colours: Rgb, despill: Despill) -> Rgb:
    """Limit green, or blue, to the larger of the two other channels."""
    if despill is Despill.NONE:
        return colours
    red, green, blue = cv2.split(colours)
    if despill is Despill.GREEN:
        green = cv2.min(green, cv2.max(red, blue))
    else:
        blue = cv2.min(blue, cv2.max(red, green))
    return np.asarray(cv2.merge([red, green, blue]), np.uint8)


_BLUR_GRID: Final = 4  # `blurred` works at a quarter of the width and height


def over(colours: Rgb, background: Rgb, levels: Levels) -> Rgb:
    """Composite in gamma-coded values, as players do; ``levels`` is the alpha of ``colours``."""
    front = cv2.multiply(colours, cv2.merge([levels] * 3), scale=1 / 255)
    back = cv2.multiply(background, cv2.merge([cv2.bitwise_not(levels)] * 3), scale=1 / 255)
    return np.asarray(cv2.add(front, back), np.uint8)


def deepened(colours: Rgb, picture: Rgb, deep: DeepRgb, share: Levels) -> DeepRgb:
    """Return ``colours`` in 16 bits, with the detail that ``deep`` has and ``picture`` lacks.

    ``picture`` is ``deep`` in 8 bits. ``share`` (0 to 255) is the weight of the detail.
    """
    finer = deep.astype(np.float32) - np.float32(257) * picture
    finer *= (share * np.float32(1 / 255))[..., None]
    finer += np.float32(257) * colours
    return np.clip(np.rint(finer, out=finer), 0, 65535).astype(np.uint16)


def fitted(picture: Rgb, fit: Fit, width: int, height: int) -> Rgb:
    """Scale ``picture`` to ``width`` by ``height``; to cover it, opposite sides are cropped."""
    rows, columns = picture.shape[:2]
    if fit is Fit.STRETCH:
        shrinks = rows * columns > width * height
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
    scale = max(width / columns, height / rows)
    shown_columns = max(1, min(columns, round(width / scale)))
    shown_rows = max(1, min(rows, round(height / scale)))
    left = (columns - shown_columns) // 2
    top = (rows - shown_rows) // 2
    part = picture[top : top + shown_rows, left : left + shown_columns]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)


def blurred(picture: Rgb, levels: Levels, radius_px: float) -> Rgb:
    """Blur ``picture`` with little weight on the subject, so that the subject leaves no halo."""
    height, width = levels.shape
    size = (max(1, width // _BLUR_GRID), max(1, height // _BLUR_GRID))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 3)
    subject = cv2.resize(levels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0])
    weight = np.maximum(1 - subject * np.float32(1 / 255), np.float32(1e-3))
    weighted = small * weight[..., None]
    sigma = max(0.5, radius_px / 2 / _BLUR_GRID)
    border = cv2.BORDER_REPLICATE
    sums = cv2.GaussianBlur(weighted, (0, 0), sigma, borderType=border).reshape(small.shape)
    total = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=border).reshape(weight.shape)
    blurred = np.clip(np.rint(sums / total[..., None]), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(blurred, (width, height)), np.uint8)


def dimmed(picture: Rgb, brightness: float) -> Rgb:
    return np.asarray(cv2.convertScaleAbs(picture, alpha=brightness), np.uint8)
