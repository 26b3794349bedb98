"""Decides whether each region of an anchor is foreground, and smooths the decisions over time.

Decision trees, which ``benchmarks.quality.folds`` fits, judge the features of `regions`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Levels
from foremask.vision.resample import as_levels, resized
from foremask.vision.stopping import stoppable
from foremask.vision.temporal.flow import LEAST_WEIGHT, warp
from foremask.vision.temporal.places import (
    OUTLINE_PX,
    SMALL_SHARE,
    Labels,
    gaps_of,
    grown,
    labelled,
)
from foremask.vision.temporal.reach import part_around
from foremask.vision.temporal.regions import (
    FOREGROUND,
    MOST_LOGIT,
    SURE,
    Link,
    RegionFeatures,
    Scene,
    measure,
)
from foremask.vision.temporal.tier import CLOSE_FRAMES

type Judge = Callable[[Sequence[Scene]], list[Alpha]]

MOST_LOG_ODDS = 6.0  # limit of the absolute log odds of a region
SWITCH = 0.005
LEAST_CONTINUITY = 0.1  # `subject_continuity` leaves a lower continuity as it is
EVIDENCE_SHARE = np.float32(0.2)  # weight of one anchor's log odds, low since anchors share errors
THIN_PX = 2 * OUTLINE_PX + 1  # narrower parts of a thing are thin; on the grid of the regions
LEAST_KEPT = 0.8
SHARPNESS = 12.0  # an opinion opposite to the verdict keeps e^-12 of its weight
BAND_SHARE = 0.007  # of the diagonal


class Trees:
    """Gradient-boosted decision trees over the features of a region, from a JSON file's arrays.

    Each array is (trees, nodes). A node sends a region to ``left`` if its ``feature`` is at most
    ``threshold``, else to ``right``. NaN goes left where ``missing_left``. A leaf leads to itself.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._names: list[str] = table["names"]
        self._bias: float = table["bias"]
        self._depth: int = table["depth"]
        self._threshold, self._value = (
            np.ravel(np.array(table[name], np.float32)) for name in ("threshold", "value")
        )
        feature, left, right = (
            np.array(table[name], np.intp) for name in ("feature", "left", "right")
        )
        self._roots = np.arange(len(left)) * left.shape[1]
        ends = [right, left]  # of a node, by whether it sends a region left
        self._next = np.stack([self._roots[:, None] + end for end in ends], axis=-1).ravel()
        # `log_odds` has two columns of each feature, the second for nodes that send NaN left.
        sends_left = np.array(table["missing_left"], bool)
        self._column = np.ravel(feature + len(self._names) * sends_left)

    @stage("trees")
    def log_odds(self, features: RegionFeatures) -> NDArray[np.float32]:
        known = np.stack([features[name] for name in self._names], axis=1)
        # NaN is not at most a threshold, even an infinite one, so it goes right; -inf goes left.
        table = np.hstack([known, np.where(np.isnan(known), np.float32(-np.inf), known)])
        row = np.arange(len(table))[:, None] * table.shape[1]
        node = np.repeat(self._roots[None], len(table), axis=0)
        for _ in range(self._depth):
            goes_left = table.take(row + self._column.take(node)) <= self._threshold.take(node)
            node = self._next.take(2 * node + goes_left)
        total = self._value.take(node).sum(axis=1, dtype=np.float64) + self._bias
        return np.clip(total, -MOST_LOG_ODDS, MOST_LOG_ODDS).astype(np.float32)


@lru_cache(maxsize=1)
def fitted_trees() -> Trees:
    file = resources.files("foremask.vision.temporal").joinpath("verdict.json")
    return Trees(json.loads(file.read_text()))


def judge(scenes: Sequence[Scene], trees: Trees | None = None) -> list[Alpha]:
    """Return, for each scene, the log odds that a pixel is foreground, on the scenes' grid."""
    trees = trees or fitted_trees()
    planes = [regions.spread(trees.log_odds(features)) for regions, features in measure(scenes)]
    links = [scene.links for scene in scenes]
    logits = [scene.logit for scene in scenes]
    means = [scene.mean() for scene in scenes]
    return [
        as_wholes(with_thin_parts(plane, mean), mean)
        for plane, mean in zip(along_flow(planes, links, logits), means, strict=True)
    ]


@stage("time pass")
def along_flow(
    evidence: Sequence[Alpha], links: Sequence[Mapping[int, Link]], logits: Sequence[Alpha]
) -> list[Alpha]:
    """Log odds given all anchors, by the forward-backward algorithm (Rabiner, 1989, section III).

    ``evidence`` has the log odds of each anchor by itself. The probability that a pixel changes
    sides (foreground or not) is `SWITCH` where `subject_continuity` is 1, and 0.5 where it is 0.
    """
    planes = [EVIDENCE_SHARE * plane for plane in evidence]
    total = list(planes)
    for order, offset in ((range(len(planes)), -1), (range(len(planes) - 1, -1, -1), 1)):
        message: Alpha | None = None
        for index in stoppable(order):
            link = links[index].get(offset)
            if message is None or link is None:
                message = planes[index]
                continue
            held = subject_continuity(link, logits[index], logits[index + offset])
            switch = np.float32(0.5) - np.float32(0.5 - SWITCH) * held
            odds = np.exp(warp(message, link.flow))
            arrived = np.log(((1 - switch) * odds + switch) / (switch * odds + 1 - switch))
            total[index] = total[index] + arrived
            message = planes[index] + arrived
    return total


def subject_continuity(link: Link, here: Alpha, there: Alpha) -> Alpha:
    """The link's continuity, raised where `appearance` finds the subject on two close anchors."""
    held = link.continuity
    if link.frames > CLOSE_FRAMES:
        return held
    both = _chance(here) * _chance(warp(there, link.flow))
    return np.where(held > LEAST_CONTINUITY, held ** (1 - both), held).astype(np.float32)


def _chance(logit: Alpha) -> Alpha:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -MOST_LOGIT, MOST_LOGIT))), np.float32)


@stage("time pass")
def with_thin_parts(log_odds: Alpha, mean: Alpha) -> Alpha:
    """Make the thin parts of a thing foreground if `LEAST_KEPT` of its thick part is foreground.

    A thing is a connected part of ``mean``'s foreground. Thin parts are too small for the trees.
    """
    found = mean > FOREGROUND
    narrow = np.ones((THIN_PX, THIN_PX), np.uint8)
    thick = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, narrow)
    body = found & grown(thick > 0, 1)
    things, areas = labelled(found)
    size = np.bincount(things[body], minlength=len(areas))
    kept = np.bincount(things[body & (log_odds > 0)], minlength=len(areas))
    is_kept = (size > 0) & (kept >= LEAST_KEPT * size)
    to_body = found & grown(is_kept[things] & found & ~body, 1)
    return np.where(to_body, np.abs(log_odds), log_odds)


@stage("time pass")
def as_wholes(log_odds: Alpha, mean: Alpha) -> Alpha:
    """Fill the holes that the opinions do not have, and drop small islands that few are sure of.

    A hole is filled if ``mean``, of the opinions, is foreground on the average over it. An island
    goes if it has less than `SMALL_SHARE` of the foreground and a ``mean`` of less than `SURE`.
    """
    found = log_odds > 0
    gaps, gap_areas, is_hole = gaps_of(found)
    fills = is_hole & (_means(gaps, gap_areas, mean) > FOREGROUND)
    parts, areas = labelled(found)
    drops = (areas < SMALL_SHARE * found.sum()) & (_means(parts, areas, mean) < SURE)
    drops[0] = False  # of the pixels of no part
    kept = np.where(fills[gaps], np.abs(log_odds), log_odds)
    return np.where(drops[parts], -np.abs(log_odds), kept)


def _means(labels: Labels, areas: NDArray[np.int32], plane: Alpha) -> NDArray[np.float64]:
    """The mean of a plane over each labelled part."""
    return np.bincount(labels.ravel(), plane.ravel(), len(areas)) / np.maximum(areas, 1)


@stage("time pass")
def compose(opinions: Sequence[Levels], log_odds: Alpha) -> Levels:
    """Make a mask that is foreground where ``log_odds`` (on any grid) are positive.

    Its outlines come from the opinions that agree with ``log_odds``, and from ``log_odds`` itself
    with the weight `LEAST_WEIGHT`. Where no opinion agrees, edges are hard.
    """
    rows, columns = opinions[0].shape
    verdict = resized((log_odds > 0).astype(np.float32), columns, rows)
    total = np.full((rows, columns), LEAST_WEIGHT, np.float32)
    weighted = verdict * total
    for opinion in opinions:
        alpha = opinion * np.float32(1 / 255)
        weight = np.exp(np.float32(-SHARPNESS) * np.abs(alpha - verdict))
        weighted += weight * alpha
        total += weight
    return as_levels(weighted / total)


def outline_px(shape: tuple[int, ...]) -> int:
    """The distance from the outline, in pixels of a mask of this shape, where `hardened` ends."""
    return max(2, round(BAND_SHARE * float(np.hypot(shape[0], shape[1]))))


@stage("propagation")
def hardened(alpha: Alpha) -> Alpha:
    """Round ``alpha`` to 0 or 1 at more than `outline_px` from the outline."""
    radius = outline_px(alpha.shape)
    result = np.zeros_like(alpha)
    part = part_around(alpha > 0.5, 2 * radius)
    if part is not None:
        result[part] = _hardened(alpha[part], radius)
    return result


def _hardened(alpha: Alpha, radius: int) -> Alpha:
    side = (alpha > 0.5).astype(np.float32)
    near = cv2.blur(side, (2 * radius + 1, 2 * radius + 1))
    distance = np.abs(1 - 2 * near)  # from the outline, in radii
    softness = np.clip(2 - 2 * distance, 0, 1)
    return np.asarray(side + softness * (alpha - side), np.float32)
