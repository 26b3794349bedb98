"""What is known of the regions of an anchor: the evidence of `folds`, tried beside the product's.

More views, a second network, shape, surroundings and motion, where `foremask.vision.temporal.regions`
has opinions, neighbours and appearance. What was not asked is not a number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow, Rgb
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.regions import (
    FOREGROUND,
    UNLIKELY,
    Features,
    Link,
    Regions,
    colour_evidence,
    usual_motion,
)
from foremask.vision.temporal.verdict import SWITCH, forward_backward, transition

STRETCHED, MIRRORED, CROPPED = "stretched", "mirrored", "cropped"  # IS-Net's
SECOND, SECOND_CROPPED = "second", "second cropped"  # of another network
VIEWS = (STRETCHED, MIRRORED, CROPPED, SECOND, SECOND_CROPPED)
SHARP = (STRETCHED, MIRRORED, CROPPED)
CROPS = (CROPPED, SECOND_CROPPED)
SURE, SURE_OF_ALL = 0.8, 0.6  # mean of IS-Net, and of both networks, on what is solid
LIKELY = 0.75  # mean of both networks on what moves as the subject does
LEAST_SOLID_SHARE = 0.0005  # of the picture
MOST_LOGIT = 5.0  # of the clip's classifier
OPINION_LOG_ODDS = np.float32(1.6)  # of an anchor whose opinions are sure, for other anchors
MOST_CARRIED = 6.0
NEAR_SHARE = 0.25  # of the picture's height: whose motion is that of what is near
LEAST_NEAR_SHARE = 0.002  # of that square: less tells nothing
STILL_PX = 0.15  # a frame: smaller differences of motion are noise
_ACROSS, _DOWN = (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])
_BESIDE = (_ACROSS, _ACROSS[::-1], _DOWN, _DOWN[::-1])


@dataclass(frozen=True, slots=True)
class Scene:
    """One anchor and what is known of it, on one grid.

    ``opinions`` by view; a crop's, which shows ``box`` (rows, columns), has that of the whole
    picture elsewhere. ``links`` lead to the anchors so many places before or after it.
    """

    rgb: Rgb
    opinions: Mapping[str, Alpha]
    box: tuple[slice, slice] | None
    motion: Alpha
    logit: Alpha  # of the clip's classifier
    links: Mapping[int, Link]

    def stack(self, views: Sequence[str] = VIEWS) -> NDArray[np.float32]:
        return np.stack([self.opinions[view] for view in views if view in self.opinions])

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
    sharp = [scene.stack(SHARP) for scene in scenes]
    window = _Window(
        means=[scene.stack().mean(axis=0) for scene in scenes],
        sharp_means=[stack.mean(axis=0) for stack in sharp],
        colour=colour_evidence([scene.rgb for scene in scenes], sharp),
        usual_motion=usual_motion(
            [scene.motion for scene in scenes], [stack.mean(axis=0) for stack in sharp]
        ),
        carried=_carried(scenes),
    )
    return [_measured(index, scene, window) for index, scene in enumerate(scenes)]


@dataclass(frozen=True, slots=True)
class _Window:
    """Planes of all anchors of a window."""

    means: list[Alpha]
    sharp_means: list[Alpha]  # of the network itself, without the second one
    colour: list[Alpha]
    usual_motion: float
    carried: list[Alpha]


def _measured(index: int, scene: Scene, window: _Window) -> tuple[Regions, Features]:
    regions = Regions.of(list(scene.opinions.values()))
    stack, mean = scene.stack(), window.means[index]
    solid = _solid(window.sharp_means[index], mean)
    features = _of_opinions(regions, scene, window, index)
    features |= _of_neighbours(regions, scene, index, window)
    features |= _of_motion(regions, scene, index, window)
    features |= _of_shape(regions, scene, mean)
    features |= _of_surroundings(regions, solid, mean, stack.max(axis=0))
    picked = {"any": stack.max(axis=0), "mean": mean}
    for name, plane in picked.items():
        features |= _of_part(regions, name, plane > FOREGROUND, index, scene, window)
    return regions, features


def _carried(scenes: Sequence[Scene]) -> list[Alpha]:
    """What the opinions of all other anchors say of each pixel, brought along the flow."""
    own = [OPINION_LOG_ODDS * (scene.stack().mean(axis=0) - FOREGROUND) for scene in scenes]
    links = [scene.links for scene in scenes]
    held = [
        {at: replace(link, trust=link.continuity) for at, link in each.items()} for each in links
    ]
    total = forward_backward(own, held, lambda moved, held, _: transition(moved, held, SWITCH))
    return [
        np.clip(each - mine, -MOST_CARRIED, MOST_CARRIED)
        for each, mine in zip(total, own, strict=True)
    ]


def _solid(sharp_mean: Alpha, mean: Alpha) -> NDArray[np.bool_]:
    """Parts of which both networks are sure, and that are no crumbs."""
    sure = ((sharp_mean > SURE) & (mean > SURE_OF_ALL)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(sure)
    large = stats[:, cv2.CC_STAT_AREA] > LEAST_SOLID_SHARE * sure.size
    large[0] = False
    return np.asarray(large[labels])


def _of_opinions(regions: Regions, scene: Scene, window: _Window, index: int) -> Features:
    features: Features = {}
    stack = scene.stack()
    for view in VIEWS:
        if view not in scene.opinions:
            features[view] = np.full(len(regions.sizes), np.nan, np.float32)
            continue
        features[view] = regions.mean(scene.opinions[view])
        if view in CROPS:
            features[view][regions.mean(scene.shown()) < 0.5] = np.nan
    features["network"] = regions.mean(window.sharp_means[index])
    features["mean"] = regions.mean(window.means[index])
    features["most"] = regions.mean(stack.max(axis=0))
    features["least"] = regions.mean(stack.min(axis=0))
    features["share for"] = regions.mean((stack > FOREGROUND).mean(axis=0, dtype=np.float32))
    features["classifier"] = regions.mean(np.clip(scene.logit, -MOST_LOGIT, MOST_LOGIT))
    features["colour"] = regions.mean(window.colour[index])
    return features


def _of_neighbours(regions: Regions, scene: Scene, index: int, window: _Window) -> Features:
    """What the nearest anchors say of a region, where they show the same thing."""
    all_said: list[NDArray[np.float32]] = []
    network_said: list[NDArray[np.float32]] = []
    weights = []
    for offset, link in sorted(scene.links.items()):
        weight = regions.mean(link.continuity) + np.float32(1e-3)
        for said, planes in ((all_said, window.means), (network_said, window.sharp_means)):
            moved = warp(planes[index + offset], link.flow) - np.float32(FOREGROUND)
            said.append(regions.mean(moved * link.continuity) / weight)
        weights.append(weight)
    carried = regions.mean(window.carried[index])
    if not weights:
        unknown = np.full(len(regions.sizes), np.nan, np.float32)
        names = ("near", "near, least", "near, most", "near, network", "near, trust")
        return dict.fromkeys(names, unknown) | {"carried": carried}
    each, weight = np.stack(all_said), np.stack(weights)
    network = np.stack(network_said)
    return {
        "near": (each * weight).sum(axis=0) / weight.sum(axis=0),
        "near, least": each.min(axis=0),
        "near, most": each.max(axis=0),
        "near, network": (network * weight).sum(axis=0) / weight.sum(axis=0),
        "near, trust": weight.mean(axis=0),
        "carried": carried,
    }


def _of_motion(regions: Regions, scene: Scene, index: int, window: _Window) -> Features:
    """How a region moves: against the camera, and rather as the subject or the background near."""
    moved = regions.mean(scene.motion)
    likeness = []
    reach = round(NEAR_SHARE * scene.motion.shape[0]) | 1
    mean = window.means[index]
    for offset in (-1, 1):
        if offset not in scene.links:
            continue
        link = scene.links[offset]
        flow = link.flow / np.float32(link.frames)
        distances, known = [], np.ones(mean.shape, bool)
        for where in (mean > LIKELY, mean < UNLIKELY):
            usual, weight = _mean_near(flow, where, reach)
            distances.append(np.linalg.norm(flow - usual, axis=2) + np.float32(STILL_PX))
            known &= weight > LEAST_NEAR_SHARE
        ratio = np.log(distances[1] / distances[0])
        likeness.append(regions.mean(np.where(known, ratio, 0).astype(np.float32)))
    unknown = np.full(len(regions.sizes), np.nan, np.float32)
    return {
        "motion": moved,
        "motion, relative": moved - np.float32(window.usual_motion),
        "moves with": np.mean(likeness, axis=0, dtype=np.float32) if likeness else unknown,
    }


def _mean_near(flow: Flow, where: NDArray[np.bool_], reach: int) -> tuple[Flow, Alpha]:
    """The mean of the flow at the places near each pixel, and their share of what is near."""
    there = where.astype(np.float32)
    share = cv2.blur(there, (reach, reach))
    total = cv2.blur(flow * there[..., None], (reach, reach))
    usual = total / (share[..., None] + np.float32(1e-4))
    return np.asarray(usual, np.float32), np.asarray(share, np.float32)


def _of_shape(regions: Regions, scene: Scene, mean: Alpha) -> Features:
    """Size, thickness, length, and how much of the outline is an edge of the picture's content."""
    rows, columns = mean.shape
    edge = _outlines(regions)
    depth = _distance(~edge)
    diagonal = np.float32(np.hypot(rows, columns))
    thickness = np.minimum(_most(regions, depth) + 1, diagonal)
    lab = cv2.cvtColor(scene.rgb, cv2.COLOR_RGB2Lab).astype(np.float32)
    slopes = [np.abs(cv2.Sobel(lab, -1, *way)).sum(axis=2) for way in ((1, 0), (0, 1))]
    contrast = np.asarray(slopes[0] + slopes[1], np.float32)
    strength, length = _along_outline(regions, contrast)
    border = _counts(regions, _frame(mean.shape, (slice(0, rows), slice(0, columns))))
    crop = np.zeros(len(regions.sizes), np.float32)
    if scene.box is not None and CROPPED in scene.opinions:
        crop = _counts(regions, _frame(mean.shape, scene.box, inner=True))
    return {
        "log size": np.log(regions.sizes / mean.size),
        "log share": np.log(regions.sizes / (mean.sum() + 1) + np.float32(1e-4)),
        "thickness": np.log(thickness / diagonal),
        "elongation": np.log(regions.sizes / thickness**2),
        "edge": np.log((strength + 1) / (contrast.mean() + 1)),
        "frame border": border / (length + border + 1),
        "crop border": crop / (length + border + 1),
    }


def _frame(
    shape: tuple[int, ...], box: tuple[slice, slice], *, inner: bool = False
) -> NDArray[np.bool_]:
    """The pixels along the sides of a box; with ``inner`` not where the picture ends too."""
    line = np.zeros(shape, bool)
    down, across = box
    for row in (down.start, down.stop - 1):
        line[row, across] = not (inner and row in (0, shape[0] - 1))
    for column in (across.start, across.stop - 1):
        line[down, column] |= not (inner and column in (0, shape[1] - 1))
    return line


def _of_surroundings(
    regions: Regions, solid: NDArray[np.bool_], mean: Alpha, most: Alpha
) -> Features:
    distance = np.full(len(regions.sizes), np.nan, np.float32)
    if solid.any():
        distance = np.log1p(-_most(regions, -_distance(~solid)))
    return {
        "enclosed": regions.enclosed(mean > FOREGROUND),
        "enclosed by solid": regions.enclosed(solid),
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
    """The connected part of what is picked that a region lies in: its size, opinion and motion."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(picked.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float32)
    part = np.zeros(len(regions.sizes), np.intp)
    part[regions.labels.ravel()] = labels.ravel()

    def of(plane: Alpha) -> NDArray[np.float32]:
        means = np.bincount(np.ravel(labels), plane.ravel(), minlength=count) / areas.clip(1)
        return np.where(part > 0, means[part], np.nan).astype(np.float32)

    largest = max(1.0, float(areas[1:].max(initial=0)))
    return {
        f"part of {name}, share": np.where(part > 0, areas[part] / largest, np.nan),
        f"part of {name}, network": of(window.sharp_means[index]),
        f"part of {name}, motion": of(scene.motion) - np.float32(window.usual_motion),
    }


def _distance(inside: NDArray[np.bool_]) -> Alpha:
    """How many pixels each one is from the nearest that is not inside."""
    return np.asarray(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3), np.float32)


def _most(regions: Regions, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest value of ``plane`` in each region."""
    result = np.full(len(regions.sizes), -np.inf, np.float32)
    np.maximum.at(result, regions.labels.ravel(), plane.ravel())
    return result


def _counts(regions: Regions, where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How many pixels of each region are there."""
    counted = np.bincount(regions.labels[where], minlength=len(regions.sizes))
    return counted.astype(np.float32)


def _outlines(regions: Regions) -> NDArray[np.bool_]:
    """The pixels that have one of another region beside them."""
    edge = np.zeros(regions.labels.shape, bool)
    for here, there in _BESIDE:
        edge[here] |= regions.labels[here] != regions.labels[there]
    return edge


def _along_outline(
    regions: Regions, plane: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of ``plane`` along each region's border with others, and the border's length."""
    total, length = np.zeros(len(regions.sizes)), np.zeros(len(regions.sizes))
    for here, there in _BESIDE:
        differ = regions.labels[here] != regions.labels[there]
        mine = regions.labels[here][differ]
        across = np.maximum(plane[here], plane[there])[differ]
        total += np.bincount(mine, across, minlength=len(total))
        length += np.bincount(mine, minlength=len(length))
    return (total / length.clip(1)).astype(np.float32), length.astype(np.float32)
