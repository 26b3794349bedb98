"""Cut an anchor into regions that are right or wrong together, and measure each region.

An *opinion* is one mask of the network for one anchor: of the picture stretched, mirrored, or
cropped. A region ends where an opinion changes sides. Where all opinions agree and the clip's
classifier is sure of the opposite is a region of its own too, so that a thing which every opinion
misses is not a part of the background around it (docs/adr/0050). What is measured here is what
`verdict` decides by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow, Rgb
from foremask.vision.temporal.flow import warp

FOREGROUND = 0.5  # alpha from which an opinion counts a pixel as foreground
SURE, UNLIKELY = 0.8, 0.1  # all opinions above: foreground colours; all below: background colours
COLOUR_BINS = 16  # of each Lab channel
COLOUR_SMOOTHING_BINS, COLOUR_REACH_BINS = 1.0, 3
MOST_COLOUR_EVIDENCE = 4.0  # a log ratio
MOST_LOGIT = 4.0  # of the clip's classifier
SUBJECT_LOGIT, BACKGROUND_LOGIT = 1.25, -2.5  # beyond these the classifier is sure: docs/adr/0050
SMOOTHING_PX = 5  # of the places where it is: it works on a coarse grid
MOST_MOTION = 2.0  # relative to the subject's, where it is multiplied

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

    def mean(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of ``plane`` over each region."""
        sums = np.bincount(self.labels.ravel(), plane.ravel(), minlength=len(self.sizes))
        return (sums / self.sizes).astype(np.float32)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A plane with each region's value on its pixels."""
        return np.asarray(values[self.labels], np.float32)

    def enclosed(self, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Of each region's border with other regions, the share that borders on ``inside``."""
        border = np.zeros(len(self.sizes))
        shared = np.zeros(len(self.sizes))
        across = (np.s_[:, :-1], np.s_[:, 1:])
        down = (np.s_[:-1], np.s_[1:])
        for here, there in (across, across[::-1], down, down[::-1]):
            mine, theirs = self.labels[here], self.labels[there]
            differ = mine != theirs
            border += np.bincount(mine[differ], minlength=len(border))
            shared += np.bincount(mine[differ & inside[there]], minlength=len(border))
        return (shared / np.maximum(border, 1)).astype(np.float32)


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

    ``opinions`` by name; outside a crop, the crop's opinion is the mask. ``links`` lead to the
    anchors so many places before (negative) or after it.
    """

    rgb: Rgb
    opinions: Mapping[str, Alpha]
    motion: Alpha
    logit: Alpha  # of the clip's classifier
    links: Mapping[int, Link]

    def stack(self) -> NDArray[np.float32]:
        """All opinions as one array, in their order."""
        return np.stack(list(self.opinions.values()))


def measure(scenes: Sequence[Scene]) -> list[tuple[Regions, Features]]:
    """The regions of each anchor of a window and their features, all that a `verdict` may use.

    Probabilities are given from 0 to 1, motion and colours relative to the window's own: nothing
    depends on the size of the picture or the speed of the camera.
    """
    stacks = [scene.stack() for scene in scenes]
    means = [stack.mean(axis=0) for stack in stacks]
    colour = colour_evidence([scene.rgb for scene in scenes], stacks)
    usual = usual_motion([scene.motion for scene in scenes], means)
    flow_consistency = _agreement(stacks, means)
    measured = []
    for index, scene in enumerate(scenes):
        regions = Regions.of([*scene.opinions.values(), _contradicted(scene, stacks[index])])
        features = _of_opinions(regions, scene, stacks[index])
        features |= _of_neighbours(regions, scene, index, means)
        features["colour"] = regions.mean(colour[index])
        relative = regions.mean(scene.motion) - usual
        features["motion"] = relative
        logit = regions.mean(np.clip(scene.logit, -MOST_LOGIT, MOST_LOGIT))
        features["classifier"] = logit
        features["classifier sign"] = regions.mean(np.tanh(scene.logit))
        area = means[index].sum()
        features["log share"] = np.log(regions.sizes / (area + 1) + np.float32(1e-4))
        features["enclosed"] = regions.enclosed(means[index] > FOREGROUND)
        features["enclosed by sure"] = regions.enclosed(stacks[index].min(axis=0) > FOREGROUND)
        features["disagreement"] = np.full(len(regions.sizes), 1 - flow_consistency, np.float32)
        features |= _with_classifier(features)
        measured.append((regions, features))
    return measured


def _contradicted(scene: Scene, stack: NDArray[np.float32]) -> Alpha:
    """1 where all opinions agree and the clip's classifier is sure of the opposite, else 0."""
    nowhere, everywhere = stack.max(axis=0) <= FOREGROUND, stack.min(axis=0) > FOREGROUND
    sure = nowhere & (scene.logit > SUBJECT_LOGIT) | everywhere & (scene.logit < BACKGROUND_LOGIT)
    smooth = cv2.medianBlur(sure.astype(np.uint8), SMOOTHING_PX)
    return np.asarray(smooth, np.float32)


def _with_classifier(features: Features) -> Features:
    """The features with their products: what the classifier counts depends on the others."""
    others = {
        "mean": features["mean"] - np.float32(0.5),
        "next": features["next"],
        "colour": features["colour"],
        "motion": np.clip(features["motion"], -MOST_MOTION, MOST_MOTION),
        "log share": features["log share"],
        "enclosed": features["enclosed"] - np.float32(0.5),
    }
    side = features["classifier sign"]
    return {f"classifier and {name}": side * other for name, other in others.items()}


def _of_opinions(regions: Regions, scene: Scene, stack: NDArray[np.float32]) -> Features:
    features = {name: regions.mean(opinion) for name, opinion in scene.opinions.items()}
    each = np.stack(list(features.values()))
    features["mean"] = each.mean(axis=0)
    features["share for"] = regions.mean((stack > FOREGROUND).mean(axis=0, dtype=np.float32))
    features["most"] = regions.mean(stack.max(axis=0))
    features["least"] = regions.mean(stack.min(axis=0))
    return features


def _of_neighbours(regions: Regions, scene: Scene, index: int, means: Sequence[Alpha]) -> Features:
    """A region's evidence from nearby anchors, warped here: -0.5 to 0.5, 0 without trusted flow."""
    evidence = {}
    for offset in (-2, -1, 1, 2):
        link = scene.links.get(offset)
        if link is None:
            evidence[offset] = np.zeros(len(regions.sizes), np.float32)
        else:
            moved = warp(means[index + offset], link.flow) - np.float32(0.5)
            evidence[offset] = regions.mean(moved * link.trust)
    return {
        "next": evidence[-1] + evidence[1],
        "next but one": evidence[-2] + evidence[2],
        "next, least": np.minimum(evidence[-1], evidence[1]),
        "next, most": np.maximum(evidence[-1], evidence[1]),
    }


def colour_evidence(images: Sequence[Rgb], stacks: Sequence[NDArray[np.float32]]) -> list[Alpha]:
    """The log ratio of the window's own colours, learned where all opinions are sure."""
    lab = [cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab) // (256 // COLOUR_BINS) for rgb in images]
    weights = np.array([COLOUR_BINS**2, COLOUR_BINS, 1])
    bins = [(each.astype(np.int32) * weights).sum(axis=2).astype(np.int32) for each in lab]
    sure = [stack.min(axis=0) > SURE for stack in stacks]
    if not any(each.any() for each in sure):
        sure = [stack.mean(axis=0) > FOREGROUND for stack in stacks]
    unlikely = [stack.max(axis=0) < UNLIKELY for stack in stacks]
    foreground, background = (_histogram(bins, where) for where in (sure, unlikely))
    ratio = np.log((foreground + 1e-5) / (background + 1e-5))
    table = np.clip(ratio, -MOST_COLOUR_EVIDENCE, MOST_COLOUR_EVIDENCE).astype(np.float32)
    return [table[each] for each in bins]


def _histogram(
    bins: Sequence[NDArray[np.int32]], where: Sequence[NDArray[np.bool_]]
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


def usual_motion(motions: Sequence[Alpha], means: Sequence[Alpha]) -> float:
    """The median motion of what the opinions pick, over the window."""
    medians = [
        float(np.median(motion[mean > SURE - 0.1]))
        for motion, mean in zip(motions, means, strict=True)
        if (mean > SURE - 0.1).any()
    ]
    return float(np.median(medians)) if medians else 0.0


def _agreement(stacks: Sequence[NDArray[np.float32]], means: Sequence[Alpha]) -> float:
    """Mean intersection over union of each opinion and the mean of all, over the window."""
    overlaps = []
    for stack, mean in zip(stacks, means, strict=True):
        together = mean > FOREGROUND
        overlaps += [intersection_over_union(one, together) for one in stack > FOREGROUND]
    return float(np.mean(overlaps))


def intersection_over_union(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """1 where both are equal, also where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
