"""Hints on some frames, and what they change in all frames of a clip.

The masks are decided as without hints. Then things that hints choose or ban are followed, and the
places that hints correct, along the flow and by crops round them. Source: docs/adr/0050.
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
from foremask.vision.temporal.places import Place, grown, labelled
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import NEITHER, sides
from foremask.vision.temporal.verdict import subject_continuity

SAME = 0.5  # shared by a place and what a crop round it has: that is a thing of its own
PART = 0.3  # least share of a part, or of a place, that the other covers
LEAST_HELD = 0.5  # product of a place's mean continuities, below which it is lost
MOST_ASKED = 8  # places of a window: the network is asked about each on every anchor
OUTLINE_PX = 2  # of the tracks' grid: how far the flow may be wrong at an outline


type AskRound = Callable[[int, Place], Alpha]
"""The network's opinion of a crop round a place on an anchor, 0 beyond the crop."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """The hints on the frames of a clip; ``key_of`` identifies an image among them.

    ``brought`` has, by the number of an earlier frame, 1 on what is chosen and -1 on what is out.
    """

    frames: Mapping[Hashable, FrameHints]
    key_of: Callable[[Image], Hashable]
    brought: Mapping[int, NDArray[np.int8]] = field(default_factory=dict)

    def on(self, image: Image) -> FrameHints | None:
        """The hints on this image, if there are some."""
        return self.frames.get(self.key_of(image))

    def brought_to(self, frame: int, grid: tuple[int, int]) -> Alpha | None:
        """1 on what hints on later frames choose, -1 on what they ban, else `NEITHER`.

        None where that is not known.
        """
        known = self.brought.get(frame)
        if known is None:
            return None
        side = np.asarray(cv2.resize(known, grid, interpolation=cv2.INTER_NEAREST), np.float32)
        return np.where(side == 0, np.float32(NEITHER), side)

    @property
    def corrects(self) -> bool:
        """Whether hints correct places."""
        return any(each.corrections for each in self.frames.values())

    @property
    def follows_things(self) -> bool:
        """Whether hints choose or ban things, rather than only correct places of a mask."""
        return any(each.followed is not None for each in self.frames.values())


@dataclass(frozen=True, slots=True)
class Hinted:
    """What hints have changed on an anchor.

    ``side`` is 1 on things that they choose and -1 on those that they ban. ``plane`` has another
    number on each place that they correct: above 0 where it is taken in, below where it is out.
    """

    side: Alpha
    plane: Alpha


def hinted_window(
    frames: Sequence[FrameHints | None],
    first: Hinted | None,
    brought: Sequence[Alpha | None],
    shown: Sequence[Shown],
    links: Sequence[Mapping[int, Link]],
    ask_round: AskRound,
) -> list[Hinted]:
    """What hints change on the anchors of a window.

    ``first`` is how the window before decided this one's first anchor, and ``brought`` has for each
    anchor what a hint in a later window says of it: so hints act on the whole shot.
    """
    followed = [None if each is None else each.followed for each in frames]
    if not any(each is not None for each in followed):
        followed = list(brought)
    if first is not None and followed[0] is None:
        followed[0] = first.side
    found = [np.zeros(each.mask.shape, np.float32) for each in shown]
    if any(each is not None for each in followed):
        found = sides([_picked(each) for each in shown], followed, links)
    places = _Places(shown, links, ask_round)
    if first is not None:
        for place in sorted(np.unique(first.plane[first.plane != 0]), key=abs):
            places.add(0, first.plane == place, float(np.sign(place)))
    hints = [(index, each.corrections) for index, each in enumerate(frames) if each is not None]
    made = [(each.number, index, each) for index, some in hints for each in some]
    for _, index, each in sorted(made, key=lambda item: item[:1]):
        points = [o for _, k, o in made if k == index and not (o.has_size or o.chooses)]
        opposite = [other for other in points if other.positive != each.positive]
        places.correct(index, each, opposite)
    return [Hinted(*each) for each in zip(found, places.planes, strict=True)]


class _Places:
    """The places that hints correct on the anchors of a window, the later hint above the earlier.

    The flow passes a place on. The network is asked about a crop round it: if it finds a thing of
    its own there, it is asked again on each other anchor, round the place as it has moved. This is
    done for `MOST_ASKED` places of a window; of further ones only the flow counts. No place goes
    past a frame with an earlier hint: who clicked there saw that frame.
    """

    def __init__(
        self, shown: Sequence[Shown], links: Sequence[Mapping[int, Link]], ask_round: AskRound
    ) -> None:
        self._shown, self._links, self._ask_round = shown, links, ask_round
        self._hinted: list[int] = []
        self.planes = [np.zeros(each.mask.shape, np.float32) for each in shown]

    def correct(self, index: int, hint: Claim, opposite: Sequence[Claim]) -> None:
        """Find the place of a hint on an anchor, as the mask is by the hints before it, and add it.

        ``opposite`` are points on the same anchor that correct to the other side.
        """
        place, plane = hint.seed if hint.has_size else None, self.planes[index]
        if place is None:
            mask = np.where(plane == 0, self._shown[index].mask, plane > 0).astype(np.float32)
            shown = replace(self._shown[index], mask=mask)
            place = place_of(hint, shown, opposite, partial(self._ask_round, index))
        if place is not None:
            self.add(index, place, 1 if hint.positive else -1)

    def add(self, start: int, place: Place, side: float) -> None:
        """Add a place of an anchor, and where it is on the others."""
        if not place.any():
            return
        before = max((k for k in self._hinted if k < start), default=-1)
        after = min((k for k in self._hinted if k > start), default=len(self.planes))
        self._hinted.append(start)
        mark = np.float32(side * len(self._hinted))
        is_thing = len(self._hinted) <= MOST_ASKED and self._is_thing(start, place)
        self.planes[start] = np.where(place, mark, self.planes[start])
        for order, offset in ((range(start + 1, after), -1), (range(start - 1, before, -1), 1)):
            here, held = place, 1.0
            for index in order:
                link = self._links[index].get(offset)
                if link is None:
                    break
                logits = self._shown[index].logit, self._shown[index + offset].logit
                trusted = subject_continuity(link, *logits)
                came = warp(np.where(here, np.float32(1), np.float32(-1)), link.flow)
                here = came > 0
                found = self._found(index, came * trusted) if is_thing else None
                if found is not None:
                    here, held = found, 1.0
                elif here.any():
                    held *= float(trusted[here].mean())
                if held < LEAST_HELD or not here.any():
                    break
                self.planes[index] = np.where(here, mark, self.planes[index])

    def _is_thing(self, index: int, place: Place) -> bool:
        thing = _parts_on(self._ask_round(index, place) > FOREGROUND, place)
        return bool((thing & place).sum() > SAME * (thing | place).sum())

    def _found(self, index: int, came: Alpha) -> Place | None:
        """What a crop has of a place; None if it has little of it.

        ``came`` is above 0 on the place and below beyond it, up to 1 where the flow is trusted.
        """
        place = came > 0
        found = _parts_on(self._ask_round(index, place) + came / 2 > FOREGROUND, place)
        return found if (found & place).sum() > PART * place.sum() else None


def _parts_on(places: Place, place: Place) -> Place:
    """The connected parts that lie on a place with so much of their area."""
    labels, areas = labelled(places, connectivity=4)
    shared = np.bincount(labels[place], minlength=len(areas))
    return np.asarray(places & (shared > PART * areas)[labels])


def with_hints(shown: Shown, hinted: Hinted) -> tuple[Alpha, Place]:
    """The log odds of a mask after hints, and where they differ from it."""
    out = grown(hinted.side < 0, OUTLINE_PX) & (hinted.side <= 0)
    taken = (hinted.side > 0) & (shown.mask <= FOREGROUND)
    side = np.where(out, np.float32(-1), np.where(taken, np.float32(1), hinted.plane))
    log_odds = np.where(side == 0, shown.mask - np.float32(FOREGROUND), side).astype(np.float32)
    return log_odds, side != 0


def _picked(shown: Shown) -> Place:
    """What is in the mask, and things that the network has and no decision took for the subject."""
    inside = shown.mask > FOREGROUND
    found = np.mean(shown.opinions, axis=0) > FOREGROUND
    labels, areas = labelled(found)
    touches = np.bincount(labels[inside], minlength=len(areas)) > 0
    return np.asarray(inside | ((labels > 0) & ~touches[labels]))
