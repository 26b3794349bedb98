"""Applies the hints on some frames to all frames of a clip (docs/adr/0050).

Masks are decided without hints first. Then the flow carries chosen, banned and corrected places
from the hinted frames to the other frames.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image
from foremask.vision.temporal.correction import Shown, place_of
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.frame_hints import Claim, FrameHints
from foremask.vision.temporal.places import MOST_SHARE, OUTLINE_PX, Place, grown, labelled
from foremask.vision.temporal.regions import FOREGROUND
from foremask.vision.temporal.things import NEITHER, PickedAnchor, sides
from foremask.vision.temporal.verdict import subject_continuity

PART = 0.3
LEAST_HELD = 0.5  # a place is carried on while the product of its mean continuities is above this
MOST_ASKED = 8

type AskRound = Callable[[int, Place], Alpha]
"""Runs the network round a place on the anchor with this index; alpha is 0 outside the crop."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """The hints on the frames of a clip; ``key_of`` gives an image's key in ``frames``.

    ``brought`` has, by frame number, planes of what later frames' hints choose (1) or ban (-1).
    """

    frames: Mapping[Hashable, FrameHints]
    key_of: Callable[[Image], Hashable]
    brought: Mapping[int, NDArray[np.int8]] = field(default_factory=dict)

    def on(self, image: Image) -> FrameHints | None:
        return self.frames.get(self.key_of(image))

    def brought_to(self, frame: int, grid: tuple[int, int]) -> Alpha | None:
        """The frame's plane of `brought`, on ``grid``, with `NEITHER` instead of 0; or None."""
        known = self.brought.get(frame)
        if known is None:
            return None
        side = np.asarray(cv2.resize(known, grid, interpolation=cv2.INTER_NEAREST), np.float32)
        return np.where(side == 0, np.float32(NEITHER), side)


@dataclass(frozen=True, slots=True)
class Hinted:
    """The changes of an anchor's mask by hints.

    ``side`` is 1 on chosen things and -1 on banned ones. ``plane`` has a different number on each
    corrected place: positive if the place is added to the mask, negative if it is removed.
    """

    side: Alpha
    plane: Alpha


def hinted_window(
    followed: Sequence[Alpha | None],
    corrections: Sequence[Sequence[Claim]],
    first: Hinted | None,
    shown: Sequence[Shown],
    ask_round: AskRound,
) -> list[Hinted]:
    """The changes by hints on each anchor of a window.

    ``followed`` and ``corrections`` are those of each anchor's `FrameHints`; ``first`` has the
    changes that the previous window made on the first anchor, if it was in that window.
    """
    followed = list(followed)
    if first is not None and followed[0] is None:
        followed[0] = first.side
    found = [np.zeros(each.mask.shape, np.float32) for each in shown]
    if any(each is not None for each in followed):
        found = sides([_picked(*each) for each in enumerate(shown)], followed)
    places = _Places(shown, ask_round)
    if first is not None:
        for place in sorted(np.unique(first.plane[first.plane != 0]), key=abs):
            places.add(0, first.plane == place, float(np.sign(place)))
    made = [(each.number, index, each) for index, some in enumerate(corrections) for each in some]
    for _, index, each in sorted(made, key=lambda item: item[:1]):
        points = [o for o in corrections[index] if not (o.has_size or o.chooses)]
        places.correct(index, each, [o for o in points if o.positive != each.positive])
    return [Hinted(*each) for each in zip(found, places.planes, strict=True)]


class _Places:
    """The corrected places on the anchors of a window; later hints override earlier hints.

    The flow carries a place to the other anchors. If a crop round the place shows it as a thing,
    crops of the other anchors give its shape there, for the first `MOST_ASKED` places of a window.
    A place that is removed may not grow by crops, because a crop can show two things as one.
    No place is carried to or past a frame with an earlier hint: the user has corrected that frame.
    """

    def __init__(self, shown: Sequence[Shown], ask_round: AskRound) -> None:
        self._shown, self._ask_round = shown, ask_round
        self._hinted: list[int] = []
        self.planes = [np.zeros(each.mask.shape, np.float32) for each in shown]

    def correct(self, index: int, hint: Claim, opposite: Sequence[Claim]) -> None:
        """Add the place that a hint corrects; ``opposite`` has the points of the opposite sign."""
        place: Place | None = hint.seed
        if not hint.has_size:
            plane, shown = self.planes[index], self._shown[index]
            mask = np.where(plane == 0, shown.mask, plane > 0).astype(np.float32)
            ask_round = partial(self._ask_round, index)
            place = place_of(hint, replace(shown, mask=mask), opposite, ask_round)
        if place is not None:
            self.add(index, place, 1 if hint.positive else -1)

    def add(self, start: int, place: Place, side: float) -> None:
        if not place.any():
            return
        before = max((k for k in self._hinted if k < start), default=-1)
        after = min((k for k in self._hinted if k > start), default=len(self.planes))
        self._hinted.append(start)
        mark = np.float32(side * len(self._hinted))
        is_thing = False
        if len(self._hinted) <= MOST_ASKED:
            thing = _parts_on(self._ask_round(start, place) > FOREGROUND, place)
            is_thing = bool((thing & place).sum() > MOST_SHARE * (thing | place).sum())
        self.planes[start] = np.where(place, mark, self.planes[start])
        for order, offset in ((range(start + 1, after), -1), (range(start - 1, before, -1), 1)):
            here, held = place, 1.0
            for index in order:
                link = self._shown[index].links.get(offset)
                if link is None:
                    break
                logits = self._shown[index].logit, self._shown[index + offset].logit
                trusted = subject_continuity(link, *logits)
                came = warp(np.where(here, np.float32(1), np.float32(-1)), link.flow)
                here = came > 0
                found = self._found(index, came * trusted) if is_thing else None
                if found is not None:
                    here = found if side > 0 else found & grown(here, OUTLINE_PX)
                    held = 1.0
                elif here.any():
                    held *= float(trusted[here].mean())
                if held < LEAST_HELD or not here.any():
                    break
                self.planes[index] = np.where(here, mark, self.planes[index])

    def _found(self, index: int, came: Alpha) -> Place | None:
        """What a crop shows at the place ``came`` > 0; None if it covers at most `PART` of this."""
        place = came > 0
        found = _parts_on(self._ask_round(index, place) + came / 2 > FOREGROUND, place)
        return found if (found & place).sum() > PART * place.sum() else None


def _parts_on(places: Place, place: Place) -> Place:
    """The connected parts of ``places`` with more than `PART` of their area on ``place``."""
    labels, areas = labelled(places, connectivity=4)
    shared = np.bincount(labels[place], minlength=len(areas))
    return np.asarray(places & (shared > PART * areas)[labels])


def with_hints(shown: Shown, hinted: Hinted) -> tuple[Alpha, Place]:
    """A plane that is positive on the foreground after hints, and the pixels that hints decide."""
    out = grown(hinted.side < 0, OUTLINE_PX) & (hinted.side <= 0)
    taken = (hinted.side > 0) & (shown.mask <= FOREGROUND)
    side = np.where(out, np.float32(-1), np.where(taken, np.float32(1), hinted.plane))
    log_odds = np.where(side == 0, shown.mask - np.float32(FOREGROUND), side).astype(np.float32)
    return log_odds, side != 0


def _picked(frame: int, shown: Shown) -> PickedAnchor:
    """The foreground: the mask, and the network's parts that do not touch the mask."""
    inside = shown.mask > FOREGROUND
    labels, areas = labelled(np.mean(shown.opinions, axis=0) > FOREGROUND)
    touches = np.bincount(labels[inside], minlength=len(areas)) > 0
    picked = np.asarray(inside | ((labels > 0) & ~touches[labels]))
    return PickedAnchor(frame, picked, inside, shown.links)
