"""Tells the things in a clip apart, and follows them through crossings and occlusions.

A connected part of the foreground that holds only one thing belongs to that thing. In a part of
several things, each pixel belongs to the only thing expected there, else to the thing that the flow
brings there, else to the nearest thing. A thing is expected to keep its speed.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID
from foremask.vision.temporal.flow import warp_labels
from foremask.vision.temporal.grids import Grid, RegionPlane
from foremask.vision.temporal.places import Place, labelled
from foremask.vision.temporal.regions import FOREGROUND, Link

# For numbers without a reason here, no measurement is recorded: they were set by eye.
LEAST_SHARE = 0.0004  # a part that is a smaller share of the picture is not a thing
# A part whose area is at most this share of the subject's is not another thing: docs/adr/0050.
OTHER_SHARE = 0.25
# A part holds a thing if the flow brings more than this share of the thing into it. With 0.25, a
# fast thing was lost.
OVERLAP = 0.15
# A part also holds a hidden or touching thing if it overlaps the place where that is expected by
# more than this share of the smaller of the two.
HELD_SHARE = 0.25
NEITHER = 2  # in a plane of choices: neither, and its thing takes nothing over from before
LEAST_CHOSEN_PX = 8  # a choice of no more pixels does not decide the part that they are in
SAME_SHARE = 0.3  # a thing that fills a larger share of a new one has become the new one
HIDDEN_FRAMES = 80  # hidden longer, a thing is forgotten; partly hidden longer, it counts as whole
# A thing that shrinks below this share within a frame is partly hidden. It is counted per
# frame, since anchors are unequally far apart.
WHOLE = 0.99
MOST_ANCHORS = 2000  # of a shot, kept in memory (180 kB each); on older ones no things are found
COARSE = 2  # the region grid has this many times the columns and rows of the scout's grid

type Things = NDArray[np.int32]
"""(H, W): the number of the thing that each pixel belongs to; 0 is none."""
type Position = NDArray[np.float64]
"""Column and row, in pixels."""


@dataclass(frozen=True, slots=True)
class PickedAnchor:
    """An anchor's foreground, on the region grid.

    ``inside`` is the foreground of its mask. ``picked`` also has foreground of the mask before
    hints, and of the network's mean mask; `guidance` leaves out what touches the mask. ``links``
    lead to the anchors before (-1) and after (1).
    ``choice`` is 1 on what the frame's hints choose, -1 on what they ban; None if they do neither.
    """

    frame: int
    picked: Place
    inside: Place
    links: Mapping[int, Link]
    choice: RegionPlane | None = None


@dataclass(frozen=True, slots=True)
class _Thing:
    """A thing at one anchor; ``shape`` is what it covered when it last was whole and alone."""

    side: int  # 1 if chosen, -1 if banned, 0 if unknown
    shape: Place
    at: Position
    shape_at: Position
    speed: Position = field(default_factory=lambda: np.zeros(2))  # pixels per frame
    hidden: int = 0  # number of frames for which the thing has been hidden
    partly: int = 0  # number of frames for which the thing has been partly hidden
    alone: bool = True

    def expected(self) -> Place:
        shift = np.column_stack([np.eye(2), self.at - self.shape_at]).astype(np.float32)
        size = self.shape.shape[::-1]
        moved = cv2.warpAffine(self.shape.astype(np.uint8), shift, size, flags=cv2.INTER_NEAREST)
        return np.asarray(moved > 0)

    def moved(self, frames: int) -> "_Thing":
        return replace(self, at=self.at + frames * self.speed)


@dataclass(frozen=True, slots=True)
class _Placed:
    """The things on one anchor; ``fresh`` has the numbers of new things."""

    numbers: Things
    fresh: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    things: dict[int, _Thing] = field(default_factory=dict)

    def add(self, thing: _Thing, place: Place) -> None:
        number = next(self.fresh)
        self.things[number] = thing
        self.numbers[place] = number


def sides(
    anchors: Sequence[PickedAnchor], choices: Sequence[RegionPlane | None]
) -> list[RegionPlane]:
    """For each anchor, a plane: 1 on chosen things, -1 on banned things, 0 elsewhere.

    ``choices[k]`` has 1, -1, 0 or `NEITHER` for each pixel; it is None on an anchor without hints.
    Things are followed from earlier and later choices; where both decide, the nearer one counts.
    If any thing is chosen on an anchor, large things that no choice decides are banned there.
    """
    count = len(anchors)
    forward = followed(anchors, choices, -1)
    backward = followed(anchors, choices, 1)
    stated = [k for k, choice in enumerate(choices) if choice is not None]
    results = []
    for k in range(count):
        before = min((k - each for each in stated if each <= k), default=count)
        after = min((each - k for each in stated if each >= k), default=count)
        near = forward[k]
        far = backward[k]
        if after < before:
            near = backward[k]
            far = forward[k]
        results.append(_without_strangers(np.where(near == 0, far, near), anchors[k].picked))
    return results


def followed(
    anchors: Sequence[PickedAnchor], choices: Sequence[RegionPlane | None], offset: int
) -> list[RegionPlane]:
    """For each anchor, the sides of things followed from earlier choices (-1) or later ones (1)."""
    planes = [np.zeros(each.picked.shape, np.float32) for each in anchors]
    for index, known in _placed(anchors, choices, offset):
        for number, thing in known.things.items():
            planes[index][known.numbers == number] = thing.side
    return planes


def _placed(
    anchors: Sequence[PickedAnchor],
    choices: Sequence[RegionPlane | None],
    offset: int,
    known: _Placed | None = None,
) -> Iterator[tuple[int, _Placed]]:
    """Yield the index and things of each anchor; without ``known``, begin at the first choice.

    An anchor's link ``offset`` leads to the anchor that is processed before it. ``known`` has the
    things of the anchor before the first one.
    """
    for index in range(len(anchors))[::-offset]:
        picked = anchors[index].picked
        choice = choices[index]
        link = anchors[index].links.get(offset)
        if choice is not None:
            before = known or _Placed(np.zeros(picked.shape, np.int32))
            known = _begun(picked, choice, before, link)
        elif known is not None and link is not None:
            known = _step(picked, known, link)
        if known is not None:
            yield index, known


class Follower:
    """Numbers the things of a clip, window by window; a window begins inside the previous one."""

    def __init__(self) -> None:
        self._fresh = itertools.count(1)
        self._last: dict[int, _Placed] = {}  # by frame, where the next window may begin

    def follow(self, window: Sequence[PickedAnchor]) -> list[Things]:
        first = window[0]
        nothing = np.zeros(first.picked.shape, np.float32)
        known = self._last.get(first.frame) or _Placed(nothing.astype(np.int32), self._fresh)
        still = Link(np.dstack([nothing, nothing]), nothing + 1, nothing + 1, 0)
        anchors = [replace(first, links={-1: still}), *window[1:]]
        found = dict(_placed(anchors, [None] * len(window), -1, known))
        next_from = window[-1].frame - 2 * SEGMENT_GRID.context_frames
        self._last = {a.frame: found[k] for k, a in enumerate(window) if a.frame >= next_from}
        return [each.numbers for each in found.values()]


class Scout:
    """Follows chosen and banned things back to the start of their shot (docs/adr/0050).

    Only choices of frames from ``first`` on are followed. ``found`` gets, by frame, a plane for
    each anchor without a choice: 1 on chosen things, -1 on banned ones, on a coarse region grid.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._shot: dict[int, PickedAnchor] = {}
        self.found: dict[int, NDArray[np.int8]] = {}

    def add(self, window: list[PickedAnchor]) -> None:
        if window[0].frame not in self._shot:
            self.end_shot()
        self._shot |= {anchor.frame: _coarse(anchor) for anchor in window}
        while len(self._shot) > MOST_ANCHORS:
            del self._shot[next(iter(self._shot))]

    def has(self, frame: int) -> bool:
        return max(self._shot, default=-1) >= frame

    def end_shot(self) -> None:
        """Follow the chosen and banned things of the shot back to its earlier anchors."""
        anchors = list(self._shot.values())
        choices = [self._choice(each) for each in anchors]
        if any(choice is not None for choice in choices):
            sides_back = followed(anchors, choices, 1)
            for anchor, choice, side in zip(anchors, choices, sides_back, strict=True):
                if choice is None and _is_separate(anchor.picked, side):
                    self.found[anchor.frame] = side.astype(np.int8)
        self._shot = {}

    def _choice(self, anchor: PickedAnchor) -> RegionPlane | None:
        if anchor.frame < self._first:
            return None
        return anchor.choice


def _coarse(anchor: PickedAnchor) -> PickedAnchor:
    """Reduce an anchor to the scout's grid, with its link to the next anchor in half precision."""
    rows, columns = anchor.picked.shape
    grid = Grid(max(1, columns // COARSE), max(1, rows // COARSE))
    picked = np.asarray(grid.resized(anchor.picked.astype(np.float32)) > FOREGROUND)
    links = {}
    if 1 in anchor.links:
        link = anchor.links[1]
        flow = grid.flow(link.flow).astype(np.float16)
        trust = grid.resized(link.trust).astype(np.float16)
        links = {1: Link(flow, trust, trust, link.frames)}  # type: ignore[arg-type]
    choice = anchor.choice
    if choice is not None:
        choice = np.rint(grid.resized(choice))
    return PickedAnchor(anchor.frame, picked, picked, links, choice)


def _is_separate(picked: Place, side: RegionPlane) -> bool:
    """Whether some pixel has a side, and all pixels of each part have the same side."""
    if not side.any():
        return False
    return all(side[part].min() == side[part].max() for part in _parts(picked))


def _without_strangers(side: RegionPlane, picked: Place) -> RegionPlane:
    """Ban large parts without a side as other things, if any thing is chosen."""
    ours = int((side > 0).sum())
    result = side.astype(np.float32)
    if not ours:
        return result
    for part in _parts(picked & (side == 0)):
        if part.sum() > OTHER_SHARE * ours:
            result[part] = -1
    return result


def _begun(picked: Place, choice: RegionPlane, before: _Placed, link: Link | None) -> _Placed:
    """The things of an anchor with hints; a part with chosen and banned pixels is two things."""
    placed = _Placed(np.zeros(picked.shape, np.int32), before.fresh)
    came = np.zeros_like(placed.numbers)
    if link is not None:
        came = warp_labels(before.numbers, link.flow)
    for part in _parts(picked | (choice == 1)):
        for side, place in _split(part, choice):
            thing = _new(place, side)
            if not (choice[place] == NEITHER).any():
                thing = _as_before(thing, came[place], before.things)
            placed.add(thing, place)
    return placed


def _split(part: Place, choice: RegionPlane) -> list[tuple[int, Place]]:
    """The part by its side or, if it has chosen and banned pixels, by the nearer ones of them."""
    here = [side for side in (1, -1) if (part & (choice == side)).sum() > LEAST_CHOSEN_PX]
    if not here:
        return [(0, part)]
    if len(here) == 1:
        return [(here[0], part)]
    chosen = part & (choice == 1)
    banned = part & (choice == -1)
    rest = part & (choice == 0)
    chosen |= rest & (_nearest([chosen, banned]) == 0)
    banned |= rest & ~chosen
    return [(1, chosen), (-1, banned)]


def _as_before(thing: _Thing, came: NDArray[np.int32], before: dict[int, _Thing]) -> _Thing:
    """Copy the speed, and the side if it is 0, from the earlier thing that moved to here."""
    found = np.bincount(came)
    if found.size > 1 and found[1:].max() > SAME_SHARE * came.size:
        old = before.get(1 + int(found[1:].argmax()))
        if old is not None:
            return replace(thing, side=thing.side or old.side, speed=old.speed)
    return thing


def _new(place: Place, side: int) -> _Thing:
    middle = np.argwhere(place).mean(axis=0)[::-1]
    return _Thing(side, place, middle, middle)


def _parts(picked: Place) -> list[Place]:
    labels, areas = labelled(picked)
    least = LEAST_SHARE * picked.size
    return [np.asarray(labels == k) for k in range(1, len(areas)) if areas[k] >= least]


def _nearest(places: Sequence[Place]) -> NDArray[np.intp]:
    """For each pixel, the index of the place that is nearest; an empty place is never nearest."""
    distances = []
    for each in places:
        if each.any():
            away = cv2.distanceTransform((~each).astype(np.uint8), cv2.DIST_L2, 3)
        else:
            away = np.full(each.shape, 1e9, np.float32)
        distances.append(away)
    return np.argmin(distances, axis=0)


def _step(picked: Place, before: _Placed, link: Link) -> _Placed:
    came = warp_labels(before.numbers, link.flow)
    moved = {number: thing.moved(link.frames) for number, thing in before.things.items()}
    placed = _Placed(np.zeros(picked.shape, np.int32), before.fresh)
    alone: set[int] = set()
    nobodys = []
    for part in _parts(picked):
        there = _owners(part, moved, came)
        if there:
            placed.numbers[part] = _divided(part, there, moved, came, link)[part]
            if len(there) == 1:
                alone.add(there[0])
        else:
            nobodys.append(part)
    for number, thing in moved.items():
        place = np.asarray(placed.numbers == number)
        if int(place.sum()) > LEAST_SHARE * picked.size:
            now = _updated(before.things[number], place, link.frames, by_itself=number in alone)
            placed.things[number] = now
        elif thing.hidden < HIDDEN_FRAMES:
            hidden = thing.hidden + link.frames
            placed.things[number] = replace(thing, hidden=hidden, alone=False)
    for part in nobodys:
        placed.add(_new(part, 0), part)
    return placed


def _owners(part: Place, moved: Mapping[int, _Thing], came: Things) -> list[int]:
    """The things that the flow brings into a part, and hidden or touching things expected there."""
    there = []
    decided = np.isin(came, [number for number, thing in moved.items() if thing.side])
    for number, thing in moved.items():
        if (came[part] == number).sum() > OVERLAP * (came == number).sum():
            there.append(number)
        elif thing.hidden or not thing.alone:
            place = thing.expected()
            free = part & (~decided | (came == number))
            if (place & free).sum() > HELD_SHARE * min(place.sum(), part.sum()):
                there.append(number)
    return there


def _updated(before: _Thing, place: Place, frames: int, *, by_itself: bool) -> _Thing:
    """Update a thing from its pixels; keep shape and speed while it touches others or shrinks."""
    is_whole = place.sum() >= before.shape.sum() * WHOLE**frames or before.partly >= HIDDEN_FRAMES
    if not (by_itself and is_whole):
        partly = 0
        if by_itself:
            partly = before.partly + frames
        return replace(before.moved(frames), hidden=0, partly=partly, alone=False)
    now = _new(place, before.side)
    if not before.alone or not frames:
        return replace(now, speed=before.speed)
    speed = (now.at - before.at) / frames
    if before.speed.any():
        speed = (before.speed + speed) / 2
    return replace(now, speed=speed)


def _divided(
    part: Place,
    there: list[int],
    moved: Mapping[int, _Thing],
    came: Things,
    link: Link,
) -> Things:
    """For each pixel of a part with several things, the number of its thing."""
    numbers = np.zeros(part.shape, np.int32)
    expected = {number: moved[number].expected() for number in there}
    expecting = sum(each.astype(np.int32) for each in expected.values())
    for number, place in expected.items():
        numbers[place & (expecting == 1)] = number
    brought = np.isin(came, there) & (link.trust > np.exp(-1))  # difference < PHOTOMETRIC_SCALE
    sure = brought & ((expecting != 1) | (numbers == came))
    numbers[sure] = came[sure]
    left = part & (numbers == 0)
    nearest = _nearest([np.asarray(numbers == number) for number in there])
    numbers[left] = np.array(there, np.int32)[nearest][left]
    return np.where(part, numbers, 0).astype(np.int32)
