"""Where people click: in the middle, off it, on thin parts, near the border."""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.prompts import Click, Map

Region = NDArray[np.bool_]
HABITS = ("middle", "off the middle", "anywhere", "near the border", "on a thin part")
SHARES = (0.35, 0.35, 0.12, 0.1, 0.08)
LEAST_ERROR_PX = 4


def depth(region: Region) -> NDArray[np.float32]:
    """The distance of each pixel from what is not in the region; the picture's edge counts."""
    padded = np.pad(region.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]


def middle(region: Region) -> tuple[int, int]:
    """Row and column of the pixel that lies deepest."""
    row, column = np.unravel_index(depth(region).argmax(), region.shape)
    return int(row), int(column)


def as_people_click(region: Region, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a place in a region that is not empty."""
    habit = rng.choice(HABITS, p=SHARES)
    if habit == "middle":
        return middle(region)
    deep = depth(region)
    deepest = float(deep.max())
    candidates = region
    if habit == "off the middle":
        candidates = deep >= 0.3 * deepest
    elif habit == "near the border":
        candidates = region & (deep <= max(1.5, 0.15 * deepest))
    elif habit == "on a thin part":
        ridge = deep >= cv2.dilate(deep, np.ones((3, 3), np.uint8))
        candidates = region & ridge & (deep < 0.35 * deepest)
    if not candidates.any():
        candidates = region
    rows, columns = np.nonzero(candidates)
    index = rng.integers(len(rows))
    return int(rows[index]), int(columns[index])


def click_at(row: int, column: int, shape: tuple[int, ...], *, inside: bool) -> Click:
    return Click((column + 0.5) / shape[1], (row + 0.5) / shape[0], inside)


def largest_part(region: Region) -> tuple[Region, int]:
    """The largest connected part and its area in pixels; 0 where the region is empty."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8))
    if count < 2:
        return region, 0
    largest = 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    return labels == largest, int(facts[largest, cv2.CC_STAT_AREA])


def next_click(
    answer: Map, target: Region, known: Region, rng: np.random.Generator | None
) -> Click | None:
    """A click in the largest part of what is wrong; None where nothing is.

    Without `rng` in its middle: the rule by which RITM and its successors are compared.
    """
    missing, missing_px = largest_part(target & (answer < 0.5) & known)
    surplus, surplus_px = largest_part(~target & (answer >= 0.5) & known)
    if max(missing_px, surplus_px) < LEAST_ERROR_PX:
        return None
    inside = missing_px >= surplus_px
    region = missing if inside else surplus
    place = middle(region) if rng is None else as_people_click(region, rng)
    return click_at(*place, region.shape, inside=inside)
