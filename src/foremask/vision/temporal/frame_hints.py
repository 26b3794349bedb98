"""The hints on one frame, and the regions that they claim.

A hinted frame is inferred as a whole, mirrored, and in crops round its hints. Source:
docs/adr/0050.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image, Levels
from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import CropBox, View
from foremask.vision.network.session import Features
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.appearance import GRID, HintedPixels, colours
from foremask.vision.temporal.network_cache import KeptAnswers
from foremask.vision.temporal.regions import FOREGROUND, Labels, Regions

CROP_PX = 512  # a window's side, as the network gets it
CROP_SHARES = (0.2, 0.4)  # of the picture's larger side: windows round a point
BOX_MARGIN_SHARE = 0.15  # of the larger side of a box
AGREED = 0.75  # of the opinions that have a thing there
MOST_SHARE = 0.6  # of all that is found: a larger part is the main thing
OTHER_SHARE = 0.25  # of the thing that a point lies on: smaller parts are no other things
SEED_SHARE = 0.008  # of the diagonal: what surely belongs to a point, around it
DISTINCT = 0.5  # squared distance of two means, in variances, from which things are unlike
CERTAIN = 0.95  # of both opinions of the picture, for a negative point to ban a whole thing
MIDDLE = 0.65  # of a thing's largest distance from its border: a point this deep means all of it
SAMPLES = 400  # pixels that one hinted frame teaches, of each side


@dataclass(frozen=True, slots=True)
class Mark:
    """One hint on one frame, in shares of the picture's width and height.

    A point has no size; ``levels`` is a paint, 0 to 255 with 128 for unmarked, in any size.
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
class Correction:
    """A point that mends a mask, on the tracks' grid: how far it reaches depends on the mask."""

    row: int
    column: int
    positive: bool


@dataclass(frozen=True, slots=True)
class FrameHints:
    """The evidence from the hints on one frame.

    ``claims`` is 1 on what is the subject by its hints, -1 on what is not, 0 elsewhere, on the
    tracks' grid; ``training``, which teaches the classifier, is without what is denied and looks
    like the subject. ``opinions`` and ``box`` are those of an anchor, ``crops`` the ones of
    parts of the picture besides. ``chooses``: its positive hints choose among the things that the
    network finds, so the others are not meant. ``corrections`` are the points that choose nothing;
    they claim nothing. ``followed`` is 1 on things that are chosen and -1 on those that are out as
    a whole: both are followed over the clip; None where there are none. ``contradicted`` are pairs
    of hints.
    """

    opinions: dict[View, Levels]
    box: CropBox | None
    crops: list[Levels]
    features: Features
    claims: Alpha
    training: Alpha
    pixels: HintedPixels
    chooses: bool
    corrections: list[Correction]
    followed: Alpha | None = None
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
    """The evidence from all hinted frames of a clip.

    After the first correction no point chooses or bans a thing: each later one corrects.
    """
    corrections = [
        claim.mark.number
        for each in frames.values()
        for claim in each.made
        if each.mends(claim, chooses=each.chooses)
    ]
    first = min(corrections, default=None)
    for each in frames.values():
        each.first_correction = first
    return {
        key: each.evidence(chooses=each.chooses and (first is None or first > each.chosen_by))
        for key, each in frames.items()
    }


def _crops(mark: Mark, grid: tuple[int, int]) -> list[CropBox]:
    """The crops to infer, on the masks' grid: two round a point, one round a box."""
    columns, rows = grid
    width, height = mark.width * columns, mark.height * rows
    if mark.is_box:
        margin = 2 * BOX_MARGIN_SHARE * max(width, height)
        sizes = [(width + margin, height + margin)]
    else:
        sizes = [(share * max(grid), share * max(grid)) for share in CROP_SHARES]
    x, y = mark.x * columns + width / 2, mark.y * rows + height / 2
    return [(_span(y, down, rows), _span(x, across, columns)) for across, down in sizes]


def _span(middle: float, length: float, most: int) -> slice:
    length = min(length, most)
    first = min(max(0.0, middle - length / 2), most - length)
    return slice(int(first), min(most, int(np.ceil(first + length))))


@dataclass(frozen=True, slots=True)
class Claim:
    """A mark with the pixels that surely belong to it, and those that do by the opinions."""

    mark: Mark
    row: int
    column: int
    seed: NDArray[np.bool_]
    extent: NDArray[np.bool_]


class Claims:
    """The regions that marks claim on one frame, which is inferred in every view.

    Where two overlap, each keeps the pixels more like its own. ``grid`` is that of masks, ``small``
    that of regions.
    """

    def __init__(
        self,
        image: Image,
        marks: Sequence[Mark],
        network: KeptAnswers,
        grid: tuple[int, int],
        small: tuple[int, int],
    ) -> None:
        self._image, self._small = image, small
        self._opinions = network.ask(image, grid)
        masks = list(self._opinions.masks.values())
        mean = np.mean([as_alpha(each) for each in masks], axis=0)
        self._cropped: list[Levels] = []
        for box in (box for mark in marks if mark.levels is None for box in _crops(mark, grid)):
            self._cropped.append(as_levels(mean.astype(np.float32)))
            self._cropped[-1][box] = network.infer_part(image, grid[::-1], box, CROP_PX)
        self._stack = [
            resized(each, *small) * np.float32(1 / 255) for each in masks + self._cropped
        ]
        base = self._stack[: len(masks)]
        self._picked = np.mean(base, axis=0, dtype=np.float32) > FOREGROUND
        self._least = np.min(base, axis=0)
        self._diagonal = float(np.hypot(*small))
        self._contradicted: list[tuple[int, int]] = []
        self.first_correction: int | None = None  # on any frame
        self.made: list[Claim] = []
        for mark in marks:
            self._add(mark)

    @cached_property
    def _regions(self) -> Labels:
        return Regions.of(self._stack).labels

    def _add(self, mark: Mark) -> None:
        seed = self._seed(mark)
        if not seed.any():
            return
        extent = seed if mark.has_size else self._extent(mark, seed)
        for other in self.made:
            shared = (other.seed & seed).sum() > 0.5 * min(seed.sum(), other.seed.sum())
            if other.mark.positive != mark.positive and shared and mark.levels is None:
                self._contradicted.append((other.mark.number, mark.number))
        column, row = self._centre(mark)
        self.made.append(Claim(mark, row, column, seed, extent | seed))

    @cached_property
    def chosen_by(self) -> int:
        """The first positive mark."""
        return min((each.mark.number for each in self.made if each.mark.positive), default=0)

    @cached_property
    def chooses(self) -> bool:
        """Whether positive marks choose among several things: each is on one that is found.

        A point is, where every opinion of the whole picture has the thing. A part smaller than a
        quarter of the marked thing is no other thing: it may belong to it.
        """
        positive = [each for each in self.made if each.mark.positive]
        if not positive or not all(self._is_on_found(each) for each in positive):
            return False
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            self._picked.astype(np.uint8), connectivity=4
        )
        areas = stats[:, cv2.CC_STAT_AREA]
        marked = np.unique(np.concatenate([labels[each.seed & self._picked] for each in positive]))
        others = np.setdiff1d(np.arange(1, len(areas)), marked)
        return bool(others.size and areas[others].max() > OTHER_SHARE * areas[marked].sum())

    def evidence(self, *, chooses: bool) -> FrameHints:
        """What the marks say; ``chooses``: positive ones choose among the things."""
        claims = training = self._plane(chooses=chooses)
        followed = self._banned()
        if chooses:
            claims = followed = self._others_denied(claims)
            if self._differ(claims):
                training = claims
        elif followed is not None:
            others = np.where((followed == 0) & self._picked, np.float32(1), followed)
            if not self._differ(others):
                training = np.where(followed < 0, np.float32(0), claims)
        return FrameHints(
            opinions=self._opinions.masks,
            box=self._opinions.box,
            crops=self._cropped,
            features=self._opinions.features,
            claims=claims,
            training=training,
            pixels=_pixels(self._with_seeds(training), self._opinions.features, self._image),
            chooses=chooses,
            corrections=[
                Correction(each.row, each.column, each.mark.positive)
                for each in self.made
                if self.mends(each, chooses=chooses)
            ],
            followed=followed,
            contradicted=self._contradicted,
        )

    def mends(self, claim: Claim, *, chooses: bool) -> bool:
        """Whether a mark corrects what is found, rather than choosing a thing of it."""
        if claim.mark.has_size:
            return False
        if self._is_late(claim):
            return True
        if claim.mark.positive:
            return not (chooses and self._is_on_found(claim))
        if self._bans(claim):
            return False
        return self._is_main(claim.seed) or not (claim.seed & self._picked).any()

    def _is_late(self, claim: Claim) -> bool:
        return self.first_correction is not None and claim.mark.number > self.first_correction

    def _plane(self, *, chooses: bool) -> Alpha:
        """1 where the subject is claimed, -1 where it is denied; the latest seed has its pixels.

        Without what a correction is about.
        """
        nearest = np.full(self._picked.shape, np.inf, np.float32)
        claims = np.zeros(self._picked.shape, np.float32)
        made = [each for each in self.made if not self.mends(each, chooses=chooses)]
        for each in made:
            likeness = nearest if len(made) == 1 else self._distance(each)
            extent = each.extent | self._whole(each) if self._bans(each) else each.extent
            nearer = extent & (likeness <= nearest)
            claims[nearer] = 1 if each.mark.positive else -1
            nearest[nearer] = likeness[nearer]
        for each in made:
            if not each.mark.is_box:
                claims[each.seed] = 1 if each.mark.positive else -1
        return claims

    def _with_seeds(self, claims: Alpha) -> Alpha:
        """``claims``, and the pixels that surely belong to a point.

        Those of a denied thing that looks like the rest are left out.
        """
        result = claims.copy()
        for each in self.made:
            left_out = self._bans(each) and not claims[each.seed].any()
            if not each.mark.has_size and not left_out:
                result[each.seed] = 1 if each.mark.positive else -1
        return result

    def _is_on_found(self, claim: Claim) -> bool:
        if claim.mark.has_size:
            return bool((claim.seed & self._picked).any())
        return bool((self._least[claim.seed] > FOREGROUND).all())

    def _banned(self) -> Alpha | None:
        """-1 on things that negative points ban as a whole; None without any."""
        places = [self._whole(each) for each in self.made if self._bans(each)]
        if not places:
            return None
        return np.where(np.any(places, axis=0), np.float32(-1), np.float32(0))

    def _bans(self, claim: Claim) -> bool:
        """Whether a negative point bans the whole thing that it lies in, not a place of it.

        It does in the middle of what the network is sure of, without a positive point on the same
        thing.
        """
        if claim.mark.has_size or claim.mark.positive or self._is_late(claim):
            return False
        part = part_at(self._picked, claim.row, claim.column)
        if not part.any() or self._least[claim.row, claim.column] < CERTAIN:
            return False
        if any((each.seed & part).any() for each in self.made if each.mark.positive):
            return False
        depth = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        return bool(depth[claim.row, claim.column] > MIDDLE * depth.max())

    def _holding(self, row: int, column: int) -> list[NDArray[np.bool_]]:
        """The part that holds a point, by each opinion that has one there."""
        return [
            part_at(each > FOREGROUND, row, column)
            for each in self._stack
            if each[row, column] > FOREGROUND
        ]

    def _whole(self, claim: Claim) -> NDArray[np.bool_]:
        """The part that holds a point, as far as the opinions that have it agree."""
        return np.asarray(np.mean(self._holding(claim.row, claim.column), axis=0) >= 0.5)

    def _differ(self, claims: Alpha) -> bool:
        """Whether what is claimed looks unlike what is denied."""
        ours, theirs = self._described[claims > 0], self._described[claims < 0]
        if not len(ours) or not len(theirs):
            return True
        spread = (ours.var(axis=0) + theirs.var(axis=0)) / 2 + np.float32(0.05)
        apart = np.square(ours.mean(axis=0) - theirs.mean(axis=0)) / spread
        return bool(apart.max() > DISTINCT)

    def _seed(self, mark: Mark) -> NDArray[np.bool_]:
        columns, rows = self._small
        if mark.levels is not None:
            painted = cv2.resize(mark.levels, self._small, interpolation=cv2.INTER_AREA)
            return np.asarray(painted > 191 if mark.positive else painted < 64)
        seed = np.zeros((rows, columns), np.uint8)
        if mark.is_box:
            left, top = round(mark.x * columns), round(mark.y * rows)
            right = max(left + 1, round((mark.x + mark.width) * columns))
            bottom = max(top + 1, round((mark.y + mark.height) * rows))
            seed[top:bottom, left:right] = 1
            votes = np.mean([each > FOREGROUND for each in self._stack], axis=0) >= 1 / 3
            narrowed = (seed > 0) & votes
            return np.asarray(narrowed if mark.positive and narrowed.any() else seed > 0)
        centre = self._centre(mark)
        cv2.circle(seed, centre, max(1, round(SEED_SHARE * self._diagonal)), 1, -1)
        return np.asarray((seed > 0) & (self._regions == self._regions[centre[::-1]]))

    def _centre(self, mark: Mark) -> tuple[int, int]:
        columns, rows = self._small
        return min(columns - 1, int(mark.x * columns)), min(rows - 1, int(mark.y * rows))

    def _extent(self, mark: Mark, seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What belongs to a point: parts on which the opinions that have a thing there agree."""
        column, row = self._centre(mark)
        agreeing = self._holding(row, column)
        if not agreeing:
            return seed
        region = np.asarray(self._regions == self._regions[row, column])
        agreed = np.mean(agreeing, axis=0)
        if mark.positive:
            return np.asarray((agreed >= 0.5) | region)
        denying = [each <= FOREGROUND for each in self._stack if each[row, column] <= FOREGROUND]
        if not denying:
            return region
        return np.asarray((agreed > AGREED) & (np.mean(denying, axis=0) > 0.5) | region)

    def _is_main(self, seed: NDArray[np.bool_]) -> bool:
        """Whether a seed lies on the largest part of what is found."""
        _, labels = cv2.connectedComponents(self._picked.astype(np.uint8), connectivity=4)
        here = labels[seed & self._picked]
        if not here.size:
            return False
        part = labels == int(np.bincount(np.ravel(here)).argmax())
        return bool(part.sum() > MOST_SHARE * self._picked.sum())

    def _others_denied(self, claims: Alpha) -> Alpha:
        """Deny the other things that the network finds: parts without a claim."""
        _, labels = cv2.connectedComponents(self._picked.astype(np.uint8), connectivity=4)
        claimed = np.unique(labels[claims > 0])
        others = self._picked & ~np.isin(labels, claimed) & (claims == 0)
        return np.where(others, np.float32(-1), claims)

    def _distance(self, claim: Claim) -> Alpha:
        """The distance of each pixel from the seed in colours, features and place."""
        means = self._described[claim.seed].mean(axis=0)
        unlike = np.square(self._described - means).mean(axis=2)
        if claim.mark.has_size:
            return np.asarray(unlike, np.float32)
        away = cv2.distanceTransform((~claim.seed).astype(np.uint8), cv2.DIST_L2, 3)
        return np.asarray(unlike + 20 * away / self._diagonal, np.float32)

    @cached_property
    def _described(self) -> NDArray[np.float32]:
        """Colours and finest features of each pixel, scaled to a variance of one."""
        rgb = ArrayImage(self._image.rgb(*self._small)).rgb(*self._small)
        lab = cv2.cvtColor(cv2.GaussianBlur(rgb, (0, 0), 1.0), cv2.COLOR_RGB2Lab).astype(np.float32)
        described = [(lab - lab.mean(axis=(0, 1))) / (lab.std(axis=(0, 1)) + 4)]
        for level in self._opinions.features[:1]:
            flat = level.reshape(-1, level.shape[2])
            spread = flat - flat.mean(axis=0)
            power, vectors = np.linalg.eigh(spread.T @ spread / len(flat))
            kept = vectors[:, ::-1][:, :6] / np.sqrt(power[::-1][:6] + 1e-6)
            projected = (spread @ kept).reshape(*level.shape[:2], -1).astype(np.float32)
            described.append(np.asarray(cv2.resize(projected, self._small), np.float32))
        return np.concatenate(described, axis=2).astype(np.float32)


def part_at(places: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
    """The connected part that this pixel is in; empty where it is in none."""
    _, labels = cv2.connectedComponents(places.astype(np.uint8), connectivity=4)
    return np.asarray(places & (labels == labels[row, column]))


def _pixels(claims: Alpha, features: Features, image: Image) -> HintedPixels:
    """Some of the claimed pixels, on the classifier's grid, with what describes them."""
    small = cv2.resize(claims, (GRID, GRID), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    chosen, labels = [], []
    for label, there in enumerate((small < -0.6, small > 0.6)):
        found = np.flatnonzero(there)
        picked = rng.choice(found, min(found.size, SAMPLES), replace=False) if found.size else found
        chosen.append(picked)
        labels.append(np.full(picked.size, label, np.float32))
    picture = colours(image.rgb(GRID, GRID))
    return HintedPixels.of(np.concatenate(chosen), np.concatenate(labels), features, picture)
