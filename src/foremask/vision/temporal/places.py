"""Sets of pixels: their connected parts, dilation, distance to the border, and boxes."""

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha

MOST_SHARE = 0.5  # two places are the same if they share more than this share of their union
OUTLINE_PX = 2  # assumed error of an outline, in pixels of the region grid

SMALL_SHARE = 0.005  # a part with a smaller share of a place is small: docs/adr/0050

type Place = NDArray[np.bool_]
"""A set of pixels, on the region grid unless it is said otherwise."""
type Labels = NDArray[np.int32]
"""(H, W): for each pixel, the number of its connected part, or 0."""


def labelled(place: Place, connectivity: int = 8) -> tuple[Labels, NDArray[np.int32]]:
    # OpenCV's form with statistics has the same areas in three times the time.
    count, labels = cv2.connectedComponents(place.astype(np.uint8), connectivity=connectivity)
    numbers = np.asarray(labels, np.int32)
    return numbers, np.bincount(numbers.ravel(), minlength=count).astype(np.int32)


def gaps_of(place: Place) -> tuple[Labels, NDArray[np.int32], NDArray[np.bool_]]:
    """What a place leaves free: connected parts, their areas, and which of them are holes.

    Diagonals do not connect. A hole does not reach the border of the picture.
    """
    labels, areas = labelled(~place, connectivity=4)
    is_hole = np.ones(len(areas), bool)
    is_hole[0] = False
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_hole[border] = False
    return labels, areas, is_hole


def has_holes(place: Place) -> bool:
    """Whether `gaps_of` finds a hole, in a twentieth of the time."""
    how = cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    outlines, tree = cv2.findContours(place.astype(np.uint8), *how)
    return len(outlines) > 0 and bool((np.asarray(tree)[0, :, 3] >= 0).any())  # inside of another


def part_at(place: Place, row: int, column: int) -> Place:
    """The connected part that a pixel is in; empty if it is in none. Diagonals do not connect."""
    _, labels = cv2.connectedComponents(place.astype(np.uint8), connectivity=4)
    return np.asarray(place & (labels == labels[row, column]))


def grown(place: Place, by_px: int) -> Place:
    side = 2 * by_px + 1
    return np.asarray(cv2.dilate(place.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def depth_of(place: Place) -> Alpha:
    """The distance of each pixel of a place to the nearest pixel outside the place or picture."""
    padded = np.pad(place.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def middle_of(place: Place) -> tuple[int, int]:
    """Row and column of the pixel of a place that is farthest from the place's border."""
    row, column = np.unravel_index(int(depth_of(place).argmax()), place.shape)
    return int(row), int(column)


def box_of(place: Place) -> tuple[int, int, int, int]:
    """Left, top, width and height of a place's bounding box."""
    left, top, width, height = cv2.boundingRect(place.astype(np.uint8))
    return int(left), int(top), int(width), int(height)
