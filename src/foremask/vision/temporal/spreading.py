"""Spreads what hints correct on a frame to the anchors before and after it.

The corrected mask of an anchor moves to the next one with the flow. There a network finds again
what the moved mask shows, so that a correction keeps the shape of its thing (docs/adr/0172). What
it finds counts only where the moved correction is: elsewhere the decided mask stays.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from foremask.vision.network.finder import Click
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.grids import RegionPlane
from foremask.vision.temporal.places import Place, labelled
from foremask.vision.temporal.regions import FOREGROUND, Link

# A part counts as corrected if more than this share of it is on the moved correction.
LEAST_ON_CORRECTION = 0.5
# Where the decided mask agrees with a correction, it moves on only together with what still
# differs, if that is more than this share of both. A hole that the decided mask nearly closes on
# one anchor so stays filled after it.
LEAST_DIFFERENT = 0.2
MOST_ASKED = 8  # for each anchor of a window, on the mean; bounds what 64 hints cost


class FindAgain(Protocol):
    def __call__(
        self, index: int, mask: RegionPlane, clicks: Sequence[Click] = (), /
    ) -> RegionPlane:
        """Find on the anchor with this index what a mask of about this anchor shows."""
        ...


class Spreading:
    """The masks of a window's anchors, as corrections change them.

    ``masks`` has the foreground of each anchor, and ``corrected`` where it is another than decided.
    """

    def __init__(
        self,
        decided: Sequence[Place],
        links: Sequence[Mapping[int, Link]],
        find_again: FindAgain,
    ) -> None:
        self._decided = decided
        self._links = links
        self._find_again = find_again
        self._left = MOST_ASKED * len(decided)
        self._starts: list[int] = []
        self.masks = list(decided)
        self.corrected = [np.zeros_like(each) for each in decided]

    def correct(self, start: int, mask: Place) -> None:
        """Give an anchor its mask after all hints on it, and spread what that changes.

        It spreads up to an anchor that was corrected before. Where corrections of two starts meet,
        those of the nearer one count; at the same distance, those of the earlier call.
        """
        changed = (mask != self._decided[start]) | (mask != self.masks[start])
        self.masks[start] = mask
        self.corrected[start] = mask != self._decided[start]
        for order, offset in (
            (range(start + 1, len(self.masks)), -1),
            (range(start - 1, -1, -1), 1),
        ):
            here = changed
            for index in order:
                if index in self._starts:
                    break
                here = self._follow(index, offset, here, abs(index - start))
                if not here.any():
                    break
        self._starts.append(start)

    def _follow(self, index: int, offset: int, changed: Place, distance: int) -> Place:
        """Take over what was ``changed`` on the anchor at ``offset``; return what moves on."""
        link = self._links[index].get(offset)
        nothing = np.zeros_like(changed)
        if link is None:
            return nothing
        came = warp(changed.astype(np.float32), link.flow) > FOREGROUND
        if not came.any():
            return nothing
        moved = warp(self.masks[index + offset].astype(np.float32), link.flow)
        found = self._found(index, moved)
        corrected = _parts_on(found != self._decided[index], came, LEAST_ON_CORRECTION)
        mask = np.where(corrected, found, self._decided[index])
        before = self.masks[index]
        if any(abs(index - each) <= distance for each in self._starts):
            known = self.corrected[index]
            mask = np.where(known, before, mask)
            corrected |= known
        self.masks[index] = mask
        self.corrected[index] = corrected
        agrees = came & (mask == (moved > FOREGROUND))
        continued = _parts_on(agrees | corrected, corrected, LEAST_DIFFERENT)
        return np.asarray(corrected | (mask != before) | continued)

    def _found(self, index: int, moved: RegionPlane) -> Place:
        place = np.asarray(moved > FOREGROUND)
        if not place.any() or not self._left:
            return place
        self._left -= 1
        return np.asarray(self._find_again(index, moved) > FOREGROUND)


def _parts_on(places: Place, place: Place, least_share: float) -> Place:
    """The connected parts of ``places`` of which more than ``least_share`` is on ``place``."""
    labels, areas = labelled(places, connectivity=4)
    shared = np.bincount(labels[place], minlength=len(areas))
    return np.asarray(places & (shared > least_share * areas)[labels])
