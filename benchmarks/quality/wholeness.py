"""Counts what makes a mask look torn: holes, islands, and frames that lose a part of the subject.

A hole is a connected place inside the mask that the mask lacks and the truth has; an island is a
connected part of the mask, but the largest, on which there is no subject. A frame is torn if it
loses more than `TORN_SHARE` of the subject that the mask has on a frame within `TORN_FRAMES`
before it and again on one within as many after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.quality.scores import FOREGROUND, Binary
from foremask.types import Alpha

LEAST_SHARE = 0.00005  # of the picture; a smaller hole or island is noise of the outline
SUBJECT_SHARE = 0.5  # of a hole that the truth has; of an island that it has not
TORN_SHARE = 0.1
TORN_FRAMES = 3


@dataclass(frozen=True, slots=True)
class Wholeness:
    """Means over frames; areas are in thousandths of the subject's mean area."""

    holes: float
    hole_area: float
    islands: float
    island_area: float
    torn_frames: int


def wholeness(masks: Sequence[Alpha], truths: Sequence[Alpha]) -> Wholeness:
    """Measure a sequence; masks and truths have the same frames and sizes."""
    holes: list[int] = []
    islands: list[int] = []
    recalls: list[float] = []
    subject_px: int = 0
    for mask, truth in zip(masks, truths, strict=True):
        found = mask >= FOREGROUND
        true = truth >= FOREGROUND
        holes += _holes_px(found, true)
        islands += _islands_px(found, true)
        true_px = int(np.count_nonzero(true))
        recalls.append(int(np.count_nonzero(found & true)) / max(1, true_px))
        subject_px += true_px
    frames = len(recalls)
    thousandth = max(1, subject_px) / 1000
    return Wholeness(
        holes=len(holes) / frames,
        hole_area=sum(holes) / thousandth,
        islands=len(islands) / frames,
        island_area=sum(islands) / thousandth,
        torn_frames=_torn(recalls),
    )


def _holes_px(found: Binary, true: Binary) -> list[int]:
    outside = np.pad((~found).astype(np.uint8), 1, constant_values=1)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    inner = labels[1:-1, 1:-1]
    around = labels[0, 0]
    least = LEAST_SHARE * found.size
    sizes = []
    for label in range(1, len(stats)):
        area = int(stats[label, cv2.CC_STAT_AREA])
        if label != around and area > least and true[inner == label].mean() > SUBJECT_SHARE:
            sizes.append(area)
    return sizes


def _islands_px(found: Binary, true: Binary) -> list[int]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if areas.size == 0:
        return []
    largest = 1 + int(areas.argmax())
    least = LEAST_SHARE * found.size
    sizes = []
    for label in range(1, len(stats)):
        area = int(stats[label, cv2.CC_STAT_AREA])
        if label != largest and area > least and true[labels == label].mean() < SUBJECT_SHARE:
            sizes.append(area)
    return sizes


def _torn(recalls: Sequence[float]) -> int:
    torn = 0
    for at, here in enumerate(recalls):
        before = recalls[max(0, at - TORN_FRAMES) : at]
        after = recalls[at + 1 : at + 1 + TORN_FRAMES]
        if before and after and min(max(before), max(after)) > here + TORN_SHARE:
            torn += 1
    return torn
