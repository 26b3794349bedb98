"""Masks as they arrive from another frame or from an unsure network, made from a true one."""

import cv2
import numpy as np

from training.prompts import Map

STRENGTHS = (0.3, 1.0, 2.0)
STRENGTH_SHARES = (0.35, 0.45, 0.2)


def smooth_noise(shape: tuple[int, ...], scale_px: float, rng: np.random.Generator) -> Map:
    """Noise of mean 0 and deviation 1 whose bumps are about `scale_px` wide."""
    small = (max(2, round(shape[1] / scale_px)), max(2, round(shape[0] / scale_px)))
    coarse = rng.normal(size=small[::-1]).astype(np.float32)
    noise = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise / (noise.std() + 1e-6)


def moved(mask: Map, extent_px: float, strength: float, rng: np.random.Generator) -> Map:
    """Turned, scaled and shifted, then bent: what flow gets wrong between two frames."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask > 0.5)
    centre = (float(columns.mean()), float(rows.mean()))
    turn_degrees = float(rng.normal(0, 3) * strength)
    scale = float(np.exp(rng.normal(0, 0.05) * strength))
    matrix = cv2.getRotationMatrix2D(centre, turn_degrees, scale)
    matrix[:, 2] += rng.normal(0, 0.03, 2) * strength * extent_px
    mask = cv2.warpAffine(mask, matrix, (width, height))
    bend_px = 0.025 * strength * extent_px * rng.random()
    scale_px = max(4.0, extent_px * rng.uniform(0.15, 0.6))
    grid_rows, grid_columns = np.mgrid[0:height, 0:width].astype(np.float32)
    grid_columns += bend_px * smooth_noise(mask.shape, scale_px, rng)
    grid_rows += bend_px * smooth_noise(mask.shape, scale_px, rng)
    return cv2.remap(mask, grid_columns, grid_rows, cv2.INTER_LINEAR)


def smeared(mask: Map, extent_px: float, rng: np.random.Generator) -> Map:
    """Blurred along one direction, as a thing that moves fast."""
    length = max(3, round(extent_px * rng.uniform(0.02, 0.12)))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    middle = (length - 1) / 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    start = np.round(middle - reach).astype(int)
    end = np.round(middle + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(mask, -1, kernel / kernel.sum())


def edged(mask: Map, extent_px: float, strength: float, rng: np.random.Generator) -> Map:
    """Grown or shrunk, unevenly, with an edge from hard to soft."""
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.7, 1 + 0.03 * extent_px * strength))
    uneven = 0.15 * strength * rng.random() * smooth_noise(mask.shape, rng.uniform(3, 16), rng)
    level = 0.5 + rng.normal(0, 0.12) * strength
    return np.clip((soft + uneven - level) * rng.uniform(2, 12) + 0.5, 0, 1)


def blotted(mask: Map, extent_px: float, rng: np.random.Generator) -> Map:
    """A part missing, or a blob added near by."""
    rows, columns = np.nonzero(mask > 0.5)
    if not len(rows):
        return mask
    index = rng.integers(len(rows))
    centre = np.array([columns[index], rows[index]], float)
    value = float(rng.random() < 0.4)
    if value:
        centre += rng.normal(0, 0.5, 2) * extent_px
    radius = max(2, round(rng.uniform(0.05, 0.22) * extent_px))
    axes = (radius, max(2, round(radius * rng.uniform(0.4, 1.5))))
    turn_degrees = float(rng.uniform(0, 180))
    place = np.round(centre).astype(int).tolist()
    return cv2.ellipse(mask.copy(), place, axes, turn_degrees, 0, 360, value, -1)


def disturbed(mask: Map, other: Map | None, rng: np.random.Generator) -> Map:
    """A worse mask; `other` is another thing, which it may have caught in part."""
    rows, columns = np.nonzero(mask > 0.5)
    if len(rows) < 20:
        return mask
    extent_px = float(max(np.ptp(rows), np.ptp(columns), 8))
    strength = float(rng.choice(STRENGTHS, p=STRENGTH_SHARES))
    worse = moved(mask.astype(np.float32), extent_px, strength, rng)
    if rng.random() < 0.25:
        worse = smeared(worse, extent_px, rng)
    worse = edged(worse, extent_px, strength, rng)
    for _ in range(rng.integers(0, 3)):
        worse = blotted(worse, extent_px, rng)
    if other is not None and rng.random() < 0.3:
        caught = other * (smooth_noise(mask.shape, extent_px / 2, rng) > rng.normal(0, 0.7))
        worse = np.maximum(worse, caught)
    return worse.astype(np.float32)
