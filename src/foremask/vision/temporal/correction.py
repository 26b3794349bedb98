"""Which place a click means that corrects a mask.

A person clicks in the middle of what is wrong. There the mask's border is as near as the true one,
so a disc up to the mask's border is wrong for certain, unless what it shows changes before. The
disc teaches what the wrong place looks like, and what lies round it what the rest does: pixels near
it that are rather like the disc belong to it. Source: docs/adr/0050.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Rgb
from foremask.vision.temporal.frame_hints import Correction, part_at
from foremask.vision.temporal.regions import FOREGROUND, MOST_LOGIT

MOST_SHARE = 0.09  # of the diagonal: the largest disc; it goes half way to an opposite click
MOST_TAKEN = 0.15  # of the mask: a click out takes no more
FIRST_PX, GROWTH = 3.0, 1.4  # the disc's radius, and by how much it grows at once
CHANGED = 3.0  # mean squared deviations of a ring from what is inside: the disc ends before it
REACH = 2.0  # discs from the click, nothing is changed farther away; the rest is as far beyond
CLEARLY = 1.0  # log ratio from which a pixel is rather like the disc
LEAST_REST_PX = 20
LEAST_VARIANCE = 0.01


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of a frame whose mask is corrected; all planes are on one grid."""

    rgb: Rgb
    mask: Alpha  # as it was decided
    opinions: Alpha  # their mean
    crops: Alpha  # the mean of those round hints, where there are some
    logit: Alpha  # of the clip's classifier
    log_odds: Alpha  # of the decision


def corrected_sides(corrections: Sequence[Correction], shown: Shown) -> Alpha:
    """1 on what corrections on a frame take in, -1 on what they take out, else 0.

    Each counts on what those before have left.
    """
    sides = np.zeros(shown.mask.shape, np.float32)
    for each in corrections:
        mask = np.where(sides == 0, shown.mask, sides > 0).astype(np.float32)
        apart = [
            np.hypot(other.row - each.row, other.column - each.column)
            for other in corrections
            if other.positive != each.positive
        ]
        place = _place_of(each, replace(shown, mask=mask), min(apart, default=np.inf) / 2)
        sides[place] = 1 if each.positive else -1
    return sides


def _place_of(click: Correction, shown: Shown, most: float) -> NDArray[np.bool_]:
    """The pixels round a click that change sides: none where the mask has it right already.

    The disc round it is as large as ``most``, at most.
    """
    wrong = (shown.mask > FOREGROUND) != click.positive
    if not wrong[click.row, click.column]:
        return np.zeros(wrong.shape, bool)
    rows, columns = np.indices(wrong.shape)
    away = np.hypot(rows - click.row, columns - click.column)
    room = cv2.distanceTransform(wrong.astype(np.uint8), cv2.DIST_L2, 5)[click.row, click.column]
    most_taken = np.inf if click.positive else MOST_TAKEN * float(wrong.sum())
    largest = MOST_SHARE * float(np.hypot(*wrong.shape))
    largest = min(float(room), largest, most, float(np.sqrt(most_taken / np.pi)))
    described = _described(shown)
    radius = _radius(described, np.where(wrong, away, np.inf), largest)
    disc = wrong & (away <= radius)
    near = wrong & (away <= REACH * radius)
    rest = wrong & ~near & (away <= 2 * REACH * radius)
    if rest.sum() >= LEAST_REST_PX:
        like = _likeness(described, disc) - _likeness(described, rest) > CLEARLY
        place = part_at(disc | (near & like), click.row, click.column)
        if place.sum() <= most_taken:
            return place
    return part_at(disc, click.row, click.column)


def _radius(described: NDArray[np.float32], away: Alpha, largest: float) -> float:
    """How large a disc shows one thing, of ``largest`` at most."""
    radius = min(FIRST_PX, largest)
    while radius < largest:
        further = min(GROWTH * radius, largest)
        inside, ring = described[away <= radius], described[(away > radius) & (away <= further)]
        variance = inside.var(axis=0) + np.float32(LEAST_VARIANCE)
        squares = np.square(ring - inside.mean(axis=0)) / variance
        if len(ring) and squares.mean() > CHANGED:
            break
        radius = further
    return radius


def _described(shown: Shown) -> NDArray[np.float32]:
    """Colours, opinions and likeness to the subject of each pixel, of about the same scale."""
    blurred = cv2.GaussianBlur(np.ascontiguousarray(shown.rgb), (0, 0), 0.8)
    lab = cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab).astype(np.float32) / np.float32(50)
    logit = np.clip(shown.logit, -MOST_LOGIT, MOST_LOGIT) / np.float32(MOST_LOGIT)
    return np.dstack([lab, shown.opinions, shown.crops, logit])


def _likeness(described: NDArray[np.float32], place: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The log likelihood of each pixel under the normal distribution of those in a place."""
    there = described[place]
    variance = there.var(axis=0) + np.float32(LEAST_VARIANCE)
    squares = np.square(described - there.mean(axis=0)) / variance
    return np.asarray(-(squares + np.log(variance)).sum(axis=2) / 2, np.float32)
