"""One verdict for each region of an anchor, from a fitted linear gate, kept steady over time.

The gate weighs what `regions` measures; its weights, verdict.json, were fitted by
``benchmarks/quality/fit_gate.py`` of commit 427503c. Why regions and not pixels:
docs/adr/0050.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Levels
from foremask.vision.resample import as_levels, resized
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.regions import Features, Link, Scene, measure

type Judge = Callable[[Sequence[Scene]], list[Alpha]]
"""What decides: see `judge`."""

MEMORY = "memory"  # the opinion of the clip's tracks and classifier
MOST_LOG_ODDS = 6.0  # of one region of one anchor
# Anchors repeat each other's mistakes, the more the closer they are: of an independent one each
# counts 0.05 for each frame between it and the next, and 0.2 at most. docs/adr/0050
EVIDENCE_SHARE_PER_FRAME = 0.05
MOST_EVIDENCE_SHARE = 0.2
SWITCH = 0.005  # chance that what is followed with full trust changes sides between two anchors
SHARPNESS = 12.0  # an opinion that says the opposite of the verdict keeps e^-12 of its weight,
BAND_SHARE = 0.007
LEAST_WEIGHT = 1e-3  # and the verdict itself counts this much


@dataclass(frozen=True, slots=True)
class Gate:
    """A logistic regression over the features of a region."""

    weights: Mapping[str, float]
    bias: float

    def log_odds(self, features: Features) -> NDArray[np.float32]:
        """For each region the log odds that it is foreground."""
        total = np.full(len(next(iter(features.values()))), self.bias, np.float32)
        for name, weight in self.weights.items():
            total += np.float32(weight) * features[name]
        return np.clip(total, -MOST_LOG_ODDS, MOST_LOG_ODDS)


@lru_cache(maxsize=8)
def gate_for(opinions: tuple[str, ...]) -> Gate:
    """The gate that was fitted for these opinions; KeyError where there is none."""
    text = resources.files("foremask.vision.temporal").joinpath("verdict.json").read_text()
    fitted = json.loads(text)["+".join(opinions)]
    return Gate(fitted["weights"], fitted["bias"])


def judge(scenes: Sequence[Scene]) -> list[Alpha]:
    """For each anchor of a window the log odds of the foreground, on the scenes' grid.

    Each anchor's evidence is the same over a whole region; what neighbouring anchors contribute to
    a pixel follows the flow, so a thing that every opinion misses for a while stays what it was.
    """
    planes = [
        regions.spread(gate_for(_asked(scene)).log_odds(features))
        for scene, (regions, features) in zip(scenes, measure(scenes), strict=True)
    ]
    return smooth_over_time(planes, [scene.links for scene in scenes])


def _asked(scene: Scene) -> tuple[str, ...]:
    return tuple(name for name in scene.opinions if name != MEMORY)


def smooth_over_time(planes: Sequence[Alpha], links: Sequence[Mapping[int, Link]]) -> list[Alpha]:
    """Log odds given all anchors: forward-backward algorithm along the flow.

    Two states a pixel (Rabiner, 1989, section III). Where both anchors show the same thing, by
    `Link.continuity`, a pixel changes sides with probability `SWITCH`; elsewhere its neighbour is
    no evidence. ``links[k]`` leads from anchor k to those before (-1) and after (1).
    """
    scaled = [plane * _evidence_share(each) for plane, each in zip(planes, links, strict=True)]

    def arrive(moved: Alpha, continuity: Alpha, _: int) -> Alpha:
        return transition(moved, continuity, SWITCH)

    return forward_backward(scaled, [_by_continuity(each) for each in links], arrive)


def _evidence_share(links: Mapping[int, Link]) -> np.float32:
    """How much an anchor counts that has these links to those beside it."""
    spacings = [links[offset].frames for offset in (-1, 1) if offset in links]
    if not spacings:
        return np.float32(MOST_EVIDENCE_SHARE)
    share = EVIDENCE_SHARE_PER_FRAME * sum(spacings) / len(spacings)
    return np.float32(min(MOST_EVIDENCE_SHARE, share))


def _by_continuity(links: Mapping[int, Link]) -> dict[int, Link]:
    return {offset: replace(link, trust=link.continuity) for offset, link in links.items()}


def forward_backward(
    evidence: Sequence[Alpha],
    links: Sequence[Mapping[int, Link]],
    arrive: Callable[[Alpha, Alpha, int], Alpha],
) -> list[Alpha]:
    """Each anchor's log odds, and what arrives along the flow from those before and after it.

    ``arrive(moved, trust, k)`` gives what a neighbour's log odds, moved along the flow to anchor k,
    count there.
    """
    total = list(evidence)
    for order, offset in ((range(len(evidence)), -1), (range(len(evidence) - 1, -1, -1), 1)):
        message: Alpha | None = None
        for index in order:
            link = links[index].get(offset)
            if message is None or link is None:
                message = evidence[index]
                continue
            arrived = arrive(warp(message, link.flow), link.trust, index)
            total[index] = total[index] + arrived
            message = evidence[index] + arrived
    return total


def transition(log_odds: Alpha, trust: Alpha, least_switch: float) -> Alpha:
    """Log odds after a chance to change sides: 0.5 without trust, ``least_switch`` with full."""
    switch = np.float32(0.5) - np.float32(0.5 - least_switch) * trust
    odds = np.exp(np.clip(log_odds, -12, 12))
    return np.log(((1 - switch) * odds + switch) / (switch * odds + 1 - switch))


def compose(opinions: Sequence[Levels], log_odds: Alpha) -> Levels:
    """The mask that follows the verdict, with the outlines of the opinions that agree with it.

    ``opinions`` are on the mask's grid, ``log_odds`` on any. Where no opinion agrees, the verdict
    itself is the mask.
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
