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


def alike(rgb: Map, seed: tuple[int, int], reach_px: float, tolerance: float) -> Map:
    """The connected pixels round ``seed`` (row, column) whose colours are near its own."""
    height, width = rgb.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    far = np.hypot(rows - seed[0], columns - seed[1]) > reach_px
    barred = np.pad(far.astype(np.uint8), 1, constant_values=1)
    how = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (2 << 8)
    nearness = (tolerance,) * 3
    cv2.floodFill(rgb.copy(), barred, seed[::-1], 0, nearness, nearness, how)
    found = (barred[1:-1, 1:-1] == 2).astype(np.uint8)
    return cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(np.float32)


def with_small_errors(mask: Map, rgb: Map, rng: np.random.Generator) -> Map:
    """A mask that is nearly right: one or two patches of the picture are missing or too many.

    ``rgb`` is the picture in 0 to 1, of the mask's size. Patches too many lie at the thing or,
    less often, anywhere.
    """
    rows, columns = np.nonzero(mask > 0.5)
    extent_px = float(max(np.ptp(rows), np.ptp(columns), 8))
    wrong = edged(mask, extent_px, rng.uniform(0, 0.3), rng)
    reach = np.ones((2 * round(0.1 * extent_px) + 3,) * 2, np.uint8)
    for _ in range(rng.integers(1, 3)):
        places = mask > 0.5
        adds = rng.random() < 0.5
        if adds:
            around = cv2.dilate(mask, reach) > 0.5
            places = ~places & (around if rng.random() < 0.7 else True)
        if not places.any():
            continue
        seeds = np.argwhere(places)
        row, column = seeds[rng.integers(len(seeds))].tolist()
        reach_px = max(3.0, extent_px * rng.uniform(0.06, 0.3))
        patch = alike(rgb, (row, column), reach_px, rng.uniform(0.04, 0.25)) * places
        wrong = np.maximum(wrong, patch) if adds else np.minimum(wrong, 1 - patch)
    return wrong.astype(np.float32)
