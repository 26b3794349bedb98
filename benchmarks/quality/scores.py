"""Measures of a mask against the truth.

J and F follow the DAVIS evaluation (Perazzi et al., CVPR 2016, sections 5.1 and 5.2, and its
published code): the first and the last frame of a sequence do not count, and contours match within
0.008 of the diagonal. dtSSD and MAD follow Erofeev et al., BMVC 2015, section 3, on alpha in
[0, 1].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha

Binary = NDArray[np.bool_]

CONTOUR_TOLERANCE = 0.008  # of the image diagonal: DAVIS, db_eval_boundary
FOREGROUND = 0.5  # a mask's level from which a pixel counts as foreground


def region_similarity(mask: Binary, truth: Binary) -> float:
    """J: intersection over union; 1 where both are empty."""
    union = np.count_nonzero(mask | truth)
    return 1.0 if union == 0 else np.count_nonzero(mask & truth) / union


def wrong_places(mask: Binary, truth: Binary) -> Iterator[tuple[Binary, bool]]:
    """Each connected wrong place, the largest first, and whether the mask lacks it."""
    found = []
    for lacks, wrong in ((True, truth & ~mask), (False, mask & ~truth)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
        areas = stats[:, cv2.CC_STAT_AREA]
        found += [(int(areas[label]), lacks, labels, label) for label in range(1, count)]
    for _, lacks, labels, label in sorted(found, key=lambda each: -each[0]):
        yield np.asarray(labels == label), lacks


def contour(mask: Binary) -> Binary:
    """Pixels that differ from their right, lower or lower right neighbour."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    edge[-1, -1] = False
    return edge


def disk(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The tolerance of F as a dilation kernel, for masks of this shape."""
    radius = int(np.ceil(CONTOUR_TOLERANCE * np.hypot(shape[0], shape[1])))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius, np.uint8)


def contour_accuracy(mask: Binary, truth: Binary) -> float:
    """F: harmonic mean of the contours' precision and recall; 1 where neither has a contour."""
    ours, theirs = contour(mask), contour(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    kernel = disk(mask.shape)
    near_theirs = cv2.dilate(theirs.astype(np.uint8), kernel) > 0
    near_ours = cv2.dilate(ours.astype(np.uint8), kernel) > 0
    precision = np.count_nonzero(ours & near_theirs) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & near_ours) / np.count_nonzero(theirs)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def temporal_error(masks: Sequence[Alpha], truths: Sequence[Alpha]) -> float:
    """dtSSD x 100: the root mean square change of the error between frames, averaged over pairs."""
    errors = [mask - truth for mask, truth in zip(masks, truths, strict=True)]
    steps = [np.sqrt(np.mean((b - a) ** 2)) for a, b in pairwise(errors)]
    return 100 * float(np.mean(steps)) if steps else 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """J, F, their mean, and the lowest J of a frame; in percent.

    ``mae`` is x 1000 (the matting field's MAD); ``dtssd`` is x 100.
    """

    j: float
    f: float
    jf: float
    j_worst: float
    mae: float
    dtssd: float


def score(masks: Sequence[Alpha], truths: Sequence[Alpha]) -> Scores:
    """Score a sequence; masks and truths have the same frames and sizes.

    J and F leave out the first and the last frame, as DAVIS does, unless there are fewer than three.
    """
    pairs = list(zip(masks, truths, strict=True))
    judged = pairs[1:-1] if len(pairs) > 2 else pairs
    binary = [(mask >= FOREGROUND, truth >= FOREGROUND) for mask, truth in judged]
    j = np.array([region_similarity(mask, truth) for mask, truth in binary])
    f = np.array([contour_accuracy(mask, truth) for mask, truth in binary])
    return Scores(
        j=100 * float(j.mean()),
        f=100 * float(f.mean()),
        jf=50 * float(j.mean() + f.mean()),
        j_worst=100 * float(j.min()),
        mae=1000 * float(np.mean([np.abs(mask - truth).mean() for mask, truth in pairs])),
        dtssd=temporal_error(masks, truths),
    )
