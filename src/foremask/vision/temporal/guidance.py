"""Applies the hints on some frames to all frames of a clip (docs/adr/0050).

Masks are decided without hints first. Then chosen and banned things are followed from the hinted
frames to the other anchors, and corrections are spread to them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from foremask.vision.network.finder import Click, MaskFinder, Unmoved
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.temporal.anchors import Window, links_between
from foremask.vision.temporal.decision import Decision
from foremask.vision.temporal.finding import found_on
from foremask.vision.temporal.frame_hints import FrameHints, Guidance, Seed
from foremask.vision.temporal.grids import MaskLevels, RegionPlane, size_of
from foremask.vision.temporal.places import (
    MOST_SHARE,
    OUTLINE_PX,
    Place,
    grown,
    labelled,
    part_at,
)
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.spreading import (
    MOST_SURER,
    FindAgain,
    Spreading,
    log_odds_of,
)
from foremask.vision.temporal.things import OTHER_SHARE, PickedAnchor, sides
from foremask.vision.temporal.verdict import compose

# What a click changes includes adjoining leftovers under this share of its area; set by eye.
CRUMB_SHARE = 0.1
# A negative point takes out at most this share of a mask with one large part. If what it is on is
# larger, only the spot round the point is taken out.
MOST_OUT = 0.5

type Find = Callable[[RegionPlane, Sequence[Click]], RegionPlane]
"""Finds on one anchor what a mask shows, with what clicks say of it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An anchor: its mask before corrections, and what network and `appearance` said of it."""

    mask: RegionPlane
    opinions: Sequence[RegionPlane]
    logit: RegionPlane
    links: Mapping[int, Link] = field(default_factory=dict)  # to anchors before (-1), after (1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What hints say of each pixel of an anchor.

    ``side`` is 1 on chosen things and -1 on banned ones. ``mask`` is the foreground after hints,
    and ``corrected`` where corrections have made it another.
    """

    side: RegionPlane
    mask: Place
    corrected: Place


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
    cache: NetworkCache,
    workers: ThreadPoolExecutor,
) -> HintedMasks:
    """Change a window's decisions by the hints on its frames, and by those of other windows.

    ``before`` is the evidence that the previous window found on this window's first anchor.
    """
    frames = list(window.anchors)
    links = links_between(window, frames, workers)
    shown = [
        _shown(window, frame, decisions[frame], links_of_frame)
        for frame, links_of_frame in zip(frames, links, strict=True)
    ]
    acting = _on_masks(window, shown)
    stated = [_choice(each) for each in acting]
    corrections = [_corrections(each) for each in acting]
    choices: Sequence[RegionPlane | None] = stated
    if all(each is None for each in stated):
        choices = [guidance.brought_to(frame, window.grids.region) for frame in frames]
    found_masks: dict[int, MaskLevels] = {}
    find_on_anchor = partial(_find_on_anchor, window, guidance.finder, found_masks, cache)
    evidence = evidence_of(choices, corrections, before, shown, find_on_anchor)
    masks = {}
    changed = False
    for frame, known, found in zip(frames, shown, evidence, strict=True):
        log_odds, reached = _decided_by(known, found)
        changed |= bool(reached.any())
        outlines = _outlines(window, frame, decisions[frame])
        if frame in found_masks:
            outlines.append(found_masks[frame])
        masks[frame] = _changed_mask(decisions[frame].mask, outlines, log_odds, reached)
    by_frame = dict(zip(frames, stated, strict=True))
    return HintedMasks(
        masks=masks,
        evidence=dict(zip(frames, evidence, strict=True)),
        choices={frame: choice for frame, choice in by_frame.items() if choice is not None},
        changed=changed,
    )


def _find_on_anchor(
    window: Window,
    finder: MaskFinder,
    found_masks: dict[int, MaskLevels],
    cache: NetworkCache,
    index: int,
    moved: RegionPlane,
    clicks: Sequence[Click] = (),
) -> RegionPlane:
    """Find what a moved mask shows, unless the cache knows it from a run with the same question.

    ``found_masks`` gets the found mask, for its outline.
    """
    frame = list(window.anchors)[index]
    image = window.anchors[frame].image
    if image is None or isinstance(finder, Unmoved):
        return moved
    grid = window.grids.mask
    found = found_on(image, f"{frame}", moved, grid, finder, cache, clicks)
    found_masks[frame] = found
    return window.grids.region.alpha(found)


def _outlines(window: Window, frame: int, decision: Decision) -> list[MaskLevels]:
    """The masks whose outlines a changed mask of the frame may take."""
    hints = window.anchors[frame].hints
    if hints is None:
        return [*decision.opinions]
    return [*hints.opinions.values(), *hints.crops]


def _on_masks(window: Window, shown: Sequence[Shown]) -> list[FrameHints | None]:
    """The hints of each anchor, as they act on its mask without the things that hints ban."""
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
    planes = [grid.alpha(each) for each in opinions]
    return Shown(grid.alpha(decision.mask), planes, decision.logit, links)


def _changed_mask(
    mask: MaskLevels, outlines: Sequence[MaskLevels], log_odds: RegionPlane, reached: Place
) -> MaskLevels:
    """``mask``, decided anew where ``reached``; the new outline is composed of ``outlines``."""
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
    find_on_anchor: FindAgain,
) -> list[Evidence]:
    """The evidence on each anchor of a window.

    ``choices`` and ``corrections`` are those of each anchor's `FrameHints`; ``before`` is the
    evidence that the previous window found on the first anchor, if it was in that window.
    """
    choices = list(choices)
    if before is not None and choices[0] is None:
        choices[0] = before.side
    found = _sides(shown, choices)
    masks = [
        _with_side(each, side).mask > FOREGROUND for each, side in zip(shown, found, strict=True)
    ]
    opinions = [np.mean(each.opinions, axis=0, dtype=np.float32) for each in shown]
    logits = [each.logit for each in shown]
    links = [each.links for each in shown]
    spreading = Spreading(masks, opinions, logits, links, find_on_anchor)
    if before is not None and before.corrected.any():
        spreading.correct(0, np.where(before.corrected, before.mask, masks[0]))
    hinted = [index for index, seeds in enumerate(corrections) if seeds]
    for index in sorted(hinted, key=lambda each: min(seed.number for seed in corrections[each])):
        before_it = spreading.masks[index]
        find = partial(find_on_anchor, index)
        mask = _corrected(before_it, corrections[index], opinions[index], find)
        if (mask != before_it).any():
            has_place = any(seed.positive and seed.has_size for seed in corrections[index])
            spreading.correct(index, mask, is_clicked=not has_place)
    evidence = zip(found, spreading.masks, spreading.corrected, strict=True)
    return [Evidence(side, mask, corrected) for side, mask, corrected in evidence]


def _corrected(mask: Place, seeds: Sequence[Seed], opinion: RegionPlane, find: Find) -> Place:
    """An anchor's mask after its corrections, each of which starts from those before it.

    ``opinion`` is what the network that masks says of the anchor.
    """
    points = [each for each in seeds if not (each.has_size or each.chooses)]
    for seed in sorted(seeds, key=lambda each: each.number):
        place: Place | None
        if seed.has_size:
            place = seed.place
        elif seed.chooses:
            place = _new_thing(mask, seed)
        else:
            known = [each for each in points if each.number <= seed.number]
            place = _clicked(mask, seed, known, _as_sure(seed, opinion), find)
        if place is not None:
            mask = mask | place if seed.positive else mask & ~place
    return mask


def _new_thing(mask: Place, seed: Seed) -> Place | None:
    """The thing at a point, unless the mask has most of it."""
    thing = part_at(seed.thing > FOREGROUND, seed.row, seed.column)
    if (thing & mask).sum() > MOST_SHARE * thing.sum():
        return None
    return thing


def _as_sure(seed: Seed, opinion: RegionPlane) -> Place:
    """Where the opinion speaks against a point by at most `MOST_SURER` more than at the point.

    In the gap between a woman and a dog the opinion is less sure than on them, so a negative point
    there takes out neither.
    """
    log_odds = log_odds_of(opinion)
    against = -log_odds if seed.positive else log_odds
    found = against <= np.median(against[seed.place]) + MOST_SURER
    found[seed.row, seed.column] = True
    return np.asarray(found)


def _clicked(
    mask: Place, seed: Seed, points: Sequence[Seed], may_change: Place, find: Find
) -> Place:
    """What a point changes: the part round it in which the network corrects the mask.

    The network is told ``points``. If it corrects nothing there, or that part does not count, the
    part is that of the thing at the point. A part does not count if it has a point that says the
    opposite, or is too large to be taken out. If neither counts, the spot round the point changes,
    so that the point itself is always as asked. Pixels outside ``may_change`` stay as they are,
    except crumbs.
    """
    rows, columns = mask.shape
    clicks = [
        Click((each.column + 0.5) / columns, (each.row + 0.5) / rows, each.positive)
        for each in points
    ]
    found = find(mask.astype(np.float32), clicks) > FOREGROUND
    unlike = mask != seed.positive
    opposite = [each for each in points if each.positive != seed.positive]
    most_px = mask.size if seed.positive else _most_out_px(mask, seed, points)
    for wrong in (found != mask, seed.thing > FOREGROUND):
        place = part_at(wrong & unlike & may_change, seed.row, seed.column)
        is_opposed = any(place[each.row, each.column] for each in opposite)
        if place.any() and not is_opposed:
            place |= _crumbs(place, unlike, points)
            if place.sum() <= most_px:
                return place
    return np.asarray(seed.place & unlike)


def _most_out_px(mask: Place, seed: Seed, points: Sequence[Seed]) -> float:
    """How much of the mask a negative point may take out.

    All, if the mask has large parts elsewhere and its part here has no positive point on it;
    otherwise `MOST_OUT` of it.
    """
    part = part_at(mask, seed.row, seed.column)
    has_other = (mask & ~part).sum() > OTHER_SHARE * part.sum()
    is_kept = any(each.positive and part[each.row, each.column] for each in points)
    if has_other and not is_kept:
        return mask.size
    return MOST_OUT * int(mask.sum())


def _crumbs(place: Place, like_it: Place, points: Sequence[Seed]) -> Place:
    """The small parts of ``like_it`` that adjoin ``place`` and have no point on them."""
    labels, areas = labelled(like_it & ~place, connectivity=4)
    touches = np.bincount(labels[grown(place, 1)], minlength=len(areas)) > 0
    touches[[0, *(labels[each.row, each.column] for each in points)]] = False
    return np.asarray((touches & (areas < CRUMB_SHARE * place.sum()))[labels])


def _with_side(shown: Shown, side: RegionPlane) -> Shown:
    """The anchor with chosen things in its mask and banned ones out: corrections start there."""
    mask = np.where(_banned(side), np.float32(0), shown.mask)
    return replace(shown, mask=np.where(side > 0, np.float32(1), mask))


def _banned(side: RegionPlane) -> Place:
    return grown(side < 0, OUTLINE_PX) & (side <= 0)


def _decided_by(shown: Shown, evidence: Evidence) -> tuple[RegionPlane, Place]:
    """A plane that is positive on the foreground after hints, and the pixels that hints decide."""
    inside = shown.mask > FOREGROUND
    out = grown(inside & ~evidence.mask, OUTLINE_PX) | _banned(evidence.side)
    out &= ~evidence.mask
    taken = evidence.mask & ~inside
    side = np.where(out, np.float32(-1), taken.astype(np.float32))
    log_odds = np.where(side == 0, shown.mask - np.float32(FOREGROUND), side).astype(np.float32)
    return log_odds, side != 0


def _picked(frame: int, shown: Shown) -> PickedAnchor:
    """The foreground: the mask, and the network's parts that do not touch the mask."""
    inside = shown.mask > FOREGROUND
    labels, areas = labelled(np.mean(shown.opinions, axis=0) > FOREGROUND)
    touches = np.bincount(labels[inside], minlength=len(areas)) > 0
    picked = np.asarray(inside | ((labels > 0) & ~touches[labels]))
    return PickedAnchor(frame, picked, inside, shown.links)
