"""Reads the hints of a clip from their frames, before the clip is masked.

A hint becomes a mark, in shares of the picture, and then a seed, on the region grid. Whether a seed
chooses a thing, bans one or corrects a part of the mask follows from all seeds of the clip.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Image, Levels
from foremask.vision.network.finder import Click, MaskFinder, Unmoved
from foremask.vision.network.network_cache import KeptAnswers, NetworkCache
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.opinions import CropBox, View, span_round
from foremask.vision.resample import as_alpha, as_levels
from foremask.vision.temporal.finding import thing_on
from foremask.vision.temporal.grids import (
    Grid,
    MaskLevels,
    RegionPlane,
    grid_of,
    region_grid,
    size_of,
)
from foremask.vision.temporal.places import Place, depth_of, labelled, part_at
from foremask.vision.temporal.regions import FOREGROUND
from foremask.vision.temporal.things import LEAST_SHARE, NEITHER, OTHER_SHARE
from foremask.vision.temporal.tier import Tier

CROP_PX = 512  # the network's input size for a box's crop; no other is recorded as tried
# The margin on each side of a box's crop, as a share of the box's larger side; by eye.
BOX_MARGIN_SHARE = 0.15
NEAR_PX = 3  # on the region grid, pixels within this distance of a point or place are near
# A negative point bans one of several things if all views have at least `CERTAIN` alpha there, and
# if its depth is over `MIDDLE` of the thing's greatest depth. docs/adr/0050 says how often 0.9 was
# wrong instead of 0.95.
CERTAIN = 0.95
MIDDLE = 0.65
LIGHT = 191  # a paint's pixel above this level is on the subject
DARK = 64  # and below this one on the background


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
class Seed:
    """A mark on the region grid.

    ``place`` lies in a box or paint, or is a small disc round a point. A point that ``chooses`` a
    thing adds the thing if the mask lacks it, and corrects nothing else. ``thing`` is what the
    network that reads points finds at a point, or without it, what the other one finds in the
    picture; it is not used for boxes and paints.
    """

    number: int
    positive: bool
    row: int
    column: int
    thing: RegionPlane
    place: Place
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


def crop_round(mark: Mark, grid: Grid) -> CropBox:
    """The crop round a box, on the mask grid."""
    width = mark.width * grid.columns
    height = mark.height * grid.rows
    x = mark.x * grid.columns + width / 2
    y = mark.y * grid.rows + height / 2
    margin = 2 * BOX_MARGIN_SHARE * max(width, height)
    return (
        span_round(y, height + margin, grid.rows),
        span_round(x, width + margin, grid.columns),
    )


@dataclass(frozen=True)
class FrameHints:
    """What one frame's hints choose or ban, and what they correct.

    ``contradicted`` has pairs of numbers: of a hint, and of a later hint that contradicts it.
    ``first_correction`` is the number of the clip's first correction; no point after it chooses or
    bans a thing.
    """

    opinions: Mapping[View, MaskLevels]
    crops: Sequence[MaskLevels]  # the things at points; the opinions' mean with a box's crop in it
    seeds: Sequence[Seed]
    contradicted: Sequence[tuple[int, int]]
    found: Place  # the foreground of the mean of the opinions
    least: RegionPlane  # the smallest opinion
    masks: Sequence[RegionPlane]  # all opinions, things and crops
    first_correction: float = math.inf

    def on_mask(self, mask: RegionPlane) -> "FrameHints":
        """The same hints, as they act on ``mask``, which was decided without them.

        If most of the first positive hint lies beside the mask, it adds what it is on instead of
        choosing, and all points after it correct.
        """
        positive = [each for each in self.seeds if each.positive]
        if not positive:
            return self
        first = min(positive, key=lambda each: each.number)
        if (mask[first.place] > FOREGROUND).mean() > 0.5:
            return self
        return replace(self, first_correction=min(self.first_correction, first.number))

    @property
    def _chooses(self) -> bool:
        first = min((each.number for each in self.seeds if each.positive), default=0)
        return first < self.first_correction and self._finds_several

    @cached_property
    def _finds_several(self) -> bool:
        """Whether the network finds the thing at each positive seed, and another large thing."""
        positive = [each for each in self.seeds if each.positive]
        if not positive or not all(self._is_on_found(each) for each in positive):
            return False
        return self._finds_elsewhere(np.any([self._extent(each) for each in positive], axis=0))

    def _finds_elsewhere(self, place: Place) -> bool:
        """Whether the network finds a thing elsewhere, over a quarter as large as those here."""
        labels, areas = labelled(self.found, connectivity=4)
        marked = np.unique(labels[place])
        marked = marked[marked > 0]
        others = np.setdiff1d(np.arange(1, len(areas)), marked)
        return bool(others.size and areas[others].max() > OTHER_SHARE * areas[marked].sum())

    @cached_property
    def corrections(self) -> list[Seed]:
        """All boxes and paints, and points that ban nothing and that no later point contradicts."""
        points = {each.number for each in self.seeds if not each.has_size}
        refuted = {earlier for earlier, later in self.contradicted if later in points}
        return [
            replace(each, chooses=not (each.has_size or self.corrects(each)))
            for each in self.seeds
            if each.has_size or (each.number not in refuted and not self._bans(each))
        ]

    @cached_property
    def choice(self) -> RegionPlane | None:
        """1 on chosen things, -1 on banned things, 0 elsewhere; None if all are 0.

        If a thing is chosen, all others that the network finds are banned.
        """
        plane = self.bans
        if self._chooses:
            ours = [self._extent(each) for each in self.seeds if each.positive]
            chosen = np.asarray(np.any(ours, axis=0))
            labels, _ = labelled(self.found, connectivity=4)
            others = self.found & ~np.isin(labels, labels[chosen])
            side = np.where(others, np.float32(-1), chosen.astype(np.float32))
            plane = side if plane is None else np.where(plane == 0, side, plane)
        return plane

    @cached_property
    def bans(self) -> RegionPlane | None:
        """-1 on the things that negative points ban, 0 elsewhere; None if all are 0."""
        banned = [self._extent(each) for each in self.seeds if self._bans(each)]
        if not banned:
            return None
        return -np.any(banned, axis=0).astype(np.float32)

    def corrects(self, seed: Seed) -> bool:
        """Whether a seed is a point that corrects the mask, and does not choose or ban a thing."""
        if seed.has_size:
            return False
        if seed.number > self.first_correction:
            return True
        if seed.positive:
            return not self._chooses
        return not self._bans(seed)

    def _is_on_found(self, seed: Seed) -> bool:
        if seed.has_size:
            return bool((seed.place & self.found).any())
        if self.least[seed.row, seed.column] <= FOREGROUND:
            return False
        return bool(self._extent(seed).sum() >= LEAST_SHARE * self.found.size)

    def _bans(self, seed: Seed) -> bool:
        if seed.has_size or seed.positive or seed.number > self.first_correction:
            return False
        part = part_at(self.found, seed.row, seed.column)
        if not part.any() or self.least[seed.row, seed.column] < CERTAIN:
            return False
        if not self._finds_elsewhere(part):
            return False
        if any((each.place & part).any() for each in self.seeds if each.positive):
            return False
        depth = depth_of(part)
        return bool(depth[seed.row, seed.column] > MIDDLE * depth.max())

    def _extent(self, seed: Seed) -> Place:
        """The place of a box or paint; for a point, the part round it that most masks agree on.

        Only masks that show something at the point count.
        """
        if seed.has_size:
            return seed.place
        holding = [
            part_at(each > FOREGROUND, seed.row, seed.column)
            for each in self.masks
            if each[seed.row, seed.column] > FOREGROUND
        ]
        return np.asarray(np.mean(holding, axis=0) >= 0.5)


@dataclass(frozen=True, slots=True)
class Guidance:
    """The hints on the frames of a clip; ``key_of`` gives an image's key in ``frames``.

    ``finder`` reads points on their frames, and finds corrected masks again on others.
    ``brought`` has, by frame number, planes of what later frames' hints choose (1) or ban (-1).
    """

    frames: Mapping[Hashable, FrameHints]
    key_of: Callable[[Image], Hashable]
    finder: MaskFinder = field(default_factory=Unmoved)
    brought: Mapping[int, NDArray[np.int8]] = field(default_factory=dict)

    @property
    def chooses(self) -> bool:
        """Whether any hint chooses or bans a thing."""
        return any(each.choice is not None for each in self.frames.values())

    @property
    def corrects(self) -> bool:
        return any(each.corrections for each in self.frames.values())

    def on(self, image: Image) -> FrameHints | None:
        return self.frames.get(self.key_of(image))

    def brought_to(self, frame: int, grid: Grid) -> RegionPlane | None:
        """The frame's plane of `brought`, on ``grid``, with `NEITHER` instead of 0; or None."""
        known = self.brought.get(frame)
        if known is None:
            return None
        side = np.asarray(cv2.resize(known, grid, interpolation=cv2.INTER_NEAREST), np.float32)
        return np.where(side == 0, np.float32(NEITHER), side)


def read_hints(
    hinted: Iterable[tuple[Hashable, Image, Sequence[Mark]]],
    network: Network,
    tier: Tier,
    key_of: Callable[[Image], Hashable],
    cache: NetworkCache | None = None,
    finder: MaskFinder | None = None,
) -> Guidance:
    """Run the network on the hinted images, and decide what each of their hints does.

    All points after the clip's first correction are corrections.
    """
    cache = cache or NetworkCache()
    finder = finder or Unmoved()
    read = {}
    for key, image, marks in hinted:
        mask_grid = grid_of(image, tier.mask_area_px)
        kept = KeptAnswers(cache, f"{key}", network)
        read[key] = _read_frame(image, marks, kept, finder, mask_grid)
    corrections = [
        seed.number for each in read.values() for seed in each.seeds if each.corrects(seed)
    ]
    first = min(corrections, default=math.inf)
    frames = {key: replace(each, first_correction=first) for key, each in read.items()}
    return Guidance(frames, key_of, finder)


def _read_frame(
    image: Image, marks: Sequence[Mark], network: KeptAnswers, finder: MaskFinder, mask_grid: Grid
) -> FrameHints:
    """Ask about a hinted image, the things at its points, and crops round its boxes."""
    grid = region_grid(mask_grid)
    opinions = network.ask(image, mask_grid)
    mean = np.mean([as_alpha(each) for each in opinions.values()], axis=0).astype(np.float32)
    views = [grid.alpha(each) for each in opinions.values()]
    masks = list(views)
    crops: list[MaskLevels] = []
    seeds: list[Seed] = []
    contradicted: list[tuple[int, int]] = []
    for mark in marks:
        crop = _found_round(mark, image, as_levels(mean), network, finder)
        found = np.zeros(grid.shape, np.float32)
        if crop is not None:
            found = grid.alpha(crop)
            crops.append(crop)
            masks.append(found)
        seed = _seed(mark, views, found, grid)
        if not seed.place.any():
            continue
        if mark.levels is None:
            against = [each.number for each in seeds if _contradict(each, seed)]
            contradicted += [(number, seed.number) for number in against]
        seeds.append(seed)
    return FrameHints(
        opinions=opinions,
        crops=crops,
        seeds=seeds,
        contradicted=contradicted,
        found=np.mean(views, axis=0, dtype=np.float32) > FOREGROUND,
        least=np.min(views, axis=0),
        masks=masks,
    )


def _found_round(
    mark: Mark, image: Image, mean: MaskLevels, network: KeptAnswers, finder: MaskFinder
) -> MaskLevels | None:
    """The thing at a point, or ``mean`` with a crop round a box in it; None for a paint.

    Where no network reads points, what is at a point is ``mean``.
    """
    grid = size_of(mean)
    if mark.is_box:
        box = crop_round(mark, grid)
        mean[box] = network.infer_part(image, grid.shape, box, CROP_PX)
    elif mark.levels is not None:
        return None
    elif not isinstance(finder, Unmoved):
        click = Click(mark.x, mark.y, inside=True)
        return thing_on(image, network.key, click, grid, finder, network.cache)
    return mean


def _contradict(earlier: Seed, later: Seed) -> bool:
    shared = (earlier.place & later.place).sum()
    smaller = min(earlier.place.sum(), later.place.sum())
    return bool(earlier.positive != later.positive and shared > 0.5 * smaller)


def _seed(mark: Mark, views: Sequence[RegionPlane], found: RegionPlane, grid: Grid) -> Seed:
    """``found`` is what was found round the mark."""
    row = min(grid.rows - 1, int(mark.y * grid.rows))
    column = min(grid.columns - 1, int(mark.x * grid.columns))
    if mark.levels is not None:
        place = _painted(mark.levels, grid, positive=mark.positive)
    elif mark.is_box:
        place = _in_box(mark, [*views, found], grid)
    else:
        disc = np.zeros(grid.shape, np.uint8)
        cv2.circle(disc, (column, row), NEAR_PX, 1, -1)
        place = disc > 0
    has_size = mark.is_box or mark.levels is not None
    return Seed(mark.number, mark.positive, row, column, found, place, has_size)


def _painted(paint: Levels, grid: Grid, *, positive: bool) -> Place:
    levels = cv2.resize(paint, grid, interpolation=cv2.INTER_AREA)
    if positive:
        return np.asarray(levels > LIGHT)
    return np.asarray(levels < DARK)


def _in_box(mark: Mark, masks: Sequence[RegionPlane], grid: Grid) -> Place:
    """The whole of a negative box; in a positive box, what at least a third of ``masks`` shows.

    If that is nothing, the whole of the positive box.
    """
    left = round(mark.x * grid.columns)
    top = round(mark.y * grid.rows)
    right = max(left + 1, round((mark.x + mark.width) * grid.columns))
    bottom = max(top + 1, round((mark.y + mark.height) * grid.rows))
    inside = np.zeros(grid.shape, np.bool_)
    inside[top:bottom, left:right] = True
    if not mark.positive:
        return inside
    votes = np.mean([each > FOREGROUND for each in masks], axis=0) >= 1 / 3
    narrowed = inside & votes
    if narrowed.any():
        return np.asarray(narrowed)
    return inside
