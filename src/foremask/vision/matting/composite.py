"""Puts a subject over a background, and makes backgrounds from pictures."""

from typing import Final

import cv2
import numpy as np

from foremask.types import DeepRgb, Levels, Rgb

_BLUR_GRID: Final = 4  # the blur is computed at a quarter of the width and height


def over(colours: Rgb, background: Rgb, levels: Levels) -> Rgb:
    """Blend ``colours`` over ``background`` by ``levels`` without linearising, as players do."""
    front = cv2.multiply(colours, cv2.merge([levels] * 3), scale=1 / 255)
    back = cv2.multiply(background, cv2.merge([cv2.bitwise_not(levels)] * 3), scale=1 / 255)
    return np.asarray(cv2.add(front, back), np.uint8)


def deepened(colours: Rgb, picture: Rgb, deep: DeepRgb, share: Levels) -> DeepRgb:
    """Return ``colours`` in 16 bits, with the fine steps that ``deep`` adds to ``picture``.

    ``share``, 0 to 255, is the weight of ``picture`` in ``colours``; at 255 the result is ``deep``.
    """
    finer = deep.astype(np.float32) - np.float32(257) * picture
    finer *= (share * np.float32(1 / 255))[..., None]
    finer += np.float32(257) * colours
    return np.clip(np.rint(finer, out=finer), 0, 65535).astype(np.uint16)


def covering(picture: Rgb, width: int, height: int) -> Rgb:
    """Return the middle of ``picture``, scaled until it covers ``width`` by ``height``."""
    rows, columns = picture.shape[:2]
    scale = max(width / columns, height / rows)
    shown_columns = max(1, min(columns, round(width / scale)))
    shown_rows = max(1, min(rows, round(height / scale)))
    left, top = (columns - shown_columns) // 2, (rows - shown_rows) // 2
    part = picture[top : top + shown_rows, left : left + shown_columns]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)


def blurred_background(picture: Rgb, levels: Levels, radius_px: float) -> Rgb:
    """Blur ``picture`` without its subject, whose colours would form a halo."""
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
