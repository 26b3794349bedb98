"""Finds the part of a picture that the foreground of masks can reach along a flow."""

from collections.abc import Iterable
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Flow, Levels
from foremask.vision.temporal.flow import Part

FOREGROUND_LEVEL = 127  # where no mask has a higher level, their mean is no foreground
MARGIN_PX = 2  # from a pixel to those that its flow and its mask are interpolated from
MARGIN_CELLS = 3  # the same on the flow grid, and a cell for the blur of `trust`


def part_around(place: NDArray[np.bool_], beyond_px: int) -> Part | None:
    """The bounding box of a place, and ``beyond_px`` around it; None if the place is empty."""
    left, top, width, height = cv2.boundingRect(place.astype(np.uint8))
    if not width:
        return None
    rows = slice(max(0, top - beyond_px), min(place.shape[0], top + height + beyond_px))
    columns = slice(max(0, left - beyond_px), min(place.shape[1], left + width + beyond_px))
    return rows, columns


def reach(moves: Iterable[tuple[Levels, Flow | None]], beyond_px: int) -> Part | None:
    """The part where masks can be foreground after `warp`, and ``beyond_px`` around it.

    Each mask comes with its flow, on any grid, or with None if it stays. The result is None if no
    mask has foreground.
    """
    reached: NDArray[np.bool_] | None = None
    for mask, flow in moves:
        if reached is None:
            reached = np.zeros(mask.shape, np.bool_)
        part = part_around(mask > FOREGROUND_LEVEL, 0)
        if part is not None:
            reached[part if flow is None else _moved(part, flow, mask.shape)] = True
    return None if reached is None else part_around(reached, beyond_px)


def _moved(part: Part, flow: Flow, shape: tuple[int, ...]) -> Part:
    x, y = (np.asarray(each, np.float32) for each in cv2.split(flow))
    rows = _readers(part[0], y, shape[0], shape[0] / y.shape[0])
    return rows, _readers(part[1], x, shape[1], shape[1] / x.shape[1])


def _readers(span: slice, distance: NDArray[np.float32], size: int, scale: float) -> slice:
    """The rows or columns that can read from ``span`` at a distance (times ``scale``) of these.

    What is beyond the picture repeats its border, so readers of the border can be anywhere.
    """
    least, most = (
        max(-size, min(size, scale * float(each))) for each in (distance.min(), distance.max())
    )
    first = max(0, span.start - ceil(most) - MARGIN_PX)
    end = min(size, span.stop - floor(least) + MARGIN_PX)
    return slice(first if span.start else 0, end if span.stop < size else size)


def on_grid(part: Part, old: tuple[int, ...], new: tuple[int, ...]) -> Part:
    """The cells of a grid of shape ``new`` that give ``part`` of a plane enlarged to ``old``."""
    rows, columns = (
        slice(
            max(0, span.start * there // here - MARGIN_CELLS),
            min(there, -(-span.stop * there // here) + MARGIN_CELLS),
        )
        for span, here, there in zip(part, old, new, strict=False)
    )
    return rows, columns
