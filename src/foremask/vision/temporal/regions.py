"""Cut an anchor into regions that are right or wrong together, and measure each region.

A region ends where one of the `opinions` changes sides, and where the clip's classifier does or
becomes sure: it may be right where all opinions are wrong. Neighbours that hardly differ are joined
again, so that a body on which opinions are undecided is decided as a whole. What is measured
here is what `verdict` decides by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow, Rgb
from foremask.vision.network.opinions import CropBox, View
from foremask.vision.temporal.flow import warp

FOREGROUND = 0.5  # alpha from which an opinion counts a pixel as foreground
SURE, UNLIKELY = 0.8, 0.1  # all opinions above: foreground colours; all below: background colours
LOGIT_LEVELS = (-2.0, 0.0, 2.0)  # of the clip's classifier: a region ends where it crosses one
ALIKE = 0.2  # neighbours on which every opinion differs by less are one region,
ALIKE_LOGIT = 1.2  # if the classifier's logit does too
LEAST_SOLID_SHARE = 0.0005  # of the picture
COLOUR_BINS = 16  # of each Lab channel
COLOUR_SMOOTHING_BINS, COLOUR_REACH_BINS = 1.0, 3
MOST_COLOUR_EVIDENCE = 4.0  # a log ratio
MOST_LOGIT = 5.0  # of the clip's classifier
OPINION_LOG_ODDS = np.float32(1.6)  # of an anchor whose opinions are sure, for other anchors
MOST_PROPAGATED = 6.0
SWITCH = 0.005  # chance that what is followed with full trust changes sides between two anchors
MOST_SURER_FRAMES = 4  # between anchors farther apart the classifier adds nothing,
LEAST_CONTINUITY = 0.1  # nor where a place is not followed at all
_ACROSS, _DOWN = (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])
_BORDERS = (_ACROSS, _DOWN)
_NEIGHBOURS = (_ACROSS, _ACROSS[::-1], _DOWN, _DOWN[::-1])

type Labels = NDArray[np.int32]
"""(H, W): the number of the region that each pixel is in, from 0."""
type Features = dict[str, NDArray[np.float32]]
"""For each feature a value a region."""


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one anchor."""

    labels: Labels
    sizes: NDArray[np.float32]  # pixels

    @classmethod
    def of(cls, opinions: Sequence[Alpha]) -> "Regions":
        """Connected places on which every opinion stays on its side of `FOREGROUND`."""
        code = np.zeros(opinions[0].shape, np.int32)
        for bit, opinion in enumerate(opinions):
            code |= (opinion > FOREGROUND).astype(np.int32) << bit
        labels = np.zeros(code.shape, np.int32)
        count = 0
        for value in np.flatnonzero(np.bincount(code.ravel())):
            found, parts = cv2.connectedComponents((code == value).astype(np.uint8), connectivity=4)
            inside = parts > 0
            labels[inside] = parts[inside] + (count - 1)
            count += found - 1
        sizes = np.bincount(labels.ravel(), minlength=count).astype(np.float32)
        return cls(labels, sizes)

    def joined(self, planes: Sequence[Alpha]) -> "Regions":
        """Join neighbours whose means differ by less than `ALIKE` on each plane.

        Two are joined when each is the other's most alike, and the means of what they became decide
        what follows: a slope is not followed from one end to the other.
        """
        sizes = self.sizes.astype(np.float64)
        sums = np.stack([self.mean(plane) * sizes for plane in planes])
        number = np.arange(len(sizes))
        pairs = self._borders()
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

    def _borders(self) -> NDArray[np.intp]:
        """(2, n): the pairs of regions that border on each other, each once."""
        ends = []
        for here, there in _BORDERS:
            differ = self.labels[here] != self.labels[there]
            ends.append((self.labels[here][differ], self.labels[there][differ]))
        first, second = (np.concatenate(each) for each in zip(*ends, strict=True))
        return _unique_pairs(first, second)

    def mean(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of ``plane`` over each region."""
        sums = np.bincount(self.labels.ravel(), plane.ravel(), minlength=len(self.sizes))
        return (sums / self.sizes).astype(np.float32)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A plane with each region's value on its pixels."""
        return np.asarray(values[self.labels], np.float32)

    def most(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The largest value of ``plane`` in each region."""
        result = np.full(len(self.sizes), -np.inf, np.float32)
        np.maximum.at(result, self.labels.ravel(), plane.ravel())
        return result

    def outlines(self) -> NDArray[np.bool_]:
        """The pixels next to another region's."""
        edge = np.zeros(self.labels.shape, bool)
        for here, there in _NEIGHBOURS:
            edge[here] |= self.labels[here] != self.labels[there]
        return edge

    def along_outline(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of ``plane`` along each region's border with others."""
        total, length = np.zeros(len(self.sizes)), np.zeros(len(self.sizes))
        for here, there in _NEIGHBOURS:
            differ = self.labels[here] != self.labels[there]
            mine = self.labels[here][differ]
            across = np.maximum(plane[here], plane[there])[differ]
            total += np.bincount(mine, across, minlength=len(total))
            length += np.bincount(mine, minlength=len(length))
        return np.asarray(total / length.clip(1), np.float32)

    def enclosed(self, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Of each region's border with other regions, the share that borders on ``inside``."""
        border = np.zeros(len(self.sizes))
        shared = np.zeros(len(self.sizes))
        for here, there in _NEIGHBOURS:
            mine, theirs = self.labels[here], self.labels[there]
            differ = mine != theirs
            border += np.bincount(mine[differ], minlength=len(border))
            shared += np.bincount(mine[differ & inside[there]], minlength=len(border))
        return (shared / np.maximum(border, 1)).astype(np.float32)


def _unique_pairs(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.intp]:
    """(2, n): each pair of different numbers once, the smaller first."""
    pairs = np.sort(np.stack([first, second]), axis=0).astype(np.int64)
    pairs = pairs[:, pairs[0] != pairs[1]]
    count = int(pairs.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(pairs[0] * count + pairs[1]), count)).astype(np.intp)


@dataclass(frozen=True, slots=True)
class Link:
    """The flow from one anchor to another, its trust, and `flow.continuity` along it."""

    flow: Flow
    trust: Alpha
    continuity: Alpha
    frames: int  # from the one to the other


@dataclass(frozen=True, slots=True)
class Scene:
    """One anchor and what is known of it, on one grid.

    ``opinions`` by view; a crop's, which shows ``box``, has that of the whole picture elsewhere.
    ``links`` lead to the anchors so many places before (negative) or after it.
    """

    rgb: Rgb
    opinions: Mapping[View, Alpha]
    box: CropBox | None
    motion: Alpha
    logit: Alpha  # of the clip's classifier
    links: Mapping[int, Link]

    def stack(self) -> NDArray[np.float32]:
        """All opinions as one array, in their order."""
        return np.stack(list(self.opinions.values()))

    def shown(self) -> Alpha:
        """1 on what crops show, else 0."""
        result = np.zeros(self.motion.shape, np.float32)
        if self.box is not None:
            result[self.box] = 1
        return result


def measure(scenes: Sequence[Scene]) -> list[tuple[Regions, Features]]:
    """The regions of each anchor of a window and their features, all that a `verdict` may use.

    What is not known of a region is not a number. Motion and colours are relative to the window's
    own, lengths to the picture's: nothing depends on its size or the speed of the camera.
    """
    means = [scene.stack().mean(axis=0) for scene in scenes]
    window = _Window(
        means=means,
        colour=colour_evidence(scenes),
        usual_motion=usual_motion([scene.motion for scene in scenes], means),
        propagated=_propagated(scenes, means),
    )
    return [_measured(index, scene, window) for index, scene in enumerate(scenes)]


@dataclass(frozen=True, slots=True)
class _Window:
    """Planes of all anchors of a window."""

    means: list[Alpha]  # of the opinions
    colour: list[Alpha]
    usual_motion: float
    propagated: list[Alpha]


def _measured(index: int, scene: Scene, window: _Window) -> tuple[Regions, Features]:
    levels = [np.asarray(scene.logit > level, np.float32) for level in LOGIT_LEVELS]
    cut = Regions.of([*scene.opinions.values(), *levels])
    logit = np.clip(scene.logit, -MOST_LOGIT, MOST_LOGIT) * np.float32(ALIKE / ALIKE_LOGIT)
    regions = cut.joined([*scene.opinions.values(), logit])
    stack, mean = scene.stack(), window.means[index]
    features = _of_opinions(regions, scene, window, index)
    features |= _of_neighbours(regions, scene, index, window)
    features |= _of_motion(regions, scene, window)
    features |= _of_shape(regions, scene, mean)
    features |= _of_surroundings(regions, _solid(mean), stack.max(axis=0))
    picked = {"any": stack.max(axis=0), "mean": mean}
    for name, plane in picked.items():
        features |= _of_part(regions, name, plane > FOREGROUND, index, scene, window)
    return regions, features


def _propagated(scenes: Sequence[Scene], means: Sequence[Alpha]) -> list[Alpha]:
    """What the opinions of all other anchors say of each pixel, brought along the flow."""
    own = [OPINION_LOG_ODDS * (mean - np.float32(FOREGROUND)) for mean in means]
    links = [scene.links for scene in scenes]
    total = forward_backward(
        own, links, lambda moved, link, *_: transition(moved, link.continuity, SWITCH)
    )
    return [
        np.clip(each - mine, -MOST_PROPAGATED, MOST_PROPAGATED)
        for each, mine in zip(total, own, strict=True)
    ]


def _solid(mean: Alpha) -> NDArray[np.bool_]:
    """Parts on which the opinions are sure, without those that are too small."""
    sure = (mean > SURE).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(sure)
    large = stats[:, cv2.CC_STAT_AREA] > LEAST_SOLID_SHARE * sure.size
    large[0] = False
    return np.asarray(large[labels])


def _of_opinions(regions: Regions, scene: Scene, window: _Window, index: int) -> Features:
    features: Features = {}
    stack = scene.stack()
    for view in View:
        if view not in scene.opinions:
            features[view] = np.full(len(regions.sizes), np.nan, np.float32)
            continue
        features[view] = regions.mean(scene.opinions[view])
        if view is View.CROPPED:
            features[view][regions.mean(scene.shown()) < 0.5] = np.nan
    features["mean"] = regions.mean(window.means[index])
    features["most"] = regions.mean(stack.max(axis=0))
    features["least"] = regions.mean(stack.min(axis=0))
    features["classifier"] = regions.mean(np.clip(scene.logit, -MOST_LOGIT, MOST_LOGIT))
    features["colour"] = regions.mean(window.colour[index])
    return features


def _of_neighbours(regions: Regions, scene: Scene, index: int, window: _Window) -> Features:
    """What the nearest anchors say of a region, where they show the same thing."""
    votes: list[NDArray[np.float32]] = []
    weights: list[NDArray[np.float32]] = []
    for offset, link in sorted(scene.links.items()):
        weight = regions.mean(link.continuity) + np.float32(1e-3)
        moved = warp(window.means[index + offset], link.flow) - np.float32(FOREGROUND)
        votes.append(regions.mean(moved * link.continuity) / weight)
        weights.append(weight)
    propagated = regions.mean(window.propagated[index])
    if not weights:
        unknown = np.full(len(regions.sizes), np.nan, np.float32)
        names = ("near", "near, least", "near, trust")
        return dict.fromkeys(names, unknown) | {"carried": propagated}
    each, weight = np.stack(votes), np.stack(weights)
    return {
        "near": (each * weight).sum(axis=0) / weight.sum(axis=0),
        "near, least": each.min(axis=0),
        "near, trust": weight.mean(axis=0),
        "carried": propagated,
    }


def _of_motion(regions: Regions, scene: Scene, window: _Window) -> Features:
    """How a region moves, against the camera."""
    moved = regions.mean(scene.motion)
    return {"motion": moved, "motion, relative": moved - np.float32(window.usual_motion)}


def _of_shape(regions: Regions, scene: Scene, mean: Alpha) -> Features:
    """Size, thickness, length, and how much of the outline is an edge of the picture's content."""
    rows, columns = mean.shape
    edge = regions.outlines()
    depth = np.asarray(cv2.distanceTransform(1 - edge.astype(np.uint8), cv2.DIST_L2, 3), np.float32)
    diagonal = np.float32(np.hypot(rows, columns))
    thickness = np.minimum(regions.most(depth) + 1, diagonal)
    lab = cv2.cvtColor(scene.rgb, cv2.COLOR_RGB2Lab).astype(np.float32)
    slopes = [np.abs(cv2.Sobel(lab, -1, *axis)).sum(axis=2) for axis in ((1, 0), (0, 1))]
    contrast = np.asarray(slopes[0] + slopes[1], np.float32)
    strength = regions.along_outline(contrast)
    return {
        "log size": np.log(regions.sizes / mean.size),
        "log share": np.log(regions.sizes / (mean.sum() + 1) + np.float32(1e-4)),
        "thickness": np.log(thickness / diagonal),
        "elongation": np.log(regions.sizes / thickness**2),
        "edge": np.log((strength + 1) / (contrast.mean() + 1)),
    }


def _of_surroundings(regions: Regions, solid: NDArray[np.bool_], most: Alpha) -> Features:
    distance = np.full(len(regions.sizes), np.nan, np.float32)
    if solid.any():
        away = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 5)
        distance = np.log1p(-regions.most(np.asarray(-away, np.float32)))
    return {
        "enclosed by any": regions.enclosed(most > FOREGROUND),
        "to solid": distance,
    }


def _of_part(
    regions: Regions,
    name: str,
    picked: NDArray[np.bool_],
    index: int,
    scene: Scene,
    window: _Window,
) -> Features:
    """The connected part of what is picked that a region lies in: its opinion and motion."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(picked.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float32)
    part = np.zeros(len(regions.sizes), np.intp)
    part[regions.labels.ravel()] = np.ravel(labels)

    def of(plane: Alpha) -> NDArray[np.float32]:
        means = np.bincount(np.ravel(labels), plane.ravel(), minlength=count) / areas.clip(1)
        return np.where(part > 0, means[part], np.nan).astype(np.float32)

    return {
        f"part of {name}, mean": of(window.means[index]),
        f"part of {name}, motion": of(scene.motion) - np.float32(window.usual_motion),
    }


def colour_evidence(scenes: Sequence[Scene]) -> list[Alpha]:
    """The log ratio of the window's own colours, learned where all opinions are sure."""
    bins = [_colour_bins(scene.rgb) for scene in scenes]
    sure = [scene.stack().min(axis=0) > SURE for scene in scenes]
    if not any(each.any() for each in sure):
        sure = [scene.stack().mean(axis=0) > FOREGROUND for scene in scenes]
    unlikely = [scene.stack().max(axis=0) < UNLIKELY for scene in scenes]
    foreground, background = (_histogram(bins, where) for where in (sure, unlikely))
    ratio = np.log((foreground + 1e-5) / (background + 1e-5))
    table = np.clip(ratio, -MOST_COLOUR_EVIDENCE, MOST_COLOUR_EVIDENCE).astype(np.float32)
    return [table[each] for each in bins]


def _colour_bins(rgb: Rgb) -> NDArray[np.uint16]:
    light, a, b = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) // (256 // COLOUR_BINS))
    return (light.astype(np.uint16) * COLOUR_BINS + a) * COLOUR_BINS + b


def _histogram(
    bins: Sequence[NDArray[np.uint16]], where: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """The colour histogram at ``where``, blurred over bins; sums to 1, or to 0 if empty."""
    counts = np.zeros(COLOUR_BINS**3)
    for each, there in zip(bins, where, strict=True):
        counts += np.bincount(each[there], minlength=COLOUR_BINS**3)
    cube = counts.reshape(COLOUR_BINS, COLOUR_BINS, COLOUR_BINS)
    weights = cv2.getGaussianKernel(2 * COLOUR_REACH_BINS + 1, COLOUR_SMOOTHING_BINS)[:, 0]
    for axis in range(3):
        along = np.moveaxis(cube, axis, -1)
        padded = np.pad(
            along, ((0, 0), (0, 0), (COLOUR_REACH_BINS, COLOUR_REACH_BINS)), "symmetric"
        )
        # Sums of slices and no matrix product, whose last digit depends on BLAS's threads:
        # docs/adr/0041
        shifted = [weight * padded[..., at : at + COLOUR_BINS] for at, weight in enumerate(weights)]
        cube = np.moveaxis(sum(shifted), -1, axis)
    return np.asarray(cube.ravel() / (cube.sum() + 1e-9))


def forward_backward(
    evidence: Sequence[Alpha],
    links: Sequence[Mapping[int, Link]],
    arrive: Callable[[Alpha, Link, int, int], Alpha],
) -> list[Alpha]:
    """Each anchor's log odds, plus those that the flow brings from the anchors before and after it.

    ``arrive(moved, link, k, n)`` says what of the log odds of its neighbour n, moved along the flow
    to anchor k, counts there.
    """
    total = list(evidence)
    for order, offset in ((range(len(evidence)), -1), (range(len(evidence) - 1, -1, -1), 1)):
        message: Alpha | None = None
        for index in order:
            link = links[index].get(offset)
            if message is None or link is None:
                message = evidence[index]
                continue
            arrived = arrive(warp(message, link.flow), link, index, index + offset)
            total[index] = total[index] + arrived
            message = evidence[index] + arrived
    return total


def subject_continuity(link: Link, here: Alpha, there: Alpha) -> Alpha:
    """The link's continuity, surer where the classifier's logits show the subject at both ends.

    A shining or turning body changes its colours; the classifier still says that it is the same.
    """
    held = link.continuity
    if link.frames > MOST_SURER_FRAMES:
        return held
    both = _chance(here) * _chance(warp(there, link.flow))
    return np.where(held > LEAST_CONTINUITY, held ** (1 - both), held).astype(np.float32)


def _chance(logit: Alpha) -> Alpha:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -MOST_LOGIT, MOST_LOGIT))), np.float32)


def transition(log_odds: Alpha, trust: Alpha, least_switch: float) -> Alpha:
    """Log odds after a chance to change sides: 0.5 without trust, ``least_switch`` with full."""
    switch = np.float32(0.5) - np.float32(0.5 - least_switch) * trust
    odds = np.exp(np.clip(log_odds, -12, 12))
    return np.log(((1 - switch) * odds + switch) / (switch * odds + 1 - switch))


def usual_motion(motions: Sequence[Alpha], means: Sequence[Alpha]) -> float:
    """The median motion of what the opinions pick, over the window."""
    medians = [
        float(np.median(motion[mean > SURE - 0.1]))
        for motion, mean in zip(motions, means, strict=True)
        if (mean > SURE - 0.1).any()
    ]
    return float(np.median(medians)) if medians else 0.0
