"""A closer look at an anchor.

The network on a crop round its mask, accepted or not for each region.

A crop shows the subject larger and its surroundings less, so its mistakes differ from those on the
whole picture. Where it differs from the mask, each region gets one verdict from a fitted linear
gate: docs/adr/0050.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image, Levels
from foremask.vision.image import Box, Cropped
from foremask.vision.network.session import Network
from foremask.vision.resample import as_levels, resized
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.regions import (
    FOREGROUND,
    MOST_LOGIT,
    Features,
    Regions,
    Scene,
    colour_evidence,
    intersection_over_union,
    usual_motion,
)
from foremask.vision.temporal.verdict import MOST_LOG_ODDS, Gate, smooth_over_time

MASK, CLOSER = "mask", "closer"  # the two opinions: what was decided so far, and the crop
SIZE_PX = 768  # at 512 a look adds nothing: docs/adr/0050
MARGIN_SHARE = 0.25  # of the larger side of the mask's box, on each side
MARGIN_OF_WIDTH = 0.02  # and this share of the picture's width
LEAST_SUBJECT_SHARE = 0.0002  # of the picture: nothing smaller is cropped to

type CloserJudge = Callable[[Sequence[Scene], Sequence[Alpha]], list[Alpha]]
"""What decides: see `judge_closer`."""


@dataclass(frozen=True, slots=True)
class CloserMask:
    """The network's mask of a part of the picture, on the mask's grid."""

    rows: slice
    columns: slice
    mask: Levels

    def over(self, mask: Levels) -> Levels:
        """``mask``, and this one where it was inferred."""
        joined = mask.copy()
        joined[self.rows, self.columns] = self.mask
        return joined


def infer_closer(network: Network, image: Image, mask: Levels) -> CloserMask | None:
    """Infer a crop round ``mask``, shown at `SIZE_PX` squared.

    None where the mask is all but empty.
    """
    box = closer_box(mask)
    return None if box is None else infer_box(network, image, (mask.shape[0], mask.shape[1]), box)


type CropBox = tuple[slice, slice]
"""Rows and columns of a mask's grid."""


def closer_box(mask: Levels) -> CropBox | None:
    """The crop round ``mask``; None where it is all but empty."""
    rows, columns = mask.shape
    picked = (mask > 127).astype(np.uint8)
    if picked.sum() < LEAST_SUBJECT_SHARE * picked.size:
        return None
    left, top, width, height = cv2.boundingRect(picked)
    margin = MARGIN_SHARE * max(width, height) + MARGIN_OF_WIDTH * columns
    across = slice(max(0, round(left - margin)), min(columns, round(left + width + margin)))
    down = slice(max(0, round(top - margin)), min(rows, round(top + height + margin)))
    return down, across


def infer_box(network: Network, image: Image, grid: tuple[int, int], box: CropBox) -> CloserMask:
    """Infer the part of ``image`` in a box of a grid of rows, columns."""
    return CloserMask(*box, as_levels(infer_part(network, image, grid, *box, SIZE_PX)))


def infer_part(
    network: Network,
    image: Image,
    grid: tuple[int, int],
    down: slice,
    across: slice,
    size_px: int,
) -> Alpha:
    """Infer the part of ``image`` that ``down`` and ``across`` cut from a grid of rows, columns.

    It is shown at ``size_px`` squared; the mask has the part's size on the grid.
    """
    rows, columns = grid
    box = Box(across.start / columns, down.start / rows, across.stop / columns, down.stop / rows)
    alpha = network.infer(Cropped(image, box), (size_px, size_px)).alpha
    return resized(alpha, across.stop - across.start, down.stop - down.start)


def judge_closer(scenes: Sequence[Scene], log_odds: Sequence[Alpha]) -> list[Alpha]:
    """For each anchor of a window the log odds of the foreground, on the scenes' grid.

    Each scene has the opinions `MASK` and `CLOSER`; ``log_odds`` are those that the mask was
    decided by.
    """
    gate = closer_gate()
    planes = [
        regions.spread(gate.log_odds(features))
        for regions, features in measure_closer(scenes, log_odds)
    ]
    return smooth_over_time(planes, [scene.links for scene in scenes])


@lru_cache(maxsize=1)
def closer_gate() -> Gate:
    """The fitted gate."""
    text = resources.files("foremask.vision.temporal").joinpath("closer.json").read_text()
    fitted = json.loads(text)
    return Gate(fitted["weights"], fitted["bias"])


@dataclass(frozen=True, slots=True)
class _Window:
    """The planes of all anchors of a window."""

    masks: list[Alpha]
    closer: list[Alpha]
    colour: list[Alpha]
    usual_motion: float


def measure_closer(
    scenes: Sequence[Scene], log_odds: Sequence[Alpha]
) -> list[tuple[Regions, Features]]:
    """The regions of each anchor on which mask and closer look differ, and their features."""
    masks = [scene.opinions[MASK] for scene in scenes]
    window = _Window(
        masks,
        [scene.opinions[CLOSER] for scene in scenes],
        colour_evidence([scene.rgb for scene in scenes], [scene.stack() for scene in scenes]),
        usual_motion([scene.motion for scene in scenes], masks),
    )
    return [
        _measured(index, scene, odds, window)
        for index, (scene, odds) in enumerate(zip(scenes, log_odds, strict=True))
    ]


def _measured(index: int, scene: Scene, odds: Alpha, window: _Window) -> tuple[Regions, Features]:
    mask, closer = window.masks[index], window.closer[index]
    regions = Regions.of([mask, closer])
    picked, picked_closer = mask > FOREGROUND, closer > FOREGROUND
    overlap = np.float32(intersection_over_union(picked, picked_closer))
    area = int(picked.sum()) + 1
    log_area = np.float32(np.log(area / mask.size))
    log_share = np.log(regions.sizes / area + np.float32(1e-4))
    mean, mean_closer = regions.mean(mask), regions.mean(closer)
    side = mean_closer - np.float32(FOREGROUND)
    features = {
        "mask": mean,
        "closer": mean_closer,
        "mask, neighbours": _of_neighbours(regions, scene, index, window.masks),
        "closer, neighbours": _of_neighbours(regions, scene, index, window.closer),
        "verdict": regions.mean(np.clip(odds, -MOST_LOG_ODDS, MOST_LOG_ODDS)),
        "classifier": regions.mean(np.clip(scene.logit, -MOST_LOGIT, MOST_LOGIT)),
        "colour": regions.mean(window.colour[index]),
        "motion": regions.mean(scene.motion) - np.float32(window.usual_motion),
        "overlap": np.full(len(regions.sizes), overlap, np.float32),
        "overlap, closer": overlap * side,
        "overlap, mask": overlap * (mean - np.float32(FOREGROUND)),
        "log share": log_share,
        "log share, closer": log_share * side,
        "log area, closer": log_area * side,
        "enclosed": regions.enclosed(picked | picked_closer),
        "enclosed by both": regions.enclosed(picked & picked_closer),
    }
    return regions, features


def _of_neighbours(
    regions: Regions, scene: Scene, index: int, planes: Sequence[Alpha]
) -> NDArray[np.float32]:
    """The decisions on the anchors before and after, warped here.

    -1 to 1, 0 without trusted flow.
    """
    total = np.zeros(len(regions.sizes), np.float32)
    for offset in (-1, 1):
        link = scene.links.get(offset)
        if link is not None:
            moved = warp(planes[index + offset], link.flow) - np.float32(FOREGROUND)
            total += regions.mean(moved * link.trust)
    return total
