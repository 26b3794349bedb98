"""Cuts an anchor into regions, and measures the features by which `verdict` judges each region.

A region ends where an opinion (a mask of the network) crosses `FOREGROUND`, or a logit of
`appearance` crosses one of `LOGIT_LEVELS`. Similar neighbouring regions are joined again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Flow, Rgb
from foremask.vision.network.opinions import CropBox, View
from foremask.vision.stopping import stoppable
from foremask.vision.temporal.flow import LEAST_WEIGHT, warp
from foremask.vision.temporal.places import Labels, Place, labelled
from foremask.vision.temporal.tier import BLOCK_FRAMES, CONTEXT_FRAMES

FOREGROUND = 0.5  # alpha above which an opinion counts a pixel as foreground
SURE = 0.8  # mean of the opinions above which a pixel is solid
LOGIT_LEVELS = (-2.0, 0.0, 2.0)
ALIKE = 0.2  # neighbouring regions are joined if each opinion differs by less than this,
ALIKE_LOGIT = 1.2  # and the logit of `appearance` differs by less than this
LEAST_SOLID_SHARE = 0.0005  # a part with a smaller share of the picture is not solid
MOST_LOGIT = 5.0  # the logits of `appearance` are clipped to ±5

type BorderCells = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows and columns of some cells of a plane, which they index."""
type RegionFeatures = dict[str, NDArray[np.float32]]
"""An array for each feature name, with one value for each region."""


@dataclass(frozen=True)
class Regions:
    labels: Labels
    sizes: NDArray[np.float32]  # pixels

    @classmethod
    def of(cls, opinions: Sequence[Alpha]) -> "Regions":
        """Connected sets of pixels in which no opinion crosses `FOREGROUND`."""
        code = np.zeros(opinions[0].shape, np.uint16)
        for bit, opinion in enumerate(opinions):
            code |= (opinion > FOREGROUND).astype(np.uint16) << bit
        labels = np.zeros(code.shape, np.int32)
        count = 0
        for value in np.flatnonzero(np.bincount(code.ravel())):
            inside = (code == value).astype(np.uint8)
            left, top, width, height = cv2.boundingRect(inside)
            box = np.s_[top : top + height, left : left + width]
            found, parts = cv2.connectedComponents(inside[box], connectivity=4)
            np.add(parts, count - 1, out=labels[box], where=parts > 0)
            count += found - 1
        sizes = np.bincount(labels.ravel(), minlength=count).astype(np.float32)
        return cls(labels, sizes)

    @cached_property
    def _by_region(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The indices of all pixels, sorted by region, and where each region begins among them."""
        numbers = self.labels.ravel().astype(np.min_scalar_type(len(self.sizes)))
        order = np.argsort(numbers, kind="stable")  # a radix sort, if they have 16 bits
        ends = np.cumsum(self.sizes, dtype=np.intp)
        return order, np.concatenate([[0], ends[:-1]])

    @cached_property
    def borders(self) -> list[tuple[BorderCells, BorderCells]]:
        """The cells of one region and the cells of others beside them, for each of 4 directions."""
        rows, columns = np.nonzero(self.labels[:, :-1] != self.labels[:, 1:])
        across = (rows, columns), (rows, columns + 1)
        rows, columns = np.nonzero(self.labels[:-1] != self.labels[1:])
        down = (rows, columns), (rows + 1, columns)
        return [across, down, across[::-1], down[::-1]]

    def joined(self, planes: Sequence[Alpha]) -> "Regions":
        """Join neighbouring regions whose means differ by less than `ALIKE` on each plane.

        A round joins only pairs that are each other's most similar neighbour, so that a gradient
        is not joined from end to end.
        """
        sizes = self.sizes.astype(np.float64)
        sums = np.stack([self.mean(plane) * sizes for plane in planes])
        number = np.arange(len(sizes))
        ends = [(self.labels[here], self.labels[there]) for here, there in self.borders[:2]]
        pairs = _unique_pairs(*(np.concatenate(each) for each in zip(*ends, strict=True)))
        while True:
            first, second = pairs
            means = sums / sizes
            differ = np.abs(means[:, first] - means[:, second]).max(axis=0)
            rank = np.empty(len(differ), np.intp)
            rank[np.argsort(differ, kind="stable")] = np.arange(len(differ))
            best = np.full(len(sizes), len(differ))
            for ends in pairs:
                np.minimum.at(best, ends, rank)
            join = (rank == best[first]) & (rank == best[second]) & (differ < ALIKE)
            if not join.any():
                return Regions(number[self.labels].astype(np.int32), sizes.astype(np.float32))
            kept = np.arange(len(sizes))
            kept[second[join]] = first[join]
            numbers, new = np.unique(kept, return_inverse=True)
            sums = np.stack([np.bincount(new, each, len(numbers)) for each in sums])
            sizes = np.bincount(new, sizes, len(numbers)).astype(np.float64)
            number = new[number]
            pairs = _unique_pairs(new[first], new[second])

    def mean(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        order, starts = self._by_region
        sums = np.add.reduceat(plane.ravel().take(order), starts, dtype=np.float64)
        return (sums / self.sizes).astype(np.float32)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(values[self.labels], np.float32)

    def most(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        order, starts = self._by_region
        return np.asarray(np.maximum.reduceat(plane.ravel().take(order), starts), np.float32)

    def over_border(self, value: Callable[[Any, Any], NDArray[Any]]) -> NDArray[np.float32]:
        """For each region, the mean over its border of ``value(cells inside, cells across)``."""
        total = np.zeros(len(self.sizes))
        length = np.zeros(len(self.sizes))
        for here, there in self.borders:
            mine = self.labels[here]
            total += np.bincount(mine, value(here, there), minlength=len(total))
            length += np.bincount(mine, minlength=len(length))
        return np.asarray(total / length.clip(1), np.float32)


def _unique_pairs(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.intp]:
    """(2, n): each pair of different numbers once, the smaller first."""
    pairs = np.sort(np.stack([first, second]), axis=0).astype(np.int64)
    pairs = pairs[:, pairs[0] != pairs[1]]
    count = int(pairs.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(pairs[0] * count + pairs[1]), count)).astype(np.intp)


@dataclass(frozen=True, slots=True)
class Link:
    """The flow from one anchor to another, and how alike both ends are at each pixel."""

    flow: Flow
    trust: Alpha  # similarity of the luma
    continuity: Alpha  # likelihood that both ends show the same thing
    frames: int  # number of frames from one anchor to the other


@dataclass(frozen=True, slots=True)
class Scene:
    """The inputs of the decision on one anchor; all planes are on one grid.

    ``opinions`` has the network's mask of each view; outside ``box``, the mask of the cropped
    view equals that of the stretched view. ``links`` lead to the anchors before (-1) and after (1).
    """

    rgb: Rgb
    opinions: Mapping[View, Alpha]
    box: CropBox | None
    motion: Alpha
    logit: Alpha  # by `appearance`
    links: Mapping[int, Link]

    def mean(self) -> Alpha:
        if len(self.opinions) == 1:
            return next(iter(self.opinions.values()))
        return np.asarray(np.mean(list(self.opinions.values()), axis=0), np.float32)


@stage("regions")
def measure(scenes: Sequence[Scene]) -> list[tuple[Regions, RegionFeatures]]:
    """The regions of each anchor of a window, and their features; unknown features are NaN."""
    means = [scene.mean() for scene in scenes]
    frames = np.cumsum([0, *(scene.links[1].frames for scene in scenes[:-1])])
    apart_frames = np.abs(frames[:, None] - frames)
    usual = _usual_motion(scenes, means, apart_frames <= BLOCK_FRAMES)
    undecided = _undecided(scenes, means, apart_frames <= CONTEXT_FRAMES)
    return [
        _measured(k, scene, means, usual[k], undecided[k])
        for k, scene in stoppable(enumerate(scenes))
    ]


def _usual_motion(
    scenes: Sequence[Scene], means: Sequence[Alpha], near: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """For each anchor, the median over the anchors near it of the median motion of sure foreground.

    ``near`` has a row for each anchor. Where no near anchor has sure foreground, all anchors count;
    where none has, the motion is 0. A subject that comes close moves differently from before.
    """
    medians = np.full(len(scenes), np.nan, np.float32)
    for index, scene in enumerate(scenes):
        sure = means[index] > SURE
        if sure.any():
            medians[index] = np.median(scene.motion[sure])
    known = ~np.isnan(medians)
    everywhere = np.float32(np.median(medians[known])) if known.any() else np.float32(0)
    usual = np.full(len(scenes), everywhere, np.float32)
    for index, there in enumerate(near & known):
        if there.any():
            usual[index] = np.median(medians[there])
    return usual


def _undecided(
    scenes: Sequence[Scene], means: Sequence[Alpha], near: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """For each anchor, the uncertainty of the opinions on all anchors near it.

    ``near`` has a row for each anchor. The sum of 1 - abs(2 mean - 1) over all pixels of the near
    anchors is divided by the number of pixels that are foreground in any opinion.
    """
    found_px = [(np.max(list(s.opinions.values()), axis=0) > FOREGROUND).sum() for s in scenes]
    undecided_px = [(1 - np.abs(2 * mean - 1)).sum() for mean in means]
    return np.asarray(near @ undecided_px / np.maximum(1, near @ found_px), np.float32)


def _measured(
    index: int, scene: Scene, means: Sequence[Alpha], usual: np.float32, undecided: np.float32
) -> tuple[Regions, RegionFeatures]:
    """``usual`` is the subject's usual motion round this anchor (`_usual_motion`)."""
    opinions = list(scene.opinions.values())
    mean = means[index]
    levels = [np.asarray(scene.logit > level, np.float32) for level in LOGIT_LEVELS]
    cut = Regions.of([*opinions, *levels])
    logit = np.clip(scene.logit, -MOST_LOGIT, MOST_LOGIT)
    regions = cut.joined([*opinions, logit * np.float32(ALIKE / ALIKE_LOGIT)])
    moved = regions.mean(scene.motion)
    most = np.max(opinions, axis=0)
    features = _of_opinions(regions, scene, mean, most)
    features |= {
        "classifier": regions.mean(logit),
        "motion": moved,
        "motion, relative": moved - usual,
        "undecided": np.full_like(moved, undecided),
        "enclosed by any": regions.over_border(lambda _, across: most[across] > FOREGROUND),
        "to solid": _to_solid(regions, mean),
    }
    features |= _of_neighbours(regions, scene, index, means)
    features |= _of_shape(regions, scene, mean)
    relative = scene.motion - usual
    of_any = _of_part(regions, most > FOREGROUND, mean, relative)
    of_mean = of_any
    if len(opinions) > 1:
        of_mean = _of_part(regions, mean > FOREGROUND, mean, relative)
    for name, part in {"any": of_any, "mean": of_mean}.items():
        features |= {f"part of {name}, {feature}": values for feature, values in part.items()}
    return regions, features


def _of_opinions(regions: Regions, scene: Scene, mean: Alpha, most: Alpha) -> RegionFeatures:
    """The mean alpha of each view, and of the mean, greatest and least opinion."""
    if list(scene.opinions) == [View.STRETCHED]:
        alone = regions.mean(mean)
        unknown = np.full_like(alone, np.nan)
        same = dict.fromkeys((View.STRETCHED, "mean", "most", "least"), alone)
        return {View.MIRRORED: unknown, View.CROPPED: unknown, **same}
    least = np.asarray(np.min(list(scene.opinions.values()), axis=0), np.float32)
    features: RegionFeatures = {view: _of_view(regions, scene, view) for view in View}
    planes: dict[str, Alpha] = {"mean": mean, "most": most, "least": least}
    features |= {name: regions.mean(plane) for name, plane in planes.items()}
    return features


def _to_solid(regions: Regions, mean: Alpha) -> NDArray[np.float32]:
    """log1p of each region's distance to a large part above `SURE`; NaN if there is none."""
    labels, areas = labelled(mean > SURE)
    large = areas > LEAST_SOLID_SHARE * mean.size
    large[0] = False
    if not large.any():
        return np.full(len(regions.sizes), np.nan, np.float32)
    away = cv2.distanceTransform((~large[labels]).astype(np.uint8), cv2.DIST_L2, 5)
    return np.log1p(-regions.most(np.asarray(-away, np.float32)))


def _of_view(regions: Regions, scene: Scene, view: View) -> NDArray[np.float32]:
    """A view's mean alpha in each region; NaN if the view shows less than half of the region."""
    if view not in scene.opinions:
        return np.full(len(regions.sizes), np.nan, np.float32)
    opinion = regions.mean(scene.opinions[view])
    if view is View.CROPPED and scene.box is not None:
        shown = np.zeros(scene.motion.shape, np.float32)
        shown[scene.box] = 1
        opinion[regions.mean(shown) < 0.5] = np.nan
    return opinion


def _of_neighbours(
    regions: Regions, scene: Scene, index: int, means: Sequence[Alpha]
) -> RegionFeatures:
    """Mean and smallest opinion of the anchors before and after, and the mean continuity."""
    votes: list[NDArray[np.float32]] = []
    weights: list[NDArray[np.float32]] = []
    for offset, link in sorted(scene.links.items()):
        weight = regions.mean(link.continuity) + np.float32(LEAST_WEIGHT)
        moved = warp(means[index + offset], link.flow) - np.float32(FOREGROUND)
        votes.append(regions.mean(moved * link.continuity) / weight)
        weights.append(weight)
    if not weights:
        unknown = np.full(len(regions.sizes), np.nan, np.float32)
        return dict.fromkeys(("near", "near, least", "near, trust"), unknown)
    each = np.stack(votes)
    weight = np.stack(weights)
    return {
        "near": (each * weight).sum(axis=0) / weight.sum(axis=0),
        "near, least": each.min(axis=0),
        "near, trust": weight.mean(axis=0),
    }


def _of_shape(regions: Regions, scene: Scene, mean: Alpha) -> RegionFeatures:
    """Size, thickness, elongation, and the picture's contrast along the outline."""
    rows, columns = mean.shape
    inner = np.ones(mean.shape, np.uint8)
    for here, _ in regions.borders:
        inner[here] = 0
    depth = np.asarray(cv2.distanceTransform(inner, cv2.DIST_L2, 3), np.float32)
    diagonal = np.float32(np.hypot(rows, columns))
    thickness = np.minimum(regions.most(depth) + 1, diagonal)
    lab = cv2.cvtColor(scene.rgb, cv2.COLOR_RGB2Lab).astype(np.float32)
    contrast = slopes(lab)
    strength = regions.over_border(lambda one, other: np.maximum(contrast[one], contrast[other]))
    return {
        "log size": np.log(regions.sizes / mean.size),
        "log share": np.log(regions.sizes / (mean.sum() + 1) + np.float32(1e-4)),
        "thickness": np.log(thickness / diagonal),
        "elongation": np.log(regions.sizes / thickness**2),
        "edge": np.log((strength + 1) / (contrast.mean() + 1)),
    }


def slopes(lab: NDArray[np.float32]) -> Alpha:
    """The summed absolute Sobel derivatives of a picture's Lab at each pixel."""
    across, down = (np.abs(cv2.Sobel(lab, -1, *axis)) for axis in ((1, 0), (0, 1)))
    return np.asarray(cv2.transform(across + down, np.ones((1, 3))), np.float32)


def _of_part(regions: Regions, picked: Place, mean: Alpha, motion: Alpha) -> RegionFeatures:
    """The mean opinion and motion of the connected part of ``picked`` that a region is in."""
    labels, areas = labelled(picked)
    numbers = labels.ravel().astype(np.intp)
    part = np.zeros(len(regions.sizes), np.intp)
    part[regions.labels.ravel()] = numbers

    def of(plane: Alpha) -> NDArray[np.float32]:
        means = np.bincount(numbers, plane.ravel(), minlength=len(areas)) / areas.clip(1)
        return np.where(part > 0, means[part], np.nan).astype(np.float32)

    return {"mean": of(mean), "motion": of(motion)}
