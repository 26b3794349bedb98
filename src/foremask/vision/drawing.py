"""Draws the rows of contact sheets, and labelled boxes on frames."""

import cv2
import numpy as np

from foremask.types import Alpha, Levels, Rgb
from foremask.vision.resample import as_levels, resized

TINT = (255, 64, 64)
CHECKER_PX = 12
CHECKER = (120, 170)
GAP_PX = 4
CAPTION_PX = 24


def draw_box(
    picture: Rgb, corner: tuple[int, int], opposite: tuple[int, int], label: str, number: int
) -> None:
    shade = np.array([[[70 * number % 180, 190, 235]]], np.uint8)  # OpenCV has hues from 0 to 179
    colour = cv2.cvtColor(shade, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    cv2.rectangle(picture, corner, opposite, colour, 2)
    origin = corner[0] + 4, max(16, corner[1] + 18)
    for ink, thickness_px in (((0, 0, 0), 4), (colour, 2)):
        cv2.putText(picture, label, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, thickness_px)


def row_of(rgb: Rgb, mask: Rgb) -> Rgb:
    """Return frame, mask, tinted frame and cut-out on a checkerboard, from left to right."""
    rows, columns = rgb.shape[:2]
    alpha = resized(mask[..., 1], columns, rows)[..., None] / np.float32(255)
    y, x = np.mgrid[:rows, :columns] // CHECKER_PX
    board = np.where((x + y) % 2 == 0, *CHECKER)[..., None]
    tinted = rgb * (1 - 0.5 * alpha) + np.array(TINT) * (0.5 * alpha)
    cells = [rgb, mask, tinted, rgb * alpha + board * (1 - alpha)]
    gap = np.full((rows, GAP_PX, 3), 255, np.uint8)
    parts = [np.asarray(np.rint(part), np.uint8) for cell in cells for part in (cell, gap)]
    return np.hstack(parts[:-1])


def captioned(picture: Rgb, caption: str) -> Rgb:
    """Return the picture below a white strip of `CAPTION_PX` with a line of text."""
    strip = np.full((CAPTION_PX, picture.shape[1], 3), 255, np.uint8)
    origin = GAP_PX, CAPTION_PX - 7
    cv2.putText(strip, caption, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, picture])


def stacked(rows: list[Rgb]) -> Rgb:
    gap = np.full((GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    return np.vstack([part for row in rows for part in (row, gap)][:-1])


def as_png(picture: Rgb | Levels) -> bytes:
    bgr = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".png", bgr)
    return encoded.tobytes()


def small_png(alpha: Alpha, most_px: int) -> bytes:
    rows, columns = alpha.shape
    scale = min(1.0, most_px / max(rows, columns))
    small = resized(alpha, max(1, round(columns * scale)), max(1, round(rows * scale)))
    return as_png(as_levels(small))
