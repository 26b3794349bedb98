"""Finds the place (a set of pixels) that a click corrects.

A candidate is the connected part round the click in which a cue exceeds a level. Cues are the
network's masks, colours or the distance from the click. Fitted trees predict how much of the error
each candidate would correct. ``benchmarks.quality.places`` fits the trees (docs/adr/0050).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Rgb
from foremask.vision.temporal.appearance import SURE
from foremask.vision.temporal.frame_hints import CROP_SHARES, NEAR_PX, Claim
from foremask.vision.temporal.places import MOST_SHARE, Place, depth_of, grown, part_at
from foremask.vision.temporal.regions import FOREGROUND, MOST_LOGIT, Features, Link, slopes
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
COLOUR_UNIT = np.array([30, 20, 20], np.float32)  # in Lab: a clear difference of colours
LIKENESS_UNIT = np.array([50, 50, 50], np.float32)  # in Lab: counts as a difference of 1 in alpha
LEAST_VARIANCE = 0.01
# largest share of a new thing that is in the mask already (`MOST_SHARE` if the click chooses it)
MOST_KNOWN = 0.02

type Candidate = tuple[str, float, Place]
"""A cue of `LEVELS`, a level, and the place round the click where the cue is above the level."""
type AskRound = Callable[[Place], Alpha]
"""Runs the network on a crop round a place; alpha is 0 outside the crop."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame to correct, its mask, and the arrays that decided the mask, on one grid."""

    rgb: Rgb
    mask: Alpha  # the mask before this correction
    opinions: Sequence[Alpha]
    logit: Alpha  # by `appearance`
    log_odds: Alpha  # by `verdict`
    links: Mapping[int, Link] = field(default_factory=dict)  # to anchors before (-1), after (1)

    def mean(self) -> Alpha:
        return np.asarray(np.mean(self.opinions, axis=0), np.float32)

    def lab(self) -> NDArray[np.float32]:
        blurred = cv2.GaussianBlur(np.ascontiguousarray(self.rgb), (0, 0), 0.8)
        return cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab).astype(np.float32)


def place_of(
    click: Claim, shown: Shown, opposite: Sequence[Claim], ask_round: AskRound
) -> Place | None:
    """The place that a point corrects; None if no place is found."""
    if click.positive:
        thing = _new_thing(click, shown, ask_round)
        if thing is not None or click.chooses:
            return thing
    candidates, features = measured(click, shown, opposite)
    if not candidates:
        return None
    return candidates[int(np.argmax(fitted_trees("correction").log_odds(features)))][-1]


def _new_thing(click: Claim, shown: Shown, ask_round: AskRound) -> Place | None:
    """The thing at a click that the network finds in crops and the mask lacks, or None."""
    large = np.float32(0.5) * (click.crops[-2] + click.crops[-1])
    place = _found_round(click, large)
    known, most = shown.mask > FOREGROUND, MOST_SHARE if click.chooses else MOST_KNOWN
    if place is None or (place & known).sum() > most * place.sum():
        return None
    return _found_round(click, np.float32(0.5) * (large + ask_round(place)))


def _found_round(click: Claim, opinion: Alpha) -> Place | None:
    """The connected part round a click where the opinion exceeds half its value at the click.

    None if the opinion is sure that the click is on background.
    """
    there = opinion[click.row, click.column]
    return part_at(opinion > there / 2, click.row, click.column) if there >= 1 - SURE else None


def measured(
    click: Claim, shown: Shown, opposite: Sequence[Claim] = ()
) -> tuple[list[Candidate], Features]:
    """The candidates for a click, and the features of each; no candidates if the mask is right.

    Candidates have no pixels that are nearer to an ``opposite`` click, or farther from the click
    than that one is. They have at most `OTHER_SHARE` of the mask if a negative click is on the only
    large part, or on a part with an opposite click. Distances from the click are in units of its
    distance to the nearest pixel that must not change.
    """
    wrong = (shown.mask > FOREGROUND) != click.positive
    away = _distance(click, wrong.shape)
    part = part_at(wrong, click.row, click.column)
    is_of_several = (wrong & ~part).sum() > OTHER_SHARE * part.sum()
    is_of_several &= not any(part[each.row, each.column] for each in opposite)
    for other in opposite:
        apart = _distance(other, wrong.shape)
        wrong &= (away <= apart) & (away <= apart[click.row, click.column])
    opinions = [*shown.opinions, *click.crops]
    if click.positive and max(each[click.row, click.column] for each in opinions) < 1 - SURE:
        wrong &= away < min(wrong.shape) * CROP_SHARES[0] / 2
    if not wrong[click.row, click.column]:
        return [], {}
    picked = int((shown.mask > FOREGROUND).sum())
    room = float(depth_of(wrong)[click.row, click.column])
    seed = wrong & (away <= min(NEAR_PX, max(1.5, room / 2)))
    cues = _cues(click, shown, away / np.float32(room), wrong, seed)
    most_px = wrong.size if click.positive or is_of_several else OTHER_SHARE * picked
    candidates: list[Candidate] = []
    for cue, planes in cues.items():
        for plane, level in itertools.product(planes, LEVELS[cue]):
            place = part_at(wrong & (plane > level), click.row, click.column)
            if 0 < place.sum() <= most_px:
                candidates.append((cue, level, place))
    if not candidates:
        return [], {}
    return candidates, _features(click, shown, wrong, room, cues, candidates)


def _cues(
    click: Claim, shown: Shown, away: Alpha, wrong: Place, seed: Place
) -> dict[str, list[Alpha]]:
    """The planes of each cue of `LEVELS`; ``seed`` are the pixels that give the click's colour."""
    views, crops, lab = [*shown.opinions, shown.mean()], list(click.crops), shown.lab()
    if not click.positive:  # a crop may show the place as a thing, or as background
        views, crops = [1 - each for each in views], [1 - each for each in crops] + crops
    return {
        "all": [np.ones_like(away)],
        "opinion": views,
        "crop": crops,
        "colour": [-np.linalg.norm((lab - lab[seed].mean(axis=0)) / COLOUR_UNIT, axis=2)],
        "likeness": [_likeness(click, shown, away, wrong)],
        "disc": [-away],
    }


def _likeness(click: Claim, shown: Shown, away: Alpha, wrong: Place) -> Alpha:
    """The log likelihood ratio of each pixel, for normal distributions fitted to a disc and a ring.

    The disc ends 1 unit from the click, the ring goes from 2 to 4 units. The ratio is infinite on
    the disc, and -infinite beyond 2 units.
    """
    logit = np.clip(shown.logit, -MOST_LOGIT, MOST_LOGIT) / np.float32(MOST_LOGIT)
    described = np.dstack([shown.lab() / LIKENESS_UNIT, shown.mean(), *click.crops, logit])
    disc, rest = wrong & (away <= 1), wrong & (away > 2) & (away <= 4)
    far, near = (
        _misfit(described, described[place if place.any() else disc]) for place in (rest, disc)
    )
    beyond = np.where(away <= 2, (far - near) / 2, np.float32(-np.inf))
    return np.where(away <= 1, np.float32(np.inf), beyond).astype(np.float32)


def _misfit(described: NDArray[np.float32], known: NDArray[np.float32]) -> Alpha:
    variance = known.var(axis=0) + np.float32(LEAST_VARIANCE)
    squares = np.square(described - known.mean(axis=0)) / variance
    return np.asarray((squares + np.log(variance)).sum(axis=2), np.float32)


def _features(
    click: Claim,
    shown: Shown,
    wrong: Place,
    room: float,
    cues: Mapping[str, Sequence[Alpha]],
    candidates: Sequence[Candidate],
) -> Features:
    side = np.float32(1 if click.positive else -1)
    compared = {"opinions": shown.mean(), "classifier": shown.logit, "decision": shown.log_odds}
    compared |= {f"crop {k}": each for k, each in enumerate(click.crops)}
    compared = {name: side * plane for name, plane in compared.items()}
    (compared["colour"],), (disc,) = cues["colour"], cues["disc"]
    agreed = np.mean([place for *_, place in candidates], axis=0, dtype=np.float32)
    picked = max(1, int((shown.mask > FOREGROUND).sum()))
    contrast = slopes(shown.lab())
    rows = []
    for cue, level, place in candidates:
        row = {
            "cue": list(LEVELS).index(cue),
            "level": level,
            "in": click.positive,
            "room": np.log(room / np.hypot(*wrong.shape)),
            "size": np.log(place.sum() / picked),
            "discs": np.log(place.sum() / room**2),
            "reach": -disc[place].min(),
            "agreed": _mean(agreed, place),
        }
        row |= _shape(click, place, wrong, contrast)
        around = grown(place, NEAR_PX) & ~place & wrong
        for name, plane in compared.items():
            row |= {name: _mean(plane, place), f"{name}, around": _mean(plane, around)}
        rows.append(row)
    return {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}


def _shape(click: Claim, place: Place, wrong: Place, contrast: Alpha) -> dict[str, float]:
    depth, outline = depth_of(place), grown(place, 1) & ~place
    changed = outline & wrong  # the other pixels of the outline are right already
    return {
        "middle": float(depth[click.row, click.column] / depth.max()),
        "thin": float(place.sum() / depth.sum()),
        "edge": _mean(contrast, outline),
        "edge of change": _mean(contrast, changed),
        "open": int(changed.sum()) / max(1, int(outline.sum())),
    }


def _mean(plane: NDArray[np.float32], place: Place) -> float:
    return float(plane[place].mean()) if place.any() else np.nan


def _distance(click: Claim, shape: tuple[int, ...]) -> Alpha:
    rows, columns = np.indices(shape)
    return np.asarray(np.hypot(rows - click.row, columns - click.column), np.float32)
