"""Spreads what hints correct on a frame to the anchors before and after it.

The corrected mask of an anchor moves to the next one with the flow. There a network finds again
what the moved mask shows, so that a correction keeps the shape of its thing (docs/adr/0172). What
it finds counts only where the moved correction is, and within its `CorrectionLimits`: elsewhere the
decided mask stays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foremask.vision.network.finder import Click
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.grids import RegionPlane
from foremask.vision.temporal.places import Place, labelled
from foremask.vision.temporal.regions import FOREGROUND, Link

# A part counts as corrected if more than this share of it is on the moved correction.
LEAST_ON_CORRECTION = 0.5
# Where the decided mask agrees with a correction, the correction rests: it moves on, and changes
# nothing. So a hole that closes by itself and opens again is filled again. It ends after so many
# anchors in a row on which it rests.
MOST_RESTING = 4
LEAST_OPINION = 0.01  # a surer opinion, of either side, counts as this sure
MOST_SURER = 2.0  # in log odds: docs/adr/0172
# A part that is added further on has at most so many times the area that was added where the
# correction began. A click on an arm may otherwise end as a whole crowd: docs/adr/0172.
MOST_GROWTH = 2.0
# What a click adds stays on its anchor if it is more than twice the mask, and if the classifier
# finds it less like the subject than this logit.
MOST_ADDED = 2.0
UNLIKE_LOGIT = -2.0
# Questions to the network for each anchor of a window, on the mean: 64 hints would ask more.
MOST_ASKED = 8


class FindAgain(Protocol):
    def __call__(
        self, index: int, mask: RegionPlane, clicks: Sequence[Click] = (), /
    ) -> RegionPlane:
        """Find on the anchor with this index the thing that a mask, moved to it, shows."""
        ...


@dataclass(frozen=True, slots=True)
class CorrectionLimits:
    """What a correction may do on further anchors: nothing that it does not do where it began.

    It removes no pixel for which the log odds of the opinions are above ``most_sure``. So a post
    that is taken out does not take the horse that comes out from behind it. It adds no part
    of more than ``most_added`` pixels.
    """

    most_added: float  # 0 if it adds nothing
    most_sure: float  # -inf if it removes nothing


class Spreading:
    """The masks of a window's anchors, as corrections change them.

    ``opinions`` has what the network that masks says of each anchor, and ``logits`` what
    `appearance` says. ``masks`` has the foreground of each anchor, and ``corrected`` where it is
    another than decided.
    """

    def __init__(
        self,
        decided: Sequence[Place],
        opinions: Sequence[RegionPlane],
        logits: Sequence[RegionPlane],
        links: Sequence[Mapping[int, Link]],
        find_again: FindAgain,
    ) -> None:
        self._decided = decided
        self._opinions = opinions
        self._logits = logits
        self._links = links
        self._find_again = find_again
        self._left = MOST_ASKED * len(decided)
        self._starts: list[int] = []
        self.masks = list(decided)
        self.corrected = [np.zeros_like(each) for each in decided]

    def correct(self, start: int, mask: Place, *, is_clicked: bool = False) -> None:
        """Give an anchor its mask after all hints on it, and spread what that changes.

        What ``is_clicked`` does not spread if it is far larger than the mask and unlike the
        subject: it was meant for a sliver of the subject, and the network added what hides it.

        It spreads up to an anchor that was corrected before. Where corrections of two starts meet,
        those of the nearer one count; at the same distance, those of the earlier call.
        """
        changed = (mask != self._decided[start]) | (mask != self.masks[start])
        self.masks[start] = mask
        self.corrected[start] = mask != self._decided[start]
        if is_clicked:
            changed &= ~self._taken_for_subject(start)
        limits = self._limits(start)
        for order, offset in (
            (range(start + 1, len(self.masks)), -1),
            (range(start - 1, -1, -1), 1),
        ):
            here = changed
            resting = 0
            for index in order:
                if index in self._starts:
                    break
                here = self._follow(index, offset, here, abs(index - start), limits)
                resting += 1
                if self.corrected[index].any():
                    resting = 0
                if resting > MOST_RESTING or not here.any():
                    break
        self._starts.append(start)

    def _limits(self, start: int) -> CorrectionLimits:
        mask = self.masks[start]
        removed = self._decided[start] & ~mask
        most_sure = -math.inf
        if removed.any():
            most_sure = float(np.median(log_odds_of(self._opinions[start])[removed])) + MOST_SURER
        added = mask & ~self._decided[start]
        return CorrectionLimits(MOST_GROWTH * float(added.sum()), most_sure)

    def _taken_for_subject(self, start: int) -> Place:
        """What is added to an anchor, if it is far larger than the mask and unlike the subject.

        An empty mask has no subject that could be meant.
        """
        decided = self._decided[start]
        added = self.masks[start] & ~decided
        is_larger = 0 < MOST_ADDED * decided.sum() < added.sum()
        if is_larger and self._logits[start][added].mean() < UNLIKE_LOGIT:
            return added
        return np.zeros_like(added)

    def _follow(
        self, index: int, offset: int, changed: Place, distance: int, limits: CorrectionLimits
    ) -> Place:
        """Take over what was ``changed`` on the anchor at ``offset``; return what moves on."""
        link = self._links[index].get(offset)
        nothing = np.zeros_like(changed)
        if link is None:
            return nothing
        came = warp(changed.astype(np.float32), link.flow) > FOREGROUND
        if not came.any():
            return nothing
        moved = warp(self.masks[index + offset].astype(np.float32), link.flow)
        decided = self._decided[index]
        found = decided
        if _parts_on((moved > FOREGROUND) != decided, came, LEAST_ON_CORRECTION).any():
            found = self._found(index, moved)
            found = found | (decided & (log_odds_of(self._opinions[index]) > limits.most_sure))
            found = found & ~_larger_parts(found & ~decided, limits.most_added)
        corrected = _parts_on(found != decided, came, LEAST_ON_CORRECTION)
        mask = np.where(corrected, found, decided)
        before = self.masks[index]
        if any(abs(index - each) <= distance for each in self._starts):
            known = self.corrected[index]
            mask = np.where(known, before, mask)
            corrected |= known
        self.masks[index] = mask
        self.corrected[index] = corrected
        rests = came & (mask == (moved > FOREGROUND))
        return np.asarray(corrected | (mask != before) | rests)

    def _found(self, index: int, moved: RegionPlane) -> Place:
        place = np.asarray(moved > FOREGROUND)
        if not place.any() or not self._left:
            return place
        self._left -= 1
        return np.asarray(self._find_again(index, moved) > FOREGROUND)


def log_odds_of(opinion: RegionPlane) -> RegionPlane:
    """The log odds that a pixel is foreground, by an opinion; `LEAST_OPINION` bounds them."""
    clipped = np.clip(opinion, LEAST_OPINION, 1 - LEAST_OPINION)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)


def _parts_on(places: Place, place: Place, least_share: float) -> Place:
    """The connected parts of ``places`` of which more than ``least_share`` is on ``place``."""
    labels, areas = labelled(places, connectivity=4)
    shared = np.bincount(labels[place], minlength=len(areas))
    return np.asarray(places & (shared > least_share * areas)[labels])


def _larger_parts(places: Place, most_px: float) -> Place:
    """The connected parts of ``places`` with more than ``most_px`` pixels."""
    labels, areas = labelled(places, connectivity=4)
    return np.asarray(places & (areas > most_px)[labels])
