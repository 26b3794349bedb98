"""Rechecks anchors whose decision is uncertain, by a network that gets the decided mask.

The network that reads prompts (docs/adr/0172) finds on the picture what the decided mask shows. So
a limb that no opinion was sure of comes back, and a crumb goes. Where the decision is certain, the
network is not asked: there it has nothing to add, and now and then drops one of several things.
Its outlines are coarser than those of opinions, so it changes thick parts only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from foremask.machine.stopwatch import stage
from foremask.vision.image import ArrayImage
from foremask.vision.network.finder import Unmoved
from foremask.vision.prefetch import stoppable
from foremask.vision.temporal.anchors import Tools, Window
from foremask.vision.temporal.finding import found_on
from foremask.vision.temporal.grids import MaskLevels, RegionPlane, size_of
from foremask.vision.temporal.places import OUTLINE_PX, Place, grown, labelled
from foremask.vision.temporal.regions import FOREGROUND
from foremask.vision.temporal.tier import BLOCK_FRAMES
from foremask.vision.temporal.verdict import THIN_PX, compose

UNCERTAIN_LOG_ODDS: Final = 2.0
# Area of uncertain log odds above which an anchor is rechecked, in areas of the decided mask.
MOST_UNCERTAIN: Final = 1.5
LEAST_SUBJECT_PX: Final = 50  # a smaller subject counts as this large


@dataclass(frozen=True, slots=True)
class Rechecked:
    """The log odds of an anchor after the recheck, and what changed them.

    ``found`` is the network's mask, None if it was not asked. In the ``changed`` places, the log
    odds have another sign than before.
    """

    log_odds: RegionPlane
    found: MaskLevels | None
    changed: Place

    def mask(self, opinions: Sequence[MaskLevels]) -> MaskLevels:
        """The mask of these log odds; its outline comes from the opinions.

        Round the changed places, what was found counts as one more opinion.
        """
        plain = compose(opinions, self.log_odds)
        if self.found is None:
            return plain
        near = size_of(plain).resized(grown(self.changed, OUTLINE_PX).astype(np.float32)) > 0
        return np.where(near, compose([*opinions, self.found], self.log_odds), plain)


def recheck(
    window: Window, frames: Sequence[int], log_odds: Sequence[RegionPlane], tools: Tools
) -> list[Rechecked]:
    """Ask `Tools.finder` about the uncertain ones of these anchors; keep its answers.

    Anchors that give no frame of the window its mask stay as they are.
    """
    near = range(window.own.start - BLOCK_FRAMES, window.own.stop + BLOCK_FRAMES + 1)
    return [
        _rechecked(window, frame, plane, tools)
        if frame in near and is_uncertain(plane)
        else _unchanged(plane)
        for frame, plane in stoppable(zip(frames, log_odds, strict=True))
    ]


def is_uncertain(log_odds: RegionPlane) -> bool:
    """Whether the decision on an anchor is so uncertain that the network may know better."""
    subject_px = int((log_odds > 0).sum())
    uncertain_px = int((np.abs(log_odds) < UNCERTAIN_LOG_ODDS).sum())
    return subject_px > 0 and uncertain_px > MOST_UNCERTAIN * max(LEAST_SUBJECT_PX, subject_px)


@stage("recheck")
def _rechecked(window: Window, frame: int, log_odds: RegionPlane, tools: Tools) -> Rechecked:
    image = window.anchors[frame].image
    if image is None or isinstance(tools.finder, Unmoved):
        return _unchanged(log_odds)
    grid = window.grids.mask
    decided = (log_odds > 0).astype(np.float32)
    picture = ArrayImage(grid.rgb(image))  # corrections keep a larger image; the answer is the same
    found = found_on(picture, f"{frame} again", decided, grid, tools.finder, tools.cache)
    inside = window.grids.region.alpha(found) > FOREGROUND
    changed = thick_parts(inside != (log_odds > 0))
    turned = np.where(inside, np.abs(log_odds), -np.abs(log_odds))
    return Rechecked(np.where(changed, turned, log_odds), found, changed)


def _unchanged(log_odds: RegionPlane) -> Rechecked:
    return Rechecked(log_odds, None, np.zeros(log_odds.shape, bool))


def thick_parts(place: Place) -> Place:
    """The connected parts of a place that a square with sides of `THIN_PX` fits in."""
    labels, areas = labelled(place, connectivity=4)
    square = np.ones((THIN_PX, THIN_PX), np.uint8)
    core = cv2.morphologyEx(place.astype(np.uint8), cv2.MORPH_OPEN, square) > 0
    is_thick = np.zeros(len(areas), bool)
    is_thick[labels[core]] = True
    return np.asarray(is_thick[labels])
