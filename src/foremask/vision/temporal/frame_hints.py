"""The hints on one frame: which things they choose, and which places they correct.

The network is asked about a hinted frame in every view, and about crops round its hints. Source:
docs/adr/0050.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from foremask.types import Alpha, Image, Levels
from foremask.vision.network.opinions import CropBox, View
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.network_cache import KeptAnswers
from foremask.vision.temporal.places import Place, depth_of, labelled, part_at
from foremask.vision.temporal.regions import FOREGROUND
from foremask.vision.temporal.things import LEAST_SHARE

CROP_PX = 512  # the side of a crop, as the network gets it
CROP_SHARES = (1 / 6, 1 / 3, 2 / 3, 1.0)  # of the picture's smaller side: crops round a point
BOX_MARGIN_SHARE = 0.15  # of a box's larger side: the margin of its crop on each side
OTHER_SHARE = 0.25  # of the area of the marked thing: smaller parts do not count as other things
SEED_SHARE = 0.008  # of the diagonal: the radius of a point's seed
CERTAIN = 0.95  # least alpha in every view at a negative point that bans a whole thing
MIDDLE = 0.65  # of a thing's largest depth: a deeper negative point bans all of it


@dataclass(frozen=True, slots=True)
class Mark:
    """One hint on one frame, in shares of the picture's width and height.

    A point has no width or height. ``levels`` is a paint of any size: see `read_paint`.
    """

    number: int
    positive: bool
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    levels: Levels | None = None

    @property
    def has_size(self) -> bool:
        """Whether it is more than a point."""
        return self.is_box or self.levels is not None

    @property
    def is_box(self) -> bool:
        """Whether it is a rectangle."""
        return self.width > 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A mark on the tracks' grid.

    ``seed`` has the pixels that surely belong to it: of a box or paint those that it means, of a
    point a small disc. A point that ``chooses`` a thing corrects only a mask that lacks it.
    """

    number: int
    positive: bool
    row: int
    column: int
    crops: Sequence[Alpha]  # the network's opinions of crops round it, the smallest first
    seed: Place
    has_size: bool = False
    chooses: bool = False


@dataclass(frozen=True, slots=True)
class FrameHints:
    """What the hints on one frame do; planes are on the tracks' grid.

    ``opinions`` are the network's in every view, ``crops`` those of crops round the hints.
    ``followed`` is 1 on chosen things, -1 on banned ones, and 0 elsewhere; None if there are none.
    ``corrections`` are the boxes, the paints, and the points that neither ban a thing nor are
    contradicted by a later point. ``contradicted`` has pairs of hints' numbers.
    """

    opinions: dict[View, Levels]
    crops: list[Levels]
    followed: Alpha | None
    corrections: list[Claim]
    contradicted: list[tuple[int, int]] = field(default_factory=list)


def read_paint(png: bytes) -> Levels | None:
    """The levels of a paint: 255 on the subject, 0 beside it, 128 where it is unmarked.

    None where the bytes are no picture that can be read.
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


def settled(frames: Mapping[Hashable, "Claims"]) -> dict[Hashable, FrameHints]:
    """What the hints of a clip do, by frame.

    All points after the first correction correct, too: they neither choose nor ban things.
    """
    corrections = [
        claim.number
        for each in frames.values()
        for claim in each.made
        if each.corrects(claim, chooses=each.chooses)
    ]
    first = min(corrections, default=None)
    for each in frames.values():
        each.first_correction = first
    return {
        key: each.hints(chooses=each.chooses and (first is None or first > each.chosen_by))
        for key, each in frames.items()
    }


def crops_round(mark: Mark, grid: tuple[int, int]) -> list[CropBox]:
    """The crops to infer, on the masks' grid: of several sizes round a point, one round a box."""
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


class Claims:
    """The marks on one frame, which is inferred in every view.

    ``grid`` is the masks' grid, ``small`` the tracks'.
    """

    def __init__(
        self,
        image: Image,
        marks: Sequence[Mark],
        network: KeptAnswers,
        grid: tuple[int, int],
        small: tuple[int, int],
    ) -> None:
        self._small = small
        self._opinions = network.ask(image, grid)
        masks = list(self._opinions.values())
        mean = np.mean([as_alpha(each) for each in masks], axis=0)
        self._cropped: list[Levels] = []
        self._stack = [resized(each, *small) * np.float32(1 / 255) for each in masks]
        base = list(self._stack)
        crops: list[list[Alpha]] = []
        for mark in marks:
            first = len(self._stack)
            for box in [] if mark.levels is not None else crops_round(mark, grid):
                self._cropped.append(as_levels(mean.astype(np.float32)))
                self._cropped[-1][box] = network.infer_part(image, grid[::-1], box, CROP_PX)
                self._stack.append(resized(self._cropped[-1], *small) * np.float32(1 / 255))
            crops.append(self._stack[first:])
        self._picked = np.mean(base, axis=0, dtype=np.float32) > FOREGROUND
        self._least = np.min(base, axis=0)
        self._contradicted: list[tuple[int, int]] = []
        self.first_correction: int | None = None  # on any frame
        self.made: list[Claim] = []
        for mark, around in zip(marks, crops, strict=True):
            self._add(mark, around)

    def _add(self, mark: Mark, crops: list[Alpha]) -> None:
        columns, rows = self._small
        row, column = min(rows - 1, int(mark.y * rows)), min(columns - 1, int(mark.x * columns))
        seed = self._seed(mark, row, column)
        if not seed.any():
            return
        for other in self.made:
            shared = (other.seed & seed).sum() > 0.5 * min(seed.sum(), other.seed.sum())
            if other.positive != mark.positive and shared and mark.levels is None:
                self._contradicted.append((other.number, mark.number))
        self.made.append(Claim(mark.number, mark.positive, row, column, crops, seed, mark.has_size))

    def _seed(self, mark: Mark, row: int, column: int) -> Place:
        columns, rows = self._small
        if mark.levels is not None:
            painted = cv2.resize(mark.levels, self._small, interpolation=cv2.INTER_AREA)
            return np.asarray(painted > 191 if mark.positive else painted < 64)
        seed = np.zeros((rows, columns), np.uint8)
        if not mark.is_box:
            radius = max(1, round(SEED_SHARE * float(np.hypot(*self._small))))
            cv2.circle(seed, (column, row), radius, 1, -1)
            return np.asarray(seed > 0)
        left, top = round(mark.x * columns), round(mark.y * rows)
        right = max(left + 1, round((mark.x + mark.width) * columns))
        bottom = max(top + 1, round((mark.y + mark.height) * rows))
        seed[top:bottom, left:right] = 1
        votes = np.mean([each > FOREGROUND for each in self._stack], axis=0) >= 1 / 3
        narrowed = (seed > 0) & votes
        return np.asarray(narrowed if mark.positive and narrowed.any() else seed > 0)

    @cached_property
    def chosen_by(self) -> int:
        """The number of the first positive mark; 0 without one."""
        return min((each.number for each in self.made if each.positive), default=0)

    @cached_property
    def chooses(self) -> bool:
        """Whether positive marks choose among several things that the network finds.

        Each must be on such a thing; a point's must be in every view, with `LEAST_SHARE` at least.
        A part smaller than `OTHER_SHARE` of the marked things is no other thing: it may be theirs.
        """
        positive = [each for each in self.made if each.positive]
        if not positive or not all(self._is_on_found(each) for each in positive):
            return False
        labels, areas = labelled(self._picked, connectivity=4)
        marked = np.unique(np.concatenate([labels[self._extent(each)] for each in positive]))
        marked = marked[marked > 0]
        others = np.setdiff1d(np.arange(1, len(areas)), marked)
        return bool(others.size and areas[others].max() > OTHER_SHARE * areas[marked].sum())

    def hints(self, *, chooses: bool) -> FrameHints:
        """What the marks do; with ``chooses``, positive ones choose among things."""
        points = {each.number for each in self.made if not each.has_size}
        refuted = {earlier for earlier, later in self._contradicted if later in points}
        return FrameHints(
            opinions=self._opinions,
            crops=self._cropped,
            followed=self._followed(chooses=chooses),
            corrections=[
                replace(each, chooses=not (each.has_size or self.corrects(each, chooses=chooses)))
                for each in self.made
                if each.has_size or (each.number not in refuted and not self._bans(each))
            ],
            contradicted=self._contradicted,
        )

    def _followed(self, *, chooses: bool) -> Alpha | None:
        """1 on chosen things, -1 on banned ones and, if any is chosen, on all others found."""
        plane = np.zeros(self._picked.shape, np.float32)
        if chooses:
            ours = [self._extent(each) for each in self.made if each.positive]
            chosen = np.asarray(np.any(ours, axis=0))
            labels, _ = labelled(self._picked, connectivity=4)
            plane[self._picked & ~np.isin(labels, labels[chosen])] = -1
            plane[chosen] = 1
        for each in self.made:
            if self._bans(each):
                plane[self._extent(each)] = -1
        return plane if plane.any() else None

    def corrects(self, claim: Claim, *, chooses: bool) -> bool:
        """Whether a point corrects the mask, rather than choosing or banning a whole thing."""
        if claim.has_size:
            return False
        if self._is_late(claim):
            return True
        return not (chooses if claim.positive else self._bans(claim))

    def _is_late(self, claim: Claim) -> bool:
        return self.first_correction is not None and claim.number > self.first_correction

    def _is_on_found(self, claim: Claim) -> bool:
        if claim.has_size:
            return bool((claim.seed & self._picked).any())
        if self._least[claim.row, claim.column] <= FOREGROUND:
            return False
        return bool(self._extent(claim).sum() >= LEAST_SHARE * self._picked.size)

    def _bans(self, claim: Claim) -> bool:
        """Whether a negative point bans the whole thing that it lies in, not a place of it.

        It does in the middle of a thing of which the network is sure, unless a positive mark is on
        the same thing.
        """
        if claim.has_size or claim.positive or self._is_late(claim):
            return False
        part = part_at(self._picked, claim.row, claim.column)
        if not part.any() or self._least[claim.row, claim.column] < CERTAIN:
            return False
        if any((each.seed & part).any() for each in self.made if each.positive):
            return False
        depth = depth_of(part)
        return bool(depth[claim.row, claim.column] > MIDDLE * depth.max())

    def _extent(self, claim: Claim) -> Place:
        """The seed of a box or paint; for a point the part round it, by majority of opinions."""
        if claim.has_size:
            return claim.seed
        row, column = claim.row, claim.column
        holding = [
            part_at(each > FOREGROUND, row, column)
            for each in self._stack
            if each[row, column] > FOREGROUND
        ]
        return np.asarray(np.mean(holding, axis=0) >= 0.5)
