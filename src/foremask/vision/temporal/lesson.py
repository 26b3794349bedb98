"""The hints on one frame: each claims the region that it lies in.

A hinted frame is inferred as a whole, mirrored, and in crops round its hints. Source:
docs/adr/0050.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image, Levels, Rgb
from foremask.vision.image import ArrayImage, Box
from foremask.vision.network.opinions import Opinions, View
from foremask.vision.network.session import Features
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.appearance import GRID, HintedPixels, colours
from foremask.vision.temporal.network_cache import KeptAnswers
from foremask.vision.temporal.regions import FOREGROUND, Labels, Regions

CLOSER_PX = 512  # a window's side, as the network gets it
CLOSER_SHARES = (0.2, 0.4)  # of the picture's larger side: windows round a point
BOX_MARGIN_SHARE = 0.15  # of the larger side of a box
AGREED = 0.75  # of the opinions that have a thing there
MOST_SHARE = 0.6  # of all that is found: a larger part is the main thing
OTHER_SHARE = 0.25  # of what a point lies on: another thing, to be chosen from, is as large
SEED_SHARE = 0.008  # of the diagonal: what surely belongs to a point, around it
DISTINCT = 0.5  # squared distance of two means, in variances, from which things are unlike
CERTAIN = 0.95  # of both opinions of the picture, where a point out means a whole thing
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
    """A point that mends a mask, on the tracks' grid; ``extent`` is what the opinions have there.

    How far it reaches depends on the mask, which is decided later: see `correction`.
    """

    number: int  # of its hint
    row: int
    column: int
    positive: bool
    extent: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lesson:
    """The evidence from one hinted frame.

    ``claims`` is 1 on what is the subject by its hints, -1 on what is not, 0 elsewhere, on the
    tracks' grid; ``taught`` is without what is denied and looks like the subject. ``opinions`` are
    those of an anchor, ``closer`` the ones of parts of the picture besides. ``confirms``: its
    positive hints choose among the things that the network finds, so the others are not meant.
    ``corrections`` are the points that choose nothing: no claim is theirs. ``chosen_by`` is the
    first hint that chooses, and ``otherwise`` the lesson if it may not. ``followed`` is 1 on things
    that are chosen and -1 on those that are out as a whole: both are followed over the clip; None
    where there are none.
    """

    opinions: dict[View, Levels]
    closer: list[Levels]
    features: Features
    claims: Alpha
    taught: Alpha
    pixels: HintedPixels
    confirms: bool
    corrections: list[Correction]
    followed: Alpha | None = None
    contradicted: list[tuple[int, int]] = field(default_factory=list)
    chosen_by: int = 0
    otherwise: "Lesson | None" = None


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


def lesson_of(
    image: Image,
    marks: Sequence[Mark],
    network: KeptAnswers,
    grid: tuple[int, int],
    small: tuple[int, int],
) -> Lesson:
    """Infer one hinted frame in every view and settle the claims of its marks, in their order."""
    opinions = network.ask(image, grid)
    features = opinions.features
    base = [resized(each, *small) * np.float32(1 / 255) for each in opinions.masks.values()]
    mean = np.mean(base, axis=0, dtype=np.float32)
    full_mean = np.mean([as_alpha(each) for each in opinions.masks.values()], axis=0)
    closer = [
        _closer_view(network, image, window, full_mean)
        for mark in marks
        if mark.levels is None
        for window in _windows(mark, image)
    ]
    stack = [*base, *(resized(each, *small) * np.float32(1 / 255) for each in closer)]
    rgb = ArrayImage(image.rgb(*small)).rgb(*small)
    settled = _Claims(rgb, stack, mean, np.min(base, axis=0), features)
    for mark in marks:
        settled.add(mark)

    if not settled.confirms():
        return _made(settled, opinions, closer, image, chooses=False)
    chosen_by = min(mark.number for mark in marks if mark.positive)
    return replace(
        _made(settled, opinions, closer, image, chooses=True),
        chosen_by=chosen_by,
        otherwise=_made(settled, opinions, closer, image, chooses=False),
    )


def _made(
    settled: "_Claims", opinions: Opinions, closer: list[Levels], image: Image, *, chooses: bool
) -> Lesson:
    claims = taught = settled.plane(chooses=chooses)
    followed = settled.banned()
    if chooses:
        claims = followed = _others_denied(claims, settled.picked)
        if settled.differ(claims):
            taught = claims
    elif followed is not None and not settled.differ(_others_kept(followed, settled.picked)):
        taught = np.where(followed < 0, np.float32(0), claims)
    return Lesson(
        opinions=opinions.masks,
        closer=closer,
        features=opinions.features,
        claims=claims,
        taught=taught,
        pixels=_pixels(settled.with_seeds(taught), opinions.features, image),
        confirms=chooses,
        corrections=settled.corrections(chooses=chooses),
        followed=followed,
        contradicted=settled.contradicted,
    )


def without_late_choices(lessons: Mapping[Hashable, Lesson]) -> dict[Hashable, Lesson]:
    """After the first correction no point chooses a thing.

    Later points correct, and nothing is denied.
    """
    numbers = [each.number for lesson in lessons.values() for each in lesson.corrections]
    first = min(numbers, default=0)
    return {
        key: lesson.otherwise
        if lesson.otherwise is not None and numbers and first < lesson.chosen_by
        else lesson
        for key, lesson in lessons.items()
    }


def _windows(mark: Mark, image: Image) -> list[Box]:
    """Where to look closer: round a point at two scales, round a box with a margin."""
    longer = max(image.width, image.height)
    if mark.is_box:
        margin = BOX_MARGIN_SHARE * max(mark.width * image.width, mark.height * image.height)
        across, down = margin / image.width, margin / image.height
        return [
            Box(
                max(0.0, mark.x - across),
                max(0.0, mark.y - down),
                min(1.0, mark.x + mark.width + across),
                min(1.0, mark.y + mark.height + down),
            )
        ]
    boxes = []
    for share in CLOSER_SHARES:
        width, height = (min(1.0, share * longer / side) for side in (image.width, image.height))
        left = min(max(0.0, mark.x - width / 2), 1 - width)
        top = min(max(0.0, mark.y - height / 2), 1 - height)
        boxes.append(Box(left, top, left + width, top + height))
    return boxes


def _closer_view(network: KeptAnswers, image: Image, window: Box, mean: Alpha) -> Levels:
    """The network on a part of the picture; ``mean`` elsewhere, on its grid."""
    rows, columns = mean.shape
    top, bottom = int(window.top * rows), min(rows, int(np.ceil(window.bottom * rows)))
    left, right = int(window.left * columns), min(columns, int(np.ceil(window.right * columns)))
    down, across = slice(top, bottom), slice(left, right)
    result = as_levels(mean.astype(np.float32))
    result[down, across] = network.infer_part(image, (rows, columns), (down, across), CLOSER_PX)
    return result


class _Claims:
    """The regions that marks claim on one frame.

    Where two overlap, each keeps the pixels more like its own.
    """

    def __init__(
        self, rgb: Rgb, stack: list[Alpha], mean: Alpha, least: Alpha, features: Features
    ) -> None:
        self.contradicted: list[tuple[int, int]] = []
        self._stack, self._mean, self._least = stack, mean, least
        self.picked = np.asarray(mean > FOREGROUND)
        self._rgb, self._features = rgb, features
        rows, columns = mean.shape
        self._diagonal = float(np.hypot(rows, columns))
        self._made: list[tuple[Mark, NDArray[np.bool_], NDArray[np.bool_]]] = []

    @cached_property
    def _described(self) -> NDArray[np.float32]:
        return _described(self._rgb, self._features)

    def add(self, mark: Mark) -> None:
        """Claim what ``mark`` lies in."""
        seed = self._seed(mark)
        if not seed.any():
            return
        extent = seed if mark.levels is not None else self._extent(mark, seed)
        for other, other_seed, _ in self._made:
            shared = (other_seed & seed).sum() > 0.5 * min(seed.sum(), other_seed.sum())
            if other.positive != mark.positive and shared and mark.levels is None:
                self.contradicted.append((other.number, mark.number))
        self._made.append((mark, seed, extent | seed))

    def plane(self, *, chooses: bool) -> Alpha:
        """1 where the subject is claimed, -1 where it is denied; the latest seed has its pixels.

        Without what a correction is about.
        """
        nearest = np.full(self._mean.shape, np.inf, np.float32)
        claims = np.zeros(self._mean.shape, np.float32)
        made = [each for each in self._made if not self._mends(each[0], each[1], chooses=chooses)]
        for mark, seed, extent in made:
            likeness = nearest if len(made) == 1 else self._distance(seed, mark)
            extent = extent | self._whole(mark) if self._bans(mark) else extent
            closer = extent & (likeness <= nearest)
            claims[closer] = 1 if mark.positive else -1
            nearest[closer] = likeness[closer]
        for mark, seed, _ in made:
            if not mark.is_box:
                claims[seed] = 1 if mark.positive else -1
        return claims

    def with_seeds(self, claims: Alpha) -> Alpha:
        """``claims``, and the pixels that surely belong to a point.

        Those of a denied thing that looks like the rest are left out.
        """
        result = claims.copy()
        for mark, seed, _ in self._made:
            if not mark.has_size and not (self._bans(mark) and not claims[seed].any()):
                result[seed] = 1 if mark.positive else -1
        return result

    def corrections(self, *, chooses: bool) -> list[Correction]:
        """The points that choose nothing, in their order."""
        return [
            Correction(mark.number, *self._centre(mark)[::-1], mark.positive, extent)
            for mark, seed, extent in self._made
            if self._mends(mark, seed, chooses=chooses)
        ]

    def confirms(self) -> bool:
        """Whether positive marks choose among several things: each is on one that is found.

        A point is, where every opinion of the whole picture has the thing. A part that is smaller
        than a quarter of what is marked is no other thing: it may belong to it.
        """
        positive = [(mark, seed) for mark, seed, _ in self._made if mark.positive]
        if not positive or not all(self._is_on_found(*each) for each in positive):
            return False
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            self.picked.astype(np.uint8), connectivity=4
        )
        areas = stats[:, cv2.CC_STAT_AREA]
        marked = np.unique(np.concatenate([labels[seed & self.picked] for _, seed in positive]))
        others = np.setdiff1d(np.arange(1, len(areas)), marked)
        return bool(others.size and areas[others].max() > OTHER_SHARE * areas[marked].sum())

    def _is_on_found(self, mark: Mark, seed: NDArray[np.bool_]) -> bool:
        if mark.has_size:
            return bool((seed & self.picked).any())
        return bool((self._least[seed] > FOREGROUND).all())

    def _mends(self, mark: Mark, seed: NDArray[np.bool_], *, chooses: bool) -> bool:
        """Whether a mark corrects what is found, rather than choosing a thing of it."""
        if mark.has_size:
            return False
        if mark.positive:
            return not (chooses and self._is_on_found(mark, seed))
        if self._bans(mark):
            return False
        return self.is_main(seed) or not (seed & self.picked).any()

    def banned(self) -> Alpha | None:
        """-1 on things that negative points ban as a whole; None without any."""
        places = [self._whole(mark) for mark, _, _ in self._made if self._bans(mark)]
        if not places:
            return None
        return np.where(np.any(places, axis=0), np.float32(-1), np.float32(0))

    def _bans(self, mark: Mark) -> bool:
        """Whether a negative point bans the whole thing that it lies in, not a place of it.

        It does in the middle of what the network is sure of, without a positive point on the same
        thing.
        """
        if mark.has_size or mark.positive:
            return False
        column, row = self._centre(mark)
        part = _part(self.picked, column, row)
        if part is None or self._least[row, column] < CERTAIN:
            return False
        others = [seed for other, seed, _ in self._made if other.positive]
        if any((seed & part).any() for seed in others):
            return False
        depth = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        return bool(depth[row, column] > MIDDLE * depth.max())

    def _whole(self, mark: Mark) -> NDArray[np.bool_]:
        """The part that holds a point, as far as the opinions that have it agree."""
        column, row = self._centre(mark)
        holding = [_part(each > FOREGROUND, column, row) for each in self._stack]
        agreeing = [each for each in holding if each is not None]
        return np.asarray(np.mean(agreeing, axis=0) >= 0.5)

    def differ(self, claims: Alpha) -> bool:
        """Whether what is claimed looks unlike what is denied."""
        ours, theirs = self._described[claims > 0], self._described[claims < 0]
        if not len(ours) or not len(theirs):
            return True
        spread = (ours.var(axis=0) + theirs.var(axis=0)) / 2 + np.float32(0.05)
        apart = np.square(ours.mean(axis=0) - theirs.mean(axis=0)) / spread
        return bool(apart.max() > DISTINCT)

    def _seed(self, mark: Mark) -> NDArray[np.bool_]:
        rows, columns = self._mean.shape
        if mark.levels is not None:
            painted = cv2.resize(mark.levels, (columns, rows), interpolation=cv2.INTER_AREA)
            return np.asarray(painted > 191 if mark.positive else painted < 64)
        seed = np.zeros((rows, columns), np.uint8)
        if mark.is_box:
            left, top = round(mark.x * columns), round(mark.y * rows)
            right = max(left + 1, round((mark.x + mark.width) * columns))
            bottom = max(top + 1, round((mark.y + mark.height) * rows))
            seed[top:bottom, left:right] = 1
            if not mark.positive:
                return seed > 0
            votes = np.mean([each > FOREGROUND for each in self._stack], axis=0) >= 1 / 3
            return np.asarray((seed > 0) & votes if (votes & (seed > 0)).any() else seed > 0)
        centre = self._centre(mark)
        cv2.circle(seed, centre, max(1, round(SEED_SHARE * self._diagonal)), 1, -1)
        labels = self._regions()
        return np.asarray((seed > 0) & (labels == labels[centre[1], centre[0]]))

    def _centre(self, mark: Mark) -> tuple[int, int]:
        rows, columns = self._mean.shape
        return min(columns - 1, int(mark.x * columns)), min(rows - 1, int(mark.y * rows))

    def _regions(self) -> Labels:
        return Regions.of(self._stack).labels

    def _extent(self, mark: Mark, seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What belongs to the mark: parts on which the opinions that have a thing there agree."""
        if mark.is_box:
            return seed
        column, row = self._centre(mark)
        holding = [_part(each > FOREGROUND, column, row) for each in self._stack]
        agreeing = [each for each in holding if each is not None]
        if not agreeing:
            return seed
        labels = self._regions()
        region = np.asarray(labels == labels[row, column])
        if mark.positive:
            return np.asarray((np.mean(agreeing, axis=0) >= 0.5) | region)
        extent = region
        if len(agreeing) < len(self._stack):
            denied = [
                each <= FOREGROUND
                for each, part in zip(self._stack, holding, strict=True)
                if part is None
            ]
            agreed = np.mean(agreeing, axis=0) > AGREED
            extent = np.asarray((agreed & (np.mean(denied, axis=0) > 0.5)) | region)
        return extent

    def is_main(self, seed: NDArray[np.bool_]) -> bool:
        """Whether a seed lies on the largest part of what is found."""
        _, labels = cv2.connectedComponents(self.picked.astype(np.uint8), connectivity=4)
        here = labels[seed & self.picked]
        if not here.size:
            return False
        part = labels == int(np.bincount(np.ravel(here)).argmax())
        return bool(part.sum() > MOST_SHARE * self.picked.sum())

    def _distance(self, seed: NDArray[np.bool_], mark: Mark) -> Alpha:
        """The distance of each pixel from the seed in colours, features and place."""
        means = self._described[seed].mean(axis=0)
        unlike = np.square(self._described - means).mean(axis=2)
        if mark.is_box or mark.levels is not None:
            return np.asarray(unlike, np.float32)
        away = cv2.distanceTransform((~seed).astype(np.uint8), cv2.DIST_L2, 3) / self._diagonal
        return np.asarray(unlike + 20 * away, np.float32)


def _part(places: NDArray[np.bool_], column: int, row: int) -> NDArray[np.bool_] | None:
    """The connected part that holds this pixel; None where it is in none."""
    if not places[row, column]:
        return None
    _, labels = cv2.connectedComponents(places.astype(np.uint8), connectivity=4)
    return np.asarray(labels == labels[row, column])


def _described(rgb: Rgb, features: Features) -> NDArray[np.float32]:
    """Colours and finest features of each pixel, scaled to a variance of one."""
    rows, columns = rgb.shape[:2]
    blurred = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    lab = cv2.cvtColor(blurred, cv2.COLOR_RGB2Lab).astype(np.float32)
    described = [np.asarray((lab - lab.mean(axis=(0, 1))) / (lab.std(axis=(0, 1)) + 4), np.float32)]
    for level in features[:1]:
        flat = level.reshape(-1, level.shape[2])
        spread = flat - flat.mean(axis=0)
        power, vectors = np.linalg.eigh(spread.T @ spread / len(flat))
        kept = vectors[:, ::-1][:, :6] / np.sqrt(power[::-1][:6] + 1e-6)
        projected = (spread @ kept).reshape(*level.shape[:2], -1).astype(np.float32)
        described.append(np.asarray(cv2.resize(projected, (columns, rows)), np.float32))
    return np.concatenate(described, axis=2).astype(np.float32)


def _others_denied(claims: Alpha, picked: NDArray[np.bool_]) -> Alpha:
    """Deny the other things that the network finds: parts without a claim."""
    _, labels = cv2.connectedComponents(picked.astype(np.uint8), connectivity=4)
    claimed = np.unique(labels[claims > 0])
    others = picked & ~np.isin(labels, claimed) & (claims == 0)
    return np.where(others, np.float32(-1), claims)


def _others_kept(banned: Alpha, picked: NDArray[np.bool_]) -> Alpha:
    """What is denied, and 1 on everything else that the network finds."""
    return np.where((banned == 0) & picked, np.float32(1), banned)


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
