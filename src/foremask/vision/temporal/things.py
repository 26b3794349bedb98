"""Tells the things in a clip apart, and follows them through crossings and occlusions.

`verdict` picks pixels; here two things that look alike stay two. If a connected part of the picked
pixels holds one thing, all of it is that thing. If it holds several, each pixel belongs to the
thing that the flow brings it from, or else to the thing expected there: things are expected to keep
the speed that they had before they met. A hidden thing is expected to move on, too, and becomes the
part that appears where it is expected.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID
from foremask.types import Alpha
from foremask.vision.temporal.flow import warp_labels
from foremask.vision.temporal.places import Place, grown, labelled
from foremask.vision.temporal.regions import Link

LEAST_SHARE = 0.0004  # of the picture's area: smaller parts are no things
OVERLAP = 0.15  # least share of a thing's pixels that the flow brings into a part that holds it
EXPECTED = 0.35  # share of a hidden thing's expected place that a part covers where it appears
INSIDE = 0.6  # or share of that part that is inside the expected place
TRUSTED = 0.35  # flow trust above which a pixel is the thing that the flow brings
NEITHER = 2  # a claim: neither chosen nor banned, and no side is taken over from before
STRANGER_SHARE = 0.25  # of the subject's area: a larger part without a side is another thing
HIDDEN_FRAMES = 80  # a thing that is hidden for longer is forgotten
WHOLE = 0.99  # of a thing's area one frame ago: with less it is being occluded
PARTLY_FRAMES = 48  # after which the visible area counts as the whole thing
APART_PX = 4  # on the tracks' grid: nearer things count as touching
SPEED_KEPT = 0.6  # weight of a thing's previous speed in the average with the current one

type Things = NDArray[np.int32]
"""(H, W): the number of the thing that each pixel belongs to; 0 is none."""


@dataclass(frozen=True, slots=True)
class PickedAnchor:
    """An anchor's foreground, on the tracks' grid.

    ``inside`` has the pixels of its mask, ``picked`` those that the mask or the network counts as
    foreground. ``links`` lead to the anchors before (-1) and after (1).
    """

    frame: int
    picked: Place
    inside: Place
    links: Mapping[int, Link]


@dataclass(frozen=True, slots=True)
class _Thing:
    """What is known of a thing at one anchor; ``shape`` is from when it was last alone."""

    side: int  # 1 the subject, -1 not, 0 unknown
    shape: Place
    x: float
    y: float
    shape_x: float
    shape_y: float
    speed_x: float = 0.0  # pixels per frame
    speed_y: float = 0.0
    hidden: int = 0  # frames for which it has been hidden
    partly: int = 0  # frames for which it has been partly occluded
    alone: bool = True

    def expected(self) -> Place:
        """The shape where the thing should be now."""
        shift = np.array([[1, 0, self.x - self.shape_x], [0, 1, self.y - self.shape_y]], np.float32)
        size = self.shape.shape[::-1]
        moved = cv2.warpAffine(self.shape.astype(np.uint8), shift, size, flags=cv2.INTER_NEAREST)
        return np.asarray(moved > 0)

    def moved(self, frames: int) -> "_Thing":
        """The thing ``frames`` later, at its last speed."""
        return replace(self, x=self.x + frames * self.speed_x, y=self.y + frames * self.speed_y)


@dataclass(frozen=True, slots=True)
class _Placed:
    """The things at one anchor by number, and which one each pixel belongs to."""

    things: dict[int, _Thing]
    numbers: Things


def sides(
    picked: Sequence[Place],
    claims: Sequence[Alpha | None],
    links: Sequence[Mapping[int, Link]],
) -> list[Alpha]:
    """For each anchor 1 on chosen things, -1 on banned ones, else 0.

    ``claims[k]`` has 1, -1, 0 or `NEITHER` for each pixel, and is None on an anchor without claims.
    Things are followed from the claims before and after; where both decide, the nearer counts.
    """
    count = len(picked)
    forward = followed(picked, claims, lambda k: links[k].get(-1), range(count))
    backward = followed(picked, claims, lambda k: links[k].get(1), range(count)[::-1])
    stated = [k for k, claim in enumerate(claims) if claim is not None]
    results = []
    for k in range(count):
        before = min((k - each for each in stated if each <= k), default=count)
        after = min((each - k for each in stated if each >= k), default=count)
        near, far = (forward[k], backward[k]) if before <= after else (backward[k], forward[k])
        results.append(_without_strangers(np.where(near == 0, far, near), picked[k]))
    return results


def followed(
    picked: Sequence[Place],
    claims: Sequence[Alpha | None],
    link_of: Callable[[int], Link | None],
    order: range,
) -> list[Alpha]:
    """As `sides`, in one direction: ``link_of(k)`` leads to the anchor before k in ``order``."""
    planes = [np.zeros(each.shape, np.float32) for each in picked]
    numbers = itertools.count(1)
    known: _Placed | None = None
    for k in order:
        claim, link = claims[k], link_of(k)
        if claim is not None:
            known = _begun(picked[k], claim, known, link, numbers)
        elif known is None or link is None or not known.things:
            continue
        else:
            known = _step(picked[k], known, link, numbers)
        for number, thing in known.things.items():
            if thing.side:
                planes[k][known.numbers == number] = thing.side
    return planes


def is_separate(picked: Place, side: Alpha) -> bool:
    """Whether some pixel has a side, and all pixels of each part have the same."""
    if not side.any():
        return False
    return all(side[part].min() == side[part].max() for part in _parts(picked))


class Follower:
    """Numbers the things of a clip, window by window; each number is used for one thing only.

    Windows overlap: a window begins with the things that the previous one has on its first anchor.
    Parts smaller than `LEAST_SHARE` belong to no thing.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._last: dict[int, _Placed] = {}  # by frame, where the next window may begin

    def follow(self, window: Sequence[PickedAnchor]) -> list[Things]:
        """For each anchor of a window the number of the thing that each pixel belongs to."""
        first = window[0]
        known = self._last.get(first.frame)
        link = None if known is None else _still(first.picked.shape)
        self._last = {}
        found = []
        for anchor in window:
            link = link if anchor is first else anchor.links.get(-1)
            if known is None or link is None:
                nothing = np.zeros(anchor.picked.shape, np.float32)
                known = _begun(anchor.picked, nothing, None, None, self._numbers)
            else:
                known = _step(anchor.picked, known, link, self._numbers)
            found.append(known.numbers)
            if window[-1].frame - anchor.frame <= 2 * SEGMENT_GRID.context_frames:
                self._last[anchor.frame] = known
        return found


def _still(shape: tuple[int, ...]) -> Link:
    full = np.ones(shape, np.float32)
    return Link(np.zeros((*shape, 2), np.float32), full, full, 0)


def _without_strangers(side: Alpha, picked: Place) -> Alpha:
    """Set large parts without a side to -1 if the subject is visible: they are other things."""
    ours = int((side > 0).sum())
    result = side.astype(np.float32)
    for part in _parts(picked & (side == 0)) if ours else ():
        if part.sum() > STRANGER_SHARE * ours:
            result[part] = -1
    return result


def _begun(
    picked: Place,
    claim: Alpha,
    before: _Placed | None,
    link: Link | None,
    fresh: Iterator[int],
) -> _Placed:
    """The things of an anchor with claims; a part that is chosen and banned is two things."""
    things: dict[int, _Thing] = {}
    numbers = np.zeros(picked.shape, np.int32)
    came = None if before is None or link is None else warp_labels(before.numbers, link.flow)
    for part in _parts(picked | (claim == 1)):
        sides_here = [side for side in (1, -1) if (part & (claim == side)).sum() > 8] or [0]
        split = [part]
        if len(sides_here) == 2:
            split = [part & (claim == side) for side in sides_here]
            rest = part & (claim == 0)
            split[0] |= rest & (_nearest(split) == 0)
            split[1] |= rest & ~split[0]
        for side, place in zip(sides_here, split, strict=True):
            thing = _new(place, side)
            if before is not None and came is not None and not (claim[place] == NEITHER).any():
                thing = _as_before(thing, came, place, before.things)
            number = next(fresh)
            things[number] = thing
            numbers[place] = number
    return _Placed(things, numbers)


def _as_before(thing: _Thing, came: Things, place: Place, before: dict[int, _Thing]) -> _Thing:
    """Take the speed, and without a claim the side, from the thing that the flow brings."""
    found = np.bincount(came[place])
    if found.size > 1 and found[1:].max() > 0.3 * place.sum():
        old = before.get(1 + int(found[1:].argmax()))
        if old is not None:
            side = thing.side or old.side
            return replace(thing, side=side, speed_x=old.speed_x, speed_y=old.speed_y)
    return thing


def _new(place: Place, side: int) -> _Thing:
    x, y = _middle(place)
    return _Thing(side, place, x, y, x, y)


def _middle(place: Place) -> tuple[float, float]:
    rows, columns = np.nonzero(place)
    return float(columns.mean()), float(rows.mean())


def _parts(picked: Place) -> list[Place]:
    labels, areas = labelled(picked)
    least = LEAST_SHARE * picked.size
    return [np.asarray(labels == k) for k in range(1, len(areas)) if areas[k] >= least]


def _nearest(places: Sequence[Place]) -> NDArray[np.intp]:
    """The index of the place that each pixel is nearest to."""
    distances = [
        cv2.distanceTransform((~each).astype(np.uint8), cv2.DIST_L2, 3)
        if each.any()
        else np.full(each.shape, 1e9, np.float32)
        for each in places
    ]
    return np.argmin(distances, axis=0)


def _step(picked: Place, before: _Placed, link: Link, fresh: Iterator[int]) -> _Placed:
    """Follow the things to the next anchor."""
    came = warp_labels(before.numbers, link.flow)
    moved = {number: thing.moved(link.frames) for number, thing in before.things.items()}
    numbers = np.zeros(picked.shape, np.int32)
    alone: set[int] = set()
    nobodys = []
    for part in _parts(picked):
        there = _owners(part, moved, came)
        if len(there) == 1:
            numbers[part] = there[0]
            alone.add(there[0])
        elif there:
            numbers[part] = _divided(part, there, moved, came, link)[part]
        else:
            nobodys.append(part)
    things: dict[int, _Thing] = {}
    for number, thing in moved.items():
        place = np.asarray(numbers == number)
        if int(place.sum()) > LEAST_SHARE * picked.size:
            old = before.things[number]
            by_itself = number in alone
            things[number] = _updated(old, thing, place, link.frames, by_itself=by_itself)
        elif thing.hidden < HIDDEN_FRAMES:
            things[number] = replace(thing, hidden=thing.hidden + link.frames, alone=False)
    for part in nobodys:
        number = next(fresh)
        things[number] = _new(part, 0)
        numbers[part] = number
    return _Placed(things, numbers)


def _owners(part: Place, moved: Mapping[int, _Thing], came: Things) -> list[int]:
    """The things that the flow brings into a part, and those that are expected there.

    Hidden or joined things are expected only where the flow brings no other thing with a side.
    """
    there = []
    decided = np.isin(came, [number for number, thing in moved.items() if thing.side])
    for number, thing in moved.items():
        size = max(1, int((came == number).sum()))
        if (came[part] == number).sum() > OVERLAP * size:
            there.append(number)
        elif thing.hidden or not thing.alone:
            place = thing.expected()
            free = part & (~decided | (came == number))
            shared = int((place & free).sum())
            if shared > min(EXPECTED * max(1, int(place.sum())), INSIDE * int(part.sum())):
                there.append(number)
    return there


def _updated(
    before: _Thing, moved: _Thing, place: Place, frames: int, *, by_itself: bool
) -> _Thing:
    """The thing with its current pixels; among others, or partly hidden, it keeps its speed."""
    kept_area = int(place.sum()) / max(1, int(moved.shape.sum()))
    if not by_itself:
        return replace(moved, hidden=0, partly=0, alone=False)
    if kept_area < WHOLE**frames and moved.partly < PARTLY_FRAMES:
        return replace(moved, hidden=0, partly=moved.partly + frames, alone=False)
    x, y = _middle(place)
    now = replace(
        moved, x=x, y=y, shape=place, shape_x=x, shape_y=y, hidden=0, partly=0, alone=True
    )
    if not before.alone or not frames:
        return now
    kept = 0.0 if before.speed_x == before.speed_y == 0 else SPEED_KEPT
    return replace(
        now,
        speed_x=kept * before.speed_x + (1 - kept) * (x - before.x) / frames,
        speed_y=kept * before.speed_y + (1 - kept) * (y - before.y) / frames,
    )


def _divided(
    part: Place,
    there: list[int],
    moved: Mapping[int, _Thing],
    came: Things,
    link: Link,
) -> Things:
    """Which of several things each pixel of a part belongs to."""
    numbers = np.zeros(part.shape, np.int32)
    expected = {number: moved[number].expected() for number in there}
    claimed = sum(each.astype(np.int32) for each in expected.values())
    for number, place in expected.items():
        numbers[place & (claimed == 1)] = number
    brought = np.isin(came, there) & (link.trust > TRUSTED)
    sure = brought & ((claimed != 1) | (numbers == came))
    numbers[sure] = came[sure]
    left = part & (numbers == 0)
    nearest = _nearest([np.asarray(numbers == number) for number in there])
    numbers[left] = np.array(there, np.int32)[nearest][left]
    return np.where(part, numbers, 0).astype(np.int32)


def is_apart(placed: Things, number: int) -> bool:
    """Whether a thing touches no other one."""
    around = grown(placed == number, APART_PX)
    return not bool((around & (placed > 0) & (placed != number)).any())
