"""How far a click reaches that corrects a mask: a fitted gate decides pixel by pixel.

A click where a mask is wrong stands for the wrong place round it. Colour, the network's opinions
and the distance decide which pixels belong to that place: docs/adr/0050. Fitted by
``benchmarks/quality/fit_correction.py`` of 427503c, with six features more, which did harm.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Rgb
from foremask.vision.temporal.frame_hints import Correction, part_at
from foremask.vision.temporal.regions import FOREGROUND

REACH_SHARE = 0.09  # of the diagonal: nothing farther from the click is changed
UNIT_SHARE = 1 / 490  # of the diagonal: the unit of distances
SEED_UNITS = 2.0  # what surely belongs to the click
CLEAR = 0.5  # logit from which a pixel belongs to the click,
WITHIN = 1.5  # or as far below the click's own
MOST_TAKEN = 0.15  # of the mask: for more, a click out must be clearer,
MOST_CLEAR = 4.0  # up to this logit
MOST = 60.0  # of a feature
UNUSUAL = 3.0  # deviations: nothing beyond was seen when the gate was fitted
MOST_LOGIT, MOST_LOG_ODDS = 4.0, 6.0

type Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of a frame whose mask is corrected; all planes are on one grid."""

    rgb: Rgb
    mask: Alpha  # as it was decided
    opinions: Sequence[Alpha]
    logit: Alpha  # of the clip's classifier
    log_odds: Alpha  # of the decision


@dataclass(frozen=True, slots=True)
class Gate:
    """A network of one hidden layer over the features of a pixel."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weights: list[NDArray[np.float32]]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits; positive where a pixel belongs to the click."""
        into, bias, out, last = self.weights
        usual = np.clip((features - self.mean) / self.deviation, -UNUSUAL, UNUSUAL)
        hidden = np.maximum(usual @ into + bias, 0)
        return np.asarray((hidden @ out + last)[..., 0], np.float32)


@lru_cache(maxsize=1)
def fitted_gate() -> Gate:
    """The one that ships."""
    folder = resources.files("foremask.vision.temporal")
    fitted = json.loads(folder.joinpath("correction.json").read_text())
    planes = {name: np.array(fitted[name], np.float32) for name in ("mean", "deviation")}
    return Gate(**planes, weights=[np.array(each, np.float32) for each in fitted["weights"]])


def corrected_sides(corrections: Sequence[Correction], shown: Shown) -> Alpha:
    """1 on what corrections on a frame take in, -1 on what they take out, else 0.

    Each counts on what those before have left.
    """
    sides = np.zeros(shown.mask.shape, np.float32)
    for each in corrections:
        mask = np.where(sides == 0, shown.mask, sides > 0).astype(np.float32)
        sides[_place_of(each, replace(shown, mask=mask))] = 1 if each.positive else -1
    return sides


def _place_of(click: Correction, shown: Shown) -> NDArray[np.bool_]:
    """The pixels round a click that change sides: none where the mask has it right already."""
    place = np.zeros(shown.mask.shape, bool)
    if (shown.mask[click.row, click.column] > FOREGROUND) == click.positive:
        return place
    features, may_change, window = _measured(click, shown)
    logits = np.where(may_change, fitted_gate()(features), -np.inf)
    seed = _seed(click, shown)[window]
    row, column = click.row - window[0].start, click.column - window[1].start
    most = MOST_TAKEN * float((shown.mask > FOREGROUND).sum())
    clear = min(CLEAR, float(logits[row, column]) - WITHIN)
    changed = (logits > clear) | seed
    if not click.positive:
        while part_at(changed, row, column).sum() > most and clear <= MOST_CLEAR:
            clear += 0.5
            changed = (logits > clear) | seed
    place[window] = part_at(changed, row, column)
    return place


def _measured(
    click: Correction, shown: Shown
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Window]:
    """The features of each pixel in a window round the click, the only pixels that may change.

    And the window.
    """
    row, column, positive = click.row, click.column, click.positive
    rows, columns = shown.mask.shape
    diagonal = float(np.hypot(rows, columns))
    unit, reach = UNIT_SHARE * diagonal, round(REACH_SHARE * diagonal)
    window = (
        slice(max(0, row - reach), min(rows, row + reach + 1)),
        slice(max(0, column - reach), min(columns, column + reach + 1)),
    )
    here = row - window[0].start, column - window[1].start
    side = (shown.mask > FOREGROUND) != positive
    named = _seed(click, shown)
    may_change = (side | named)[window]
    room = np.minimum(cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 3), MOST) / unit
    down, across = np.mgrid[: may_change.shape[0], : may_change.shape[1]]
    away = np.hypot(down - here[0], across - here[1]) / unit
    own_room = float(room[row, column])
    coloured = _colours(shown.rgb[window], named[window], may_change)
    planes = [
        away / 20,
        np.minimum(away / max(2.0, own_room), 6),
        *coloured,
        *_stated(shown, window, here, positive=positive),
        np.full(away.shape, float(positive)),
        room[window] / 10,
        np.full(away.shape, min(own_room, 20) / 10),
    ]
    stacked = np.stack(planes, axis=-1).astype(np.float32)
    return np.clip(np.nan_to_num(stacked, nan=MOST), -MOST, MOST), may_change, window


def _seed(click: Correction, shown: Shown) -> NDArray[np.bool_]:
    """What surely belongs to the click."""
    unit = UNIT_SHARE * float(np.hypot(*shown.mask.shape))
    seed = np.zeros(shown.mask.shape, np.uint8)
    cv2.circle(seed, (click.column, click.row), max(1, round(SEED_UNITS * unit)), 1, -1)
    named = np.asarray((seed > 0) & ((shown.mask > FOREGROUND) != click.positive))
    named[click.row, click.column] = True
    return named


def _colours(
    rgb: Rgb, seed: NDArray[np.bool_], may_change: NDArray[np.bool_]
) -> list[NDArray[np.float32]]:
    """The colour distance to the click: plain, and in standard deviations."""
    blurred = cv2.GaussianBlur(np.ascontiguousarray(rgb), (0, 0), 0.8)
    lab = cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab).astype(np.float32)
    difference = lab - lab[seed].mean(axis=0)
    plain = np.sqrt(np.square(difference / np.array([1.5, 1, 1], np.float32)).sum(axis=2)) / 20
    spread = lab[may_change].std(axis=0) + 4
    relative = np.sqrt(np.square(difference / spread).mean(axis=2))
    return [plain, relative]


def _stated(
    shown: Shown, window: Window, here: tuple[int, int], *, positive: bool
) -> list[NDArray[np.float32]]:
    """How far opinions, classifier and decision speak for the change."""
    sign = np.float32(1 if positive else -1)
    wanted = sign * (np.stack([each[window] for each in shown.opinions]) - np.float32(0.5))
    agreeing = wanted[wanted[(slice(None), *here)] > 0]
    nothing = np.zeros(wanted.shape[1:], np.float32)
    agreed = (agreeing > 0).mean(axis=0, dtype=np.float32) if len(agreeing) else nothing
    share = np.full(nothing.shape, len(agreeing) / len(wanted), np.float32)
    mean = wanted.mean(axis=0)
    logit = sign * np.clip(shown.logit[window], -MOST_LOGIT, MOST_LOGIT)
    odds = sign * np.clip(shown.log_odds[window], -MOST_LOG_ODDS, MOST_LOG_ODDS) / 3
    return [
        agreed,
        share,
        agreed * share,
        mean,
        mean - mean[here],
        wanted.max(axis=0),
        logit,
        logit - logit[here],
        odds,
        odds - odds[here],
    ]
