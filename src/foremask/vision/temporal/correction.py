"""Finds the place (a set of pixels) that a point corrects.

A candidate is the connected part round the point in which a cue exceeds a level. Cues are the
network's masks, colours or the distance from the point. Fitted trees predict how much of the error
each candidate would correct. ``benchmarks.quality.places`` fits the trees (docs/adr/0050).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.vision.temporal.appearance import SURE
from foremask.vision.temporal.frame_hints import CROP_SHARES, NEAR_PX, Seed
from foremask.vision.temporal.grids import RegionPlane, RegionRgb
from foremask.vision.temporal.places import MOST_SHARE, Place, depth_of, grown, part_at
from foremask.vision.temporal.regions import FOREGROUND, MOST_LOGIT, Link, RegionFeatures, slopes
from foremask.vision.temporal.things import OTHER_SHARE
from foremask.vision.temporal.verdict import fitted_trees

LEVELS = {
    "all": (0.0,),
    "opinion": (0.2, 0.5, 0.8),
    "crop": (0.2, 0.5, 0.8),
    "colour": (-0.25, -0.35, -0.5, -0.7, -1.0),
    "likeness": (0.0, 1.0, 3.0),
    "disc": (-0.35, -0.5, -0.7, -1.0, -1.4, -2.0),
}
# These units and `LEVELS` were set by eye. The trees are fitted to them: fit again after a change.
COLOUR_UNIT = np.array([30, 20, 20], np.float32)  # in Lab: a clear difference of colours
LIKENESS_UNIT = np.array([50, 50, 50], np.float32)  # in Lab: counts as a difference of 1 in alpha
LEAST_VARIANCE = 0.01  # so that a disc of one colour is not infinitely sure
# largest share of a new thing that is in the mask already (`MOST_SHARE` if the point chooses it)
MOST_KNOWN = 0.02

type Candidate = tuple[str, float, Place]
"""A cue of `LEVELS`, a level, and the place round the point where the cue is above the level."""
type AskRound = Callable[[Place], RegionPlane]
"""Runs the network on a crop round a place; alpha is 0 outside the crop."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame to correct, its mask, and the planes that decided the mask, on the region grid."""

    rgb: RegionRgb
    mask: RegionPlane  # the mask before this correction
    opinions: Sequence[RegionPlane]
    logit: RegionPlane  # by `appearance`
    log_odds: RegionPlane  # by `verdict`
    links: Mapping[int, Link] = field(default_factory=dict)  # to anchors before (-1), after (1)

    def mean(self) -> RegionPlane:
        return np.asarray(np.mean(self.opinions, axis=0), np.float32)

    def lab(self) -> NDArray[np.float32]:
        blurred = cv2.GaussianBlur(np.ascontiguousarray(self.rgb), (0, 0), 0.8)
        return cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab).astype(np.float32)


def place_of(
    point: Seed, shown: Shown, opposite: Sequence[Seed], ask_round: AskRound
) -> Place | None:
    """The place that a point corrects; None if no place is found."""
    if point.positive:
        thing = _new_thing(point, shown, ask_round)
        if thing is not None or point.chooses:
            return thing
    candidates, features = measured(point, shown, opposite)
    if not candidates:
        return None
    return candidates[int(np.argmax(fitted_trees("correction").log_odds(features)))][-1]


def _new_thing(point: Seed, shown: Shown, ask_round: AskRound) -> Place | None:
    """The thing at a point that the network finds in crops and the mask lacks, or None."""
    large = np.float32(0.5) * (point.crops[-2] + point.crops[-1])
    place = _found_round(point, large)
    if place is None:
        return None
    most = MOST_KNOWN
    if point.chooses:
        most = MOST_SHARE
    known = shown.mask > FOREGROUND
    if (place & known).sum() > most * place.sum():
        return None
    return _found_round(point, np.float32(0.5) * (large + ask_round(place)))


def _found_round(point: Seed, opinion: RegionPlane) -> Place | None:
    """The connected part round a point where the opinion exceeds half its value at the point.

    None if the opinion is sure that the point is on background.
    """
    there = opinion[point.row, point.column]
    if there < 1 - SURE:
        return None
    return part_at(opinion > there / 2, point.row, point.column)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """The pixels that a point may change, and how far each pixel is from the point."""

    place: Place
    away: RegionPlane  # pixels
    room: float  # distance from the point to the nearest pixel that must not change
    most_px: float  # a larger candidate is none


def measured(
    point: Seed, shown: Shown, opposite: Sequence[Seed] = ()
) -> tuple[list[Candidate], RegionFeatures]:
    """The candidates for a point, and the features of each; no candidates if the mask is right.

    Candidates have no pixels that are nearer to an ``opposite`` point, or farther from the point
    than that one is. They have at most `OTHER_SHARE` of the mask if a negative point is on the only
    large part, or on a part with an opposite point. Distances from the point are in units of its
    distance to the nearest pixel that must not change.
    """
    wrong = _wrong(point, shown, opposite)
    if wrong is None:
        return [], {}
    cues = _cues(point, shown, wrong)
    candidates: list[Candidate] = []
    for cue, planes in cues.items():
        for plane, level in itertools.product(planes, LEVELS[cue]):
            place = part_at(wrong.place & (plane > level), point.row, point.column)
            if 0 < place.sum() <= wrong.most_px:
                candidates.append((cue, level, place))
    if not candidates:
        return [], {}
    return candidates, _features(point, shown, wrong, cues, candidates)


def _wrong(point: Seed, shown: Shown, opposite: Sequence[Seed]) -> _Wrong | None:
    """What is as the point says it should not be, as in `measured`; None if the mask is right."""
    inside = shown.mask > FOREGROUND
    wrong = inside != point.positive
    away = _distance(point, wrong.shape)
    part = part_at(wrong, point.row, point.column)
    is_of_several = (wrong & ~part).sum() > OTHER_SHARE * part.sum()
    is_of_several &= not any(part[each.row, each.column] for each in opposite)
    for other in opposite:
        apart = _distance(other, wrong.shape)
        wrong &= (away <= apart) & (away <= apart[point.row, point.column])
    opinions = [*shown.opinions, *point.crops]
    if point.positive and max(each[point.row, point.column] for each in opinions) < 1 - SURE:
        wrong &= away < min(wrong.shape) * CROP_SHARES[0] / 2
    if not wrong[point.row, point.column]:
        return None
    room = float(depth_of(wrong)[point.row, point.column])
    most_px: float = wrong.size
    if not (point.positive or is_of_several):
        most_px = OTHER_SHARE * int(inside.sum())
    return _Wrong(wrong, away, room, most_px)


def _cues(point: Seed, shown: Shown, wrong: _Wrong) -> dict[str, list[RegionPlane]]:
    """The planes of each cue of `LEVELS`."""
    views = [*shown.opinions, shown.mean()]
    crops = list(point.crops)
    if not point.positive:  # a crop may show the place as a thing, or as background
        views = [1 - each for each in views]
        crops = [1 - each for each in crops] + crops
    lab = shown.lab()
    near = wrong.place & (wrong.away <= min(NEAR_PX, max(1.5, wrong.room / 2)))
    away = wrong.away / np.float32(wrong.room)
    return {
        "all": [np.ones_like(away)],
        "opinion": views,
        "crop": crops,
        "colour": [-np.linalg.norm((lab - lab[near].mean(axis=0)) / COLOUR_UNIT, axis=2)],
        "likeness": [_likeness(point, shown, away, wrong.place)],
        "disc": [-away],
    }


def _likeness(point: Seed, shown: Shown, away: RegionPlane, wrong: Place) -> RegionPlane:
    """The log likelihood ratio of each pixel, for normal distributions fitted to a disc and a ring.

    The disc ends 1 unit from the point, the ring goes from 2 to 4 units. The ratio is infinite on
    the disc, and -infinite beyond 2 units.
    """
    logit = np.clip(shown.logit, -MOST_LOGIT, MOST_LOGIT) / np.float32(MOST_LOGIT)
    described = np.dstack([shown.lab() / LIKENESS_UNIT, shown.mean(), *point.crops, logit])
    disc = wrong & (away <= 1)
    ring = wrong & (away > 2) & (away <= 4)
    if not ring.any():
        ring = disc
    far = _misfit(described, described[ring])
    near = _misfit(described, described[disc])
    beyond = np.where(away <= 2, (far - near) / 2, np.float32(-np.inf))
    return np.where(away <= 1, np.float32(np.inf), beyond).astype(np.float32)


def _misfit(described: NDArray[np.float32], known: NDArray[np.float32]) -> RegionPlane:
    variance = known.var(axis=0) + np.float32(LEAST_VARIANCE)
    squares = np.square(described - known.mean(axis=0)) / variance
    return np.asarray((squares + np.log(variance)).sum(axis=2), np.float32)


def _features(
    point: Seed,
    shown: Shown,
    wrong: _Wrong,
    cues: Mapping[str, Sequence[RegionPlane]],
    candidates: Sequence[Candidate],
) -> RegionFeatures:
    compared = {"opinions": shown.mean(), "classifier": shown.logit, "decision": shown.log_odds}
    compared |= {f"crop {k}": each for k, each in enumerate(point.crops)}
    if not point.positive:
        compared = {name: -plane for name, plane in compared.items()}
    compared["colour"] = cues["colour"][0]
    disc = cues["disc"][0]
    agreed = np.mean([place for *_, place in candidates], axis=0, dtype=np.float32)
    picked = max(1, int((shown.mask > FOREGROUND).sum()))
    contrast = slopes(shown.lab())
    rows, columns = wrong.place.shape
    diagonal = np.hypot(rows, columns)
    described = []
    for cue, level, place in candidates:
        row = {
            "cue": list(LEVELS).index(cue),
            "level": level,
            "in": point.positive,
            "room": np.log(wrong.room / diagonal),
            "size": np.log(place.sum() / picked),
            "discs": np.log(place.sum() / wrong.room**2),
            "reach": -disc[place].min(),
            "agreed": _mean(agreed, place),
        }
        row |= _shape(point, place, wrong.place, contrast)
        around = grown(place, NEAR_PX) & ~place & wrong.place
        for name, plane in compared.items():
            row |= {name: _mean(plane, place), f"{name}, around": _mean(plane, around)}
        described.append(row)
    return {name: np.array([row[name] for row in described], np.float32) for name in described[0]}


def _shape(point: Seed, place: Place, wrong: Place, contrast: RegionPlane) -> dict[str, float]:
    depth = depth_of(place)
    outline = grown(place, 1) & ~place
    changed = outline & wrong  # the other pixels of the outline are right already
    return {
        "middle": float(depth[point.row, point.column] / depth.max()),
        "thin": float(place.sum() / depth.sum()),
        "edge": _mean(contrast, outline),
        "edge of change": _mean(contrast, changed),
        "open": int(changed.sum()) / max(1, int(outline.sum())),
    }


def _mean(plane: RegionPlane, place: Place) -> float:
    if not place.any():
        return np.nan
    return float(plane[place].mean())


def _distance(point: Seed, shape: tuple[int, ...]) -> RegionPlane:
    rows, columns = np.indices(shape)
    return np.asarray(np.hypot(rows - point.row, columns - point.column), np.float32)
