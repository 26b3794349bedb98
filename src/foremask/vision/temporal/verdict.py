"""The one decision: a verdict for each region of an anchor, from fitted trees, steady over time.

The trees weigh what `regions` measures; ``benchmarks.quality.folds`` fits them. docs/adr/0050
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Levels
from foremask.vision.resample import as_levels, resized
from foremask.vision.temporal.regions import (
    FOREGROUND,
    SWITCH,
    Features,
    Link,
    Scene,
    forward_backward,
    measure,
    subject_continuity,
    transition,
)

type Judge = Callable[[Sequence[Scene]], list[Alpha]]
"""What decides: see `judge`."""

MOST_LOG_ODDS = 6.0  # of one region of one anchor
MEAN_LOG_ODDS = 2.0  # by which what the opinions are sure of counts more than the trees learned
# Anchors repeat each other's mistakes, the more the closer they are: of an independent one each
# counts 0.05 for each frame between it and the next, and 0.2 at most. docs/adr/0050
EVIDENCE_SHARE_PER_FRAME = 0.05
MOST_EVIDENCE_SHARE = 0.2
THIN_PX = 5  # a part of a thing that is narrower, on the regions' grid, is thin
LEAST_KEPT = 0.8  # the share of a thing's body that is foreground where its thin parts are kept
THIN_LOG_ODDS = np.float32(0.5)  # the least log odds of a thin part that is kept
_NEXT = np.ones((3, 3), np.uint8)
SHARPNESS = 12.0  # an opinion that says the opposite of the verdict keeps e^-12 of its weight,
BAND_SHARE = 0.007
LEAST_WEIGHT = 1e-3  # and the verdict itself counts this much


@dataclass(frozen=True, slots=True)
class Trees:
    """Gradient-boosted decision trees over the features of a region, as tables.

    Each array is (trees, nodes). A node sends a region to ``left`` where its ``feature`` is at most
    ``threshold``; ``missing_left`` decides where it is not a number. A leaf leads to itself.
    """

    names: tuple[str, ...]
    bias: float
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    depth: int

    def log_odds(self, features: Features) -> NDArray[np.float32]:
        """For each region the log odds that it is foreground."""
        table = np.stack([features[name] for name in self.names], axis=1)
        width = self.left.shape[1]
        roots = np.arange(len(self.left))[None] * width
        row = np.arange(len(table))[:, None] * len(self.names)
        left, right = (np.ravel(roots.T + each) for each in (self.left, self.right))
        node = np.repeat(roots, len(table), axis=0)
        for _ in range(self.depth):
            found = table.take(row + self.feature.take(node))
            goes_left = found <= self.threshold.take(node)
            goes_left |= np.isnan(found) & self.missing_left.take(node)
            node = np.where(goes_left, left.take(node), right.take(node))
        total = self.value.take(node).sum(axis=1, dtype=np.float64) + self.bias
        total += MEAN_LOG_ODDS * (features["mean"] - FOREGROUND)
        return np.clip(total, -MOST_LOG_ODDS, MOST_LOG_ODDS).astype(np.float32)


@lru_cache(maxsize=1)
def fitted_trees() -> Trees:
    """The trees that ``python -m benchmarks.quality.folds --write`` has fitted."""
    file = resources.files("foremask.vision.temporal").joinpath("verdict.json")
    return trees_of(json.loads(file.read_text()))


def trees_of(table: Mapping[str, Any]) -> Trees:
    """From lists, as JSON has them."""
    return Trees(
        names=tuple(table["names"]),
        bias=table["bias"],
        feature=np.array(table["feature"], np.int32),
        threshold=np.array(table["threshold"], np.float32),
        missing_left=np.array(table["missing_left"], bool),
        left=np.array(table["left"], np.int32),
        right=np.array(table["right"], np.int32),
        value=np.array(table["value"], np.float32),
        depth=table["depth"],
    )


def judge(scenes: Sequence[Scene], trees: Trees | None = None) -> list[Alpha]:
    """For each anchor of a window the log odds of the foreground, on the scenes' grid.

    Each anchor's evidence is the same over a whole region; what neighbouring anchors contribute to
    a pixel follows the flow, so a thing that every opinion misses for a while stays what it was.
    ``trees`` are those that ship, unless others are given.
    """
    trees = trees or fitted_trees()
    planes = [regions.spread(trees.log_odds(features)) for regions, features in measure(scenes)]
    smoothed = smooth_over_time(
        planes, [scene.links for scene in scenes], [scene.logit for scene in scenes]
    )
    return [
        with_thin_parts(plane, scene.stack().mean(axis=0))
        for plane, scene in zip(smoothed, scenes, strict=True)
    ]


def smooth_over_time(
    planes: Sequence[Alpha], links: Sequence[Mapping[int, Link]], logits: Sequence[Alpha]
) -> list[Alpha]:
    """Log odds given all anchors: forward-backward algorithm along the flow.

    ``links[k]`` leads from anchor k to those before (-1) and after (1); ``logits`` are the
    classifier's.
    """
    scaled = [plane * _evidence_share(each) for plane, each in zip(planes, links, strict=True)]
    return along_flow(scaled, links, logits, SWITCH)


def along_flow(
    planes: Sequence[Alpha],
    links: Sequence[Mapping[int, Link]],
    logits: Sequence[Alpha],
    switch: float,
) -> list[Alpha]:
    """As `smooth_over_time`, of evidence that counts in full on each anchor.

    Two states a pixel (Rabiner, 1989, section III). Where both anchors show the same thing, by
    `subject_continuity`, a pixel changes sides with probability ``switch``; elsewhere its
    neighbour is no evidence.
    """

    def arrive(moved: Alpha, link: Link, here: int, there: int) -> Alpha:
        continuity = subject_continuity(link, logits[here], logits[there])
        return transition(moved, continuity, switch)

    return forward_backward(planes, links, arrive)


def with_thin_parts(log_odds: Alpha, mean: Alpha) -> Alpha:
    """Keep the thin parts of each thing whose body is kept: lines, straps, legs.

    A thing is a connected part of the opinions' ``mean``. Thin parts are too small for what a
    region is measured by, and the flow loses them; where the trees refuse a part of the body too,
    the opinions are wrong about the whole thing.
    """
    found = mean > FOREGROUND
    narrow = np.ones((THIN_PX, THIN_PX), np.uint8)
    thick = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, narrow)
    body = found & (cv2.dilate(thick, _NEXT) > 0)
    count, labels = cv2.connectedComponents(found.astype(np.uint8))
    things = np.asarray(labels, np.intp)
    size = np.bincount(things[body], minlength=count)
    kept = np.bincount(things[body & (log_odds > 0)], minlength=count)
    is_kept = (size > 0) & (kept >= LEAST_KEPT * size)
    thin = is_kept[things] & found & ~body
    to_body = found & (cv2.dilate(thin.astype(np.uint8), _NEXT) > 0)
    return np.where(to_body, np.maximum(log_odds, THIN_LOG_ODDS), log_odds).astype(np.float32)


def _evidence_share(links: Mapping[int, Link]) -> np.float32:
    """How much an anchor counts that has these links to those beside it."""
    spacings = [links[offset].frames for offset in (-1, 1) if offset in links]
    if not spacings:
        return np.float32(MOST_EVIDENCE_SHARE)
    share = EVIDENCE_SHARE_PER_FRAME * sum(spacings) / len(spacings)
    return np.float32(min(MOST_EVIDENCE_SHARE, share))


def compose(opinions: Sequence[Levels], log_odds: Alpha) -> Levels:
    """The mask that follows the verdict, with the outlines of the opinions that agree with it.

    Opinions are on the mask's grid, ``log_odds`` on any. Where none agrees, the verdict itself is
    the mask.
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


def decided(alpha: Alpha) -> Alpha:
    """Round ``alpha`` to 0 or 1, except in a band along the outline, where it may be soft.

    The band is `BAND_SHARE` of the diagonal wide on each side; ``alpha`` counts in full in its
    inner half.
    """
    rows, columns = alpha.shape
    radius = max(2, round(BAND_SHARE * float(np.hypot(rows, columns))))
    side = (alpha > 0.5).astype(np.float32)
    near = cv2.blur(side, (2 * radius + 1, 2 * radius + 1))
    distance = np.abs(1 - 2 * near)  # from the outline, in radii
    softness = np.clip(2 - 2 * distance, 0, 1)
    return np.asarray(side + softness * (alpha - side), np.float32)
