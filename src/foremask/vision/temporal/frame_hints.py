"""The hints on one frame: the things that they choose, and the places that they correct."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from foremask.types import Alpha, Image, Levels
from foremask.vision.network.network_cache import KeptAnswers
from foremask.vision.network.opinions import CropBox
from foremask.vision.resample import alpha_on, as_alpha, as_levels
from foremask.vision.temporal.places import Place, depth_of, labelled, part_at, tracks_grid
from foremask.vision.temporal.regions import FOREGROUND
from foremask.vision.temporal.things import LEAST_SHARE, OTHER_SHARE

CROP_PX = 512  # the network's input size for a crop
CROP_SHARES = (1 / 6, 1 / 3, 2 / 3, 1.0)  # a point's crops, as shares of the picture's smaller side
BOX_MARGIN_SHARE = 0.15  # margin on each side of a box's crop, as a share of the box's larger side
NEAR_PX = 3  # on the tracks' grid, pixels within this distance of a point or place are near
CERTAIN = 0.95  # a negative point with a lower alpha in any view bans no whole thing
MIDDLE = 0.65  # a negative point deeper than this share of a thing's greatest depth bans the thing


@dataclass(frozen=True, slots=True)
class Mark:
    """A point, a box, or the light or the dark pixels of a paint.

    Coordinates are shares of the picture's sides. ``levels`` is the whole paint: see `read_paint`.
    """

    number: int
    positive: bool
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    levels: Levels | None = None

    @property
    def is_box(self) -> bool:
        return self.width > 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A mark on the tracks' grid.

    ``seed`` lies in a box or paint, or is a small disc round a point. A point that ``chooses`` a
    thing adds the thing if the mask lacks it, and corrects nothing else.
    """

    number: int
    positive: bool
    row: int
    column: int
    crops: Sequence[Alpha]  # the mean mask with one crop round the mark pasted in, smallest first
    seed: Place
    has_size: bool = False
    chooses: bool = False


def read_paint(png: bytes) -> Levels | None:
    """The grey levels of a paint: light on the subject, dark on the background, 128 if transparent.

    None if the bytes are not a picture with 8 bits per channel.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    if pixels.ndim == 2:
        return np.asarray(pixels, np.uint8)
    grey = np.asarray(cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY), np.uint8)
    if pixels.shape[2] == 4:
        grey[pixels[..., 3] < 128] = 128
    return grey


def settle(frames: Collection["FrameHints"]) -> None:
    """Turn all points after the clip's first correction into corrections."""
    corrections = [claim.number for each in frames for claim in each.claims if each.corrects(claim)]
    for each in frames:
        each.first_correction = min(corrections, default=math.inf)


def crops_round(mark: Mark, grid: tuple[int, int]) -> list[CropBox]:
    """Several crops round a point, one round a box, none round a paint; on the masks' grid."""
    if mark.levels is not None:
        return []
    columns, rows = grid
    width, height = mark.width * columns, mark.height * rows
    if mark.is_box:
        margin = 2 * BOX_MARGIN_SHARE * max(width, height)
        sizes = [(width + margin, height + margin)]
    else:
        sizes = [(share * min(grid), share * min(grid)) for share in CROP_SHARES]
    x, y = mark.x * columns + width / 2, mark.y * rows + height / 2
    return [(_span(y, down, rows), _span(x, across, columns)) for across, down in sizes]


def _span(middle: float, length: float, most: int) -> slice:
    length = min(length, most)
    first = min(max(0.0, middle - length / 2), most - length)
    return slice(int(first), min(most, int(np.ceil(first + length))))


class FrameHints:
    """The things that one frame's hints choose or ban, and the places that they correct.

    The properties are valid after `settle`. ``grid`` has the columns and rows of the masks.
    ``opinions`` has the network's mask of each view. ``crops`` has copies of their mean, each with
    a hint's crop pasted in. ``contradicted`` has number pairs of a hint and a later one against it.
    """

    def __init__(
        self, image: Image, marks: Sequence[Mark], network: KeptAnswers, grid: tuple[int, int]
    ) -> None:
        self._grid = tracks_grid(*grid)
        self.opinions = network.ask(image, grid)
        masks = list(self.opinions.values())
        mean = np.mean([as_alpha(each) for each in masks], axis=0)
        base = [alpha_on(each, *self._grid) for each in masks]
        self._picked = np.mean(base, axis=0, dtype=np.float32) > FOREGROUND
        self._least = np.min(base, axis=0)
        self._stack = base  # the masks of all views and crops
        self.crops: list[Levels] = []
        around: list[list[Alpha]] = []
        for mark in marks:
            first = len(self._stack)
            for box in crops_round(mark, grid):
                self.crops.append(as_levels(mean.astype(np.float32)))
                self.crops[-1][box] = network.infer_part(image, grid[::-1], box, CROP_PX)
                self._stack.append(alpha_on(self.crops[-1], *self._grid))
            around.append(self._stack[first:])
        self.contradicted: list[tuple[int, int]] = []
        self.first_correction = math.inf  # the number of the clip's first correction
        self.claims: list[Claim] = []
        for mark, crops in zip(marks, around, strict=True):
            self._add(mark, crops)

    def _add(self, mark: Mark, crops: list[Alpha]) -> None:
        columns, rows = self._grid
        row, column = min(rows - 1, int(mark.y * rows)), min(columns - 1, int(mark.x * columns))
        seed = self._seed(mark, row, column)
        if not seed.any():
            return
        for other in self.claims:
            shared = (other.seed & seed).sum() > 0.5 * min(seed.sum(), other.seed.sum())
            if other.positive != mark.positive and shared and mark.levels is None:
                self.contradicted.append((other.number, mark.number))
        has_size = mark.is_box or mark.levels is not None
        self.claims.append(Claim(mark.number, mark.positive, row, column, crops, seed, has_size))

    def _seed(self, mark: Mark, row: int, column: int) -> Place:
        columns, rows = self._grid
        if mark.levels is not None:
            painted = cv2.resize(mark.levels, self._grid, interpolation=cv2.INTER_AREA)
            return np.asarray(painted > 191 if mark.positive else painted < 64)
        seed = np.zeros((rows, columns), np.uint8)
        if not mark.is_box:
            cv2.circle(seed, (column, row), NEAR_PX, 1, -1)
            return np.asarray(seed > 0)
        left, top = round(mark.x * columns), round(mark.y * rows)
        right = max(left + 1, round((mark.x + mark.width) * columns))
        bottom = max(top + 1, round((mark.y + mark.height) * rows))
        seed[top:bottom, left:right] = 1
        votes = np.mean([each > FOREGROUND for each in self._stack], axis=0) >= 1 / 3
        narrowed = (seed > 0) & votes
        return np.asarray(narrowed if mark.positive and narrowed.any() else seed > 0)

    @property
    def _chooses(self) -> bool:
        first = min((each.number for each in self.claims if each.positive), default=0)
        return first <= self.first_correction and self._finds_several

    @cached_property
    def _finds_several(self) -> bool:
        """Whether the network finds the thing at each positive mark, and another large thing."""
        positive = [each for each in self.claims if each.positive]
        if not positive or not all(self._is_on_found(each) for each in positive):
            return False
        labels, areas = labelled(self._picked, connectivity=4)
        marked = np.unique(np.concatenate([labels[self._extent(each)] for each in positive]))
        marked = marked[marked > 0]
        others = np.setdiff1d(np.arange(1, len(areas)), marked)
        return bool(others.size and areas[others].max() > OTHER_SHARE * areas[marked].sum())

    @cached_property
    def corrections(self) -> list[Claim]:
        """All boxes and paints, and points that ban nothing and that no later point contradicts."""
        points = {each.number for each in self.claims if not each.has_size}
        refuted = {earlier for earlier, later in self.contradicted if later in points}
        return [
            replace(each, chooses=not (each.has_size or self.corrects(each)))
            for each in self.claims
            if each.has_size or (each.number not in refuted and not self._bans(each))
        ]

    @cached_property
    def followed(self) -> Alpha | None:
        """1 on chosen things, -1 on banned things, 0 elsewhere; None if all are 0.

        If a thing is chosen, all others that the network finds are banned.
        """
        plane = np.zeros(self._picked.shape, np.float32)
        if self._chooses:
            ours = [self._extent(each) for each in self.claims if each.positive]
            chosen = np.asarray(np.any(ours, axis=0))
            labels, _ = labelled(self._picked, connectivity=4)
            plane[self._picked & ~np.isin(labels, labels[chosen])] = -1
            plane[chosen] = 1
        for each in self.claims:
            if self._bans(each):
                plane[self._extent(each)] = -1
        return plane if plane.any() else None

    def corrects(self, claim: Claim) -> bool:
        """Whether a hint is a point that corrects the mask, and does not choose or ban a thing."""
        if claim.has_size or claim.number > self.first_correction:
            return not claim.has_size
        return not (self._chooses if claim.positive else self._bans(claim))

    def _is_on_found(self, claim: Claim) -> bool:
        if claim.has_size:
            return bool((claim.seed & self._picked).any())
        if self._least[claim.row, claim.column] <= FOREGROUND:
            return False
        return bool(self._extent(claim).sum() >= LEAST_SHARE * self._picked.size)

    def _bans(self, claim: Claim) -> bool:
        if claim.has_size or claim.positive or claim.number > self.first_correction:
            return False
        part = part_at(self._picked, claim.row, claim.column)
        if not part.any() or self._least[claim.row, claim.column] < CERTAIN:
            return False
        if any((each.seed & part).any() for each in self.claims if each.positive):
            return False
        depth = depth_of(part)
        return bool(depth[claim.row, claim.column] > MIDDLE * depth.max())

    def _extent(self, claim: Claim) -> Place:
        """The seed of a box or paint; for a point, the pixels in most masks' parts round it."""
        if claim.has_size:
            return claim.seed
        row, column = claim.row, claim.column
        holding = [
            part_at(each > FOREGROUND, row, column)
            for each in self._stack
            if each[row, column] > FOREGROUND
        ]
        return np.asarray(np.mean(holding, axis=0) >= 0.5)
