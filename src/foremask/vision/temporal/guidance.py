"""Applies the hints on some frames to all frames of a clip (docs/adr/0050).

Masks are decided without hints first. Then the flow carries chosen and banned things and corrected
places from the hinted frames to the other anchors, where they are evidence that changes the masks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from foremask.vision.image import ArrayImage
from foremask.vision.network.network_cache import KeptAnswers
from foremask.vision.network.opinions import CLOSER_PX, CropBox, box_round_subject
from foremask.vision.resample import as_levels
from foremask.vision.temporal.anchors import Tools, Window, links_between
from foremask.vision.temporal.correction import Shown, place_of
from foremask.vision.temporal.decision import Decision
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.frame_hints import FrameHints, Guidance, Seed
from foremask.vision.temporal.grids import MaskLevels, RegionPlane, size_of
from foremask.vision.temporal.places import MOST_SHARE, OUTLINE_PX, Place, grown, labelled
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import PickedAnchor, sides
from foremask.vision.temporal.verdict import compose, subject_continuity

PART = 0.3  # a part belongs to a place if more than this share of it lies there; by eye
# A place is carried on while the product of its mean continuities is above this: docs/adr/0050.
LEAST_HELD = 0.5
MOST_ASKED = 8  # places of a window that crops follow; bounds what 64 hints cost

type AskOnAnchor = Callable[[int, Place], RegionPlane]
"""Runs the network round a place on the anchor with this index; alpha is 0 outside the crop."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What hints say of each pixel of an anchor.

    ``side`` is 1 on chosen things and -1 on banned ones. ``places`` has a different number on each
    corrected place: positive if the place is added to the mask, negative if it is removed.
    """

    side: RegionPlane
    places: RegionPlane


@dataclass(frozen=True, slots=True)
class HintedMasks:
    """The masks of a window's anchors after hints, with the evidence; all by frame.

    ``choices`` has the planes of what the hints of a frame choose (1) and ban (-1). ``changed``
    says whether there is evidence on any pixel.
    """

    masks: dict[int, MaskLevels]
    evidence: dict[int, Evidence]
    choices: dict[int, RegionPlane]
    changed: bool


def apply_hints(
    window: Window,
    decisions: Mapping[int, Decision],
    guidance: Guidance,
    before: Evidence | None,
    tools: Tools,
) -> HintedMasks:
    """Change a window's decisions by the hints on its frames, and by those of other windows.

    ``before`` is the evidence that the previous window found on this window's first anchor.
    """
    frames = list(window.anchors)
    links = links_between(window, frames, tools.threads)
    shown = [
        _shown(window, frame, decisions[frame], links_of_frame)
        for frame, links_of_frame in zip(frames, links, strict=True)
    ]
    crops: dict[int, list[MaskLevels]] = {frame: [] for frame in frames}
    acting = _on_masks(window, shown)
    stated = [_choice(each) for each in acting]
    corrections = [_corrections(each) for each in acting]
    choices: Sequence[RegionPlane | None] = stated
    if all(each is None for each in stated):
        choices = [guidance.brought_to(frame, window.grids.region) for frame in frames]
    ask_on_anchor = partial(_ask_on_anchor, window, decisions, crops, tools)
    evidence = evidence_of(choices, corrections, before, shown, ask_on_anchor)
    masks = {}
    changed = False
    for frame, known, found in zip(frames, shown, evidence, strict=True):
        log_odds, reached = _decided_by(known, found)
        changed |= bool(reached.any())
        outlines = _outlines(window, frame, decisions[frame]) + crops[frame]
        masks[frame] = _changed_mask(decisions[frame].mask, outlines, log_odds, reached)
    by_frame = dict(zip(frames, stated, strict=True))
    return HintedMasks(
        masks=masks,
        evidence=dict(zip(frames, evidence, strict=True)),
        choices={frame: choice for frame, choice in by_frame.items() if choice is not None},
        changed=changed,
    )


def _ask_on_anchor(
    window: Window,
    decisions: Mapping[int, Decision],
    crops: Mapping[int, list[MaskLevels]],
    tools: Tools,
    index: int,
    place: Place,
) -> RegionPlane:
    """Ask the network round a place; its mask there is added to ``crops``, on the decided one."""
    frame = list(window.anchors)[index]
    mask = decisions[frame].mask
    alone = np.zeros_like(mask)
    part = _asked_round(window, frame, place, tools)
    if part is not None:
        crops[frame].append(part.on(mask))
        alone = part.on(alone)
    return window.grids.region.alpha(alone)


def _outlines(window: Window, frame: int, decision: Decision) -> list[MaskLevels]:
    """The masks whose outlines a changed mask of the frame may take."""
    hints = window.anchors[frame].hints
    if hints is None:
        return [*decision.opinions]
    return [*hints.opinions.values(), *hints.crops]


def _on_masks(window: Window, shown: Sequence[Shown]) -> list[FrameHints | None]:
    """The hints of each anchor, as they act on the masks that are left by what hints ban."""
    hints = [anchor.hints for anchor in window.anchors.values()]
    bans = [None if each is None else each.bans for each in hints]
    found: list[FrameHints | None] = []
    for each, known, side in zip(hints, shown, _sides(shown, bans), strict=True):
        if each is None:
            found.append(None)
        else:
            found.append(each.on_mask(_with_side(known, side).mask))
    first = min((each.first_correction for each in found if each is not None), default=math.inf)
    return [each and replace(each, first_correction=first) for each in found]


def _sides(shown: Sequence[Shown], choices: Sequence[RegionPlane | None]) -> Sequence[RegionPlane]:
    """The side of each pixel of each anchor, by what is chosen and banned on some of them."""
    if all(each is None for each in choices):
        return [np.zeros(each.mask.shape, np.float32) for each in shown]
    return sides([_picked(frame, each) for frame, each in enumerate(shown)], choices)


def _corrections(hints: FrameHints | None) -> Sequence[Seed]:
    if hints is None:
        return ()
    return hints.corrections


def _choice(hints: FrameHints | None) -> RegionPlane | None:
    """The plane of the things that a frame's hints choose and ban."""
    if hints is None:
        return None
    return hints.choice


def _shown(window: Window, frame: int, decision: Decision, links: Mapping[int, Link]) -> Shown:
    anchor = window.anchors[frame]
    grid = window.grids.region
    opinions = decision.opinions
    if anchor.hints is not None:
        opinions = list(anchor.hints.opinions.values())
    return Shown(
        rgb=grid.rgb(ArrayImage(anchor.small)),
        mask=grid.alpha(decision.mask),
        opinions=[grid.alpha(each) for each in opinions],
        logit=decision.logit,
        log_odds=decision.log_odds,
        links=links,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """The network's mask of a crop; ``box`` has its rows and columns on the mask grid."""

    box: CropBox
    mask: MaskLevels

    def on(self, mask: MaskLevels) -> MaskLevels:
        whole = mask.copy()
        whole[self.box] = self.mask
        return whole


def _asked_round(window: Window, frame: int, place: Place, tools: Tools) -> _Part | None:
    """Run the network on a crop round a place; None if the place is too small for a crop."""
    grid = window.grids.mask
    around = as_levels(grid.resized(place.astype(np.float32)))
    box = box_round_subject(around, around)
    image = window.anchors[frame].image
    if box is None or image is None:
        return None
    kept = KeptAnswers(tools.cache, f"anchor {frame}", tools.network)
    return _Part(box, kept.infer_part(image, grid.shape, box, CLOSER_PX))


def _changed_mask(
    mask: MaskLevels, outlines: Sequence[MaskLevels], log_odds: RegionPlane, reached: Place
) -> MaskLevels:
    """The mask with evidence where it has reached; ``outlines`` give the new outline."""
    grid = size_of(mask)
    changed = grid.resized(reached.astype(np.float32)) > 0
    inside = grid.resized(grown(log_odds > 0, OUTLINE_PX).astype(np.float32)) > 0
    composed = compose([mask, *outlines], log_odds)
    return np.where(changed, np.where(inside, composed, np.uint8(0)), mask)


def evidence_of(
    choices: Sequence[RegionPlane | None],
    corrections: Sequence[Sequence[Seed]],
    before: Evidence | None,
    shown: Sequence[Shown],
    ask_on_anchor: AskOnAnchor,
) -> list[Evidence]:
    """The evidence on each anchor of a window.

    ``choices`` and ``corrections`` are those of each anchor's `FrameHints`; ``before`` is the
    evidence that the previous window found on the first anchor, if it was in that window.
    """
    choices = list(choices)
    if before is not None and choices[0] is None:
        choices[0] = before.side
    found = _sides(shown, choices)
    decided = [_with_side(each, side) for each, side in zip(shown, found, strict=True)]
    places = _Places(decided, ask_on_anchor)
    if before is not None:
        for number in sorted(np.unique(before.places[before.places != 0]), key=abs):
            places.add(0, before.places == number, float(np.sign(number)))
    seeds = [(seed, index) for index, some in enumerate(corrections) for seed in some]
    for seed, index in sorted(seeds, key=lambda item: item[0].number):
        points = [each for each in corrections[index] if not (each.has_size or each.chooses)]
        opposite = [each for each in points if each.positive != seed.positive]
        places.correct(index, seed, opposite)
    return [Evidence(side, numbers) for side, numbers in zip(found, places.planes, strict=True)]


class _Places:
    """The corrected places on the anchors of a window; of hints on one frame, the later overrides.

    Where places of different frames meet, the one with the nearer hint counts.

    The flow carries a place to the other anchors. If a crop round the place shows it as a thing,
    crops of the other anchors give its shape there, for the first `MOST_ASKED` places of a window.
    A place that is removed may not grow by crops, because a crop can show two things as one. A
    place that is added may not grow over what other hints remove.
    No place is carried to or past a frame with an earlier hint: the user has corrected that frame.
    """

    def __init__(self, shown: Sequence[Shown], ask_on_anchor: AskOnAnchor) -> None:
        self._shown = shown
        self._ask_on_anchor = ask_on_anchor
        self._starts: list[int] = []  # the anchor of each place's hint
        self.planes = [np.zeros(each.mask.shape, np.float32) for each in shown]

    def correct(self, index: int, seed: Seed, opposite: Sequence[Seed]) -> None:
        """Add the place that a seed corrects; ``opposite`` has the points of the opposite sign."""
        place: Place | None = seed.place
        if not seed.has_size:
            plane = self.planes[index]
            shown = self._shown[index]
            mask = np.where(plane == 0, shown.mask, plane > 0).astype(np.float32)
            ask_round = partial(self._ask_on_anchor, index)
            place = place_of(seed, replace(shown, mask=mask), opposite, ask_round)
        if place is not None:
            self.add(index, place, 1 if seed.positive else -1)

    def add(self, start: int, place: Place, side: float) -> None:
        """Add a place on the anchor ``start``, and carry it to the anchors before and after it."""
        if not place.any():
            return
        before = max((k for k in self._starts if k < start), default=-1)
        after = min((k for k in self._starts if k > start), default=len(self.planes))
        self._starts.append(start)
        number = np.float32(side * len(self._starts))
        is_thing = False
        if len(self._starts) <= MOST_ASKED:
            thing = _parts_on(self._ask_on_anchor(start, place) > FOREGROUND, place)
            is_thing = bool((thing & place).sum() > MOST_SHARE * (thing | place).sum())
        self.planes[start] = np.where(place, number, self.planes[start])
        self._follow(range(start + 1, after), -1, place, number, is_thing=is_thing)
        self._follow(range(start - 1, before, -1), 1, place, number, is_thing=is_thing)

    def _follow(
        self, order: range, offset: int, place: Place, number: np.float32, *, is_thing: bool
    ) -> None:
        """Carry a place along the anchors in ``order``.

        The link ``offset`` of an anchor leads back to the anchor that the place comes from.
        """
        here = place
        held = 1.0
        for index in order:
            link = self._shown[index].links.get(offset)
            if link is None:
                return
            logit = self._shown[index].logit
            trusted = subject_continuity(link, logit, self._shown[index + offset].logit)
            came = warp(np.where(here, np.float32(1), np.float32(-1)), link.flow)
            here = came > 0
            found = None
            if is_thing:
                found = self._found(index, came * trusted)
            if found is not None:
                if number < 0:
                    found &= grown(here, OUTLINE_PX)
                else:
                    found &= here | (self.planes[index] >= 0)
                here = found
                held = 1.0
            elif here.any():
                held *= float(trusted[here].mean())
            if held < LEAST_HELD or not here.any():
                return
            free = here & ~self._has_nearer(index)
            self.planes[index] = np.where(free, number, self.planes[index])

    def _has_nearer(self, index: int) -> Place:
        """The pixels of an anchor with a place whose hint is nearer than the newest place's."""
        away = np.abs(np.array(self._starts) - index)
        places = np.abs(self.planes[index]).astype(np.intp)
        return np.asarray(np.append(np.inf, away)[places] < away[-1])

    def _found(self, index: int, came: RegionPlane) -> Place | None:
        """What a crop shows at the place ``came`` > 0; None if it covers at most `PART` of this."""
        place = came > 0
        found = _parts_on(self._ask_on_anchor(index, place) + came / 2 > FOREGROUND, place)
        if (found & place).sum() <= PART * place.sum():
            return None
        return found


def _parts_on(places: Place, place: Place) -> Place:
    """The connected parts of ``places`` with more than `PART` of their area on ``place``."""
    labels, areas = labelled(places, connectivity=4)
    shared = np.bincount(labels[place], minlength=len(areas))
    return np.asarray(places & (shared > PART * areas)[labels])


def _with_side(shown: Shown, side: RegionPlane) -> Shown:
    """The frame with the mask after what hints choose and ban, for corrections to start from."""
    mask = np.where(_banned(side), np.float32(0), shown.mask)
    return replace(shown, mask=np.where(side > 0, np.float32(1), mask))


def _banned(side: RegionPlane) -> Place:
    return grown(side < 0, OUTLINE_PX) & (side <= 0)


def _decided_by(shown: Shown, evidence: Evidence) -> tuple[RegionPlane, Place]:
    """A plane that is positive on the foreground after hints, and the pixels that hints decide.

    What a correction adds counts more than what is banned there: points correct after they ban.
    """
    out = _banned(evidence.side) & (evidence.places <= 0)
    taken = (evidence.side > 0) & (shown.mask <= FOREGROUND)
    side = np.where(out, np.float32(-1), np.where(taken, np.float32(1), evidence.places))
    log_odds = np.where(side == 0, shown.mask - np.float32(FOREGROUND), side).astype(np.float32)
    return log_odds, side != 0


def _picked(frame: int, shown: Shown) -> PickedAnchor:
    """The foreground: the mask, and the network's parts that do not touch the mask."""
    inside = shown.mask > FOREGROUND
    labels, areas = labelled(np.mean(shown.opinions, axis=0) > FOREGROUND)
    touches = np.bincount(labels[inside], minlength=len(areas)) > 0
    picked = np.asarray(inside | ((labels > 0) & ~touches[labels]))
    return PickedAnchor(frame, picked, inside, shown.links)
