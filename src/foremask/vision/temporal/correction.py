"""How far a click reaches that corrects a mask: a fitted gate decides pixel by pixel.

A click where a mask is wrong stands for the wrong place round it. Colour, the network's features,
its opinions and the distance decide which pixels belong to that place: docs/adr/0050. Fitted by
``benchmarks/quality/fit_correction.py`` of 427503c.
"""

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Rgb
from foremask.vision.temporal.regions import FOREGROUND

REACH_SHARE = 0.09  # of the diagonal: nothing farther from the click is changed
UNIT_SHARE = 1 / 490  # of the diagonal: what distances count in
SEED_UNITS = 2.0  # what surely belongs to the click
CUT_UNITS = (20.0, 40.0)  # how far the colour cuts look
CLEAR = 0.5  # logit from which a pixel belongs to the click,
WITHIN = 1.5  # or as far below the click's own
MOST_TAKEN = 0.15  # of the mask: for more, a click out must be clearer,
MOST_CLEAR = 4.0  # up to this logit
PLAIN, PATH = 2, 4  # the features of colour, and of colour along the path
LIKE = 0.3  # a click out takes what is of its colour by both, and connected to its place,
UNCLEAR = -1.0  # unless its logit is lower
MOST = 60.0  # of a feature
UNUSUAL = 3.0  # deviations: nothing beyond was seen when the gate was fitted
MOST_LOGIT, MOST_LOG_ODDS = 4.0, 6.0
LEAST_CUT_PX = 20

type Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of a frame whose mask is corrected; all planes are on one grid."""

    rgb: Rgb
    mask: Alpha  # as it was decided
    opinions: Sequence[Alpha]
    logit: Alpha  # of the clip's classifier
    log_odds: Alpha  # of the decision
    features: Sequence[NDArray[np.float16]]  # of the network, finest first, any size


class Click(NamedTuple):
    """A pixel, and whether it is the subject."""

    row: int
    column: int
    positive: bool


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

    @classmethod
    def read(cls, text: str) -> "Gate":
        """From the JSON that `written` gives."""
        fitted = json.loads(text)
        planes = {name: np.array(fitted[name], np.float32) for name in ("mean", "deviation")}
        return cls(**planes, weights=[np.array(each, np.float32) for each in fitted["weights"]])

    def written(self) -> str:
        """As JSON."""
        rounded = [np.round(each.astype(float), 4).tolist() for each in self.weights]
        mean, deviation = (
            np.round(each.astype(float), 4).tolist() for each in (self.mean, self.deviation)
        )
        return json.dumps({"mean": mean, "deviation": deviation, "weights": rounded})


@lru_cache(maxsize=1)
def fitted_gate() -> Gate:
    """The one that ships."""
    folder = resources.files("foremask.vision.temporal")
    return Gate.read(folder.joinpath("correction.json").read_text())


def place_of(click: Click, shown: Shown, gate: Gate) -> NDArray[np.bool_]:
    """The pixels round a click that change sides.

    None where the mask has the click right already.
    """
    place = np.zeros(shown.mask.shape, bool)
    if (shown.mask[click.row, click.column] > FOREGROUND) == click.positive:
        return place
    features, may_change, window = measure(click, shown)
    logits = np.where(may_change, gate(features), -np.inf)
    seed = _seed(click, shown)[window]
    row, column = click.row - window[0].start, click.column - window[1].start
    most = MOST_TAKEN * float((shown.mask > FOREGROUND).sum())
    clear = min(CLEAR, float(logits[row, column]) - WITHIN)
    while True:
        changed = (logits > clear) | seed
        place[window] = _round(changed, row, column)
        if click.positive:
            return place
        if place.sum() <= most or clear > MOST_CLEAR:
            alike = (features[..., PLAIN] < LIKE) & (features[..., PATH] < LIKE)
            alike &= logits > UNCLEAR
            place[window] = _round(changed | alike, row, column)
            return place
        clear += 0.5


def _round(places: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """The connected region round a pixel."""
    _, labels = cv2.connectedComponents(places.astype(np.uint8), connectivity=4)
    return np.asarray(labels == labels[row, column])


def measure(click: Click, shown: Shown) -> tuple[NDArray[np.float32], NDArray[np.bool_], Window]:
    """The features of each pixel in a window round the click, the only pixels that may change.

    And the window.
    """
    row, column, positive = click
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
    cuts = [
        _cut(shown, named, click, round(reach_units * unit))[window] for reach_units in CUT_UNITS
    ]
    own_room = float(room[row, column])
    coloured = _colours(shown.rgb[window], named[window], may_change)
    levels = [
        _unlike(level, shown.mask.shape, window, named, may_change) for level in shown.features[:2]
    ]
    planes = [
        away / 20,
        np.minimum(away / max(2.0, own_room), 6),
        *coloured,
        *[*levels, coloured[1], coloured[1]][:2],  # a network without features has colours only
        *_stated(shown, window, here, positive=positive),
        cuts[0],
        cuts[1],
        cuts[0] * cuts[1],
        np.full(away.shape, float(positive)),
        room[window] / 10,
        np.full(away.shape, min(own_room, 20) / 10),
    ]
    stacked = np.stack(planes, axis=-1).astype(np.float32)
    return np.clip(np.nan_to_num(stacked, nan=MOST), -MOST, MOST), may_change, window


def _seed(click: Click, shown: Shown) -> NDArray[np.bool_]:
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
    """The colour distance to the click: plain, in standard deviations, and along the path to it."""
    blurred = cv2.GaussianBlur(np.ascontiguousarray(rgb), (0, 0), 0.8)
    lab = cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab).astype(np.float32)
    difference = lab - lab[seed].mean(axis=0)
    plain = np.sqrt(np.square(difference / np.array([1.5, 1, 1], np.float32)).sum(axis=2)) / 20
    spread = lab[may_change].std(axis=0) + 4
    relative = np.sqrt(np.square(difference / spread).mean(axis=2))
    path = np.minimum(_cheapest_path(lab / np.float32(8), may_change, seed), 40) / 10
    return [plain, relative, path]


def _cheapest_path(
    colours: NDArray[np.float32], allowed: NDArray[np.bool_], seed: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The least sum of colour steps on a path from the seed: Dijkstra's algorithm."""
    rows, columns = allowed.shape
    across = np.linalg.norm(np.diff(colours, axis=1), axis=2).tolist()
    down = np.linalg.norm(np.diff(colours, axis=0), axis=2).tolist()
    open_to = allowed.tolist()
    found = [[float("inf")] * columns for _ in range(rows)]
    queue = [(0.0, int(row), int(column)) for row, column in np.argwhere(seed)]
    for _, row, column in queue:
        found[row][column] = 0.0
    while queue:
        path, row, column = heapq.heappop(queue)
        if path > found[row][column] or path > 40:
            continue
        steps = []
        if column + 1 < columns:
            steps.append((row, column + 1, across[row][column]))
        if column:
            steps.append((row, column - 1, across[row][column - 1]))
        if row + 1 < rows:
            steps.append((row + 1, column, down[row][column]))
        if row:
            steps.append((row - 1, column, down[row - 1][column]))
        for to_row, to_column, cost in steps:
            longer = path + cost
            if longer < found[to_row][to_column] and open_to[to_row][to_column]:
                found[to_row][to_column] = longer
                heapq.heappush(queue, (longer, to_row, to_column))
    return np.array(found, np.float32)


def _unlike(
    level: NDArray[np.float16],
    shape: tuple[int, ...],
    window: Window,
    seed: NDArray[np.bool_],
    may_change: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """The distance of the network's features from those at the click."""
    large = cv2.resize(level.astype(np.float32), (shape[1], shape[0]))[window]
    own = large[seed[window]].mean(axis=0)
    others = large[may_change]
    usual = np.square(own - others.mean(axis=0)).sum() + others.var(axis=0).sum()
    return np.asarray(np.sqrt(np.square(large - own).sum(axis=2) / (usual + 1e-6)), np.float32)


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


def _cut(shown: Shown, seed: NDArray[np.bool_], click: Click, reach: int) -> NDArray[np.float32]:
    """1 where a colour cut (GrabCut, Rother et al., 2004) near the click changes sides."""
    top, left = max(0, click.row - reach), max(0, click.column - reach)
    window = np.s_[top : click.row + reach + 1, left : click.column + reach + 1]
    inside, named = (shown.mask > FOREGROUND)[window], seed[window]
    sides = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    sides[named] = cv2.GC_FGD if click.positive else cv2.GC_BGD
    result = np.zeros(seed.shape, np.float32)
    ours = np.isin(sides, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if min(ours.sum(), (~ours).sum()) < LEAST_CUT_PX:
        return result
    models = [np.zeros((1, 65)), np.zeros((1, 65))]
    picture = np.ascontiguousarray(shown.rgb[window])
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, sides, (0, 0, 1, 1), *models, 3, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    ours = np.isin(sides, (cv2.GC_FGD, cv2.GC_PR_FGD))
    result[window] = ((ours & ~inside) if click.positive else (~ours & inside)) | named
    return result
