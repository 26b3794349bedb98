"""The subject's appearance: a small classifier, trained on the anchors of each window.

Its inputs are features of the network, colours, motion and position. `verdict` uses its logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.network.network_cache import Store, check_planes
from foremask.vision.network.network_protocol import Features
from foremask.vision.resample import in_half, in_single, resized
from foremask.vision.stopping import raise_if_stopped, stoppable
from foremask.vision.temporal.flow import STILL_SHARE

GRID = 128  # the side of the classifier's grid, and of the finest level of features
COMPONENTS = (32, 64, 64)  # principal components kept of each level, finest first
BASIS_ANCHORS = 4
BASIS_PIXELS = 512  # the basis is fitted to about this many pixels of each anchor and level
SURE = 0.9  # samples of the subject have more alpha, samples of the background less than 1 - SURE
SAMPLES = (500, 300)  # at most so many samples of background and subject per anchor
HIDDEN = 32
STEPS = 150
BATCH = 2048
LEARNING_RATE = 5e-3
LABEL_SMOOTHING = 0.04
POSITION_WEIGHT = 0.3
SEED = 20260

type Samples = NDArray[np.float32]
type Maps = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Basis:
    """The principal components of each level of features."""

    means: list[NDArray[np.float32]]
    axes: list[NDArray[np.float32]]

    @classmethod
    def fit(cls, anchors: Sequence[Features]) -> "Basis":
        means = []
        axes = []
        for level, keep in stoppable(zip(zip(*anchors, strict=True), COMPONENTS, strict=False)):
            flat = [each.reshape(-1, each.shape[2]) for each in level]
            few = [each[:: max(1, len(each) // BASIS_PIXELS)] for each in flat]
            rows = np.concatenate(few).astype(np.float32)
            mean = rows.mean(axis=0)
            spread = rows - mean
            power, vectors = np.linalg.eigh(spread.T @ spread / len(rows))
            kept = vectors[:, ::-1][:, :keep] / np.sqrt(power[-1] + 1e-9)
            means.append(mean.astype(np.float32))
            axes.append(kept.astype(np.float32))
        return cls(means, axes)

    @classmethod
    def kept_in(cls, store: Store, window: str) -> "Basis | None":
        levels = store.get(f"{window}/levels")
        if levels is None:
            return None
        check_planes(f"{window}/levels", levels, (), np.int64)
        if levels.item() > len(COMPONENTS):
            return None
        found = [
            [store.get(f"{window}/{name} {level}") for level in range(levels.item())]
            for name in ("mean", "axes")
        ]
        means, axes = ([each for each in planes if each is not None] for planes in found)
        if not len(means) == len(axes) == levels.item():
            return None
        for level, (mean, axis) in enumerate(zip(means, axes, strict=True)):
            check_planes(f"{window}/mean {level}", mean, mean.shape[:1], np.float32)
            shape = len(mean), min(len(mean), COMPONENTS[level])
            check_planes(f"{window}/axes {level}", axis, shape, np.float32)
        return cls(means, axes)

    def keep_in(self, store: Store, window: str) -> None:
        for level, (mean, axes) in enumerate(zip(self.means, self.axes, strict=True)):
            store.setdefault(f"{window}/mean {level}", mean)
            store.setdefault(f"{window}/axes {level}", axes)
        store.setdefault(f"{window}/levels", np.array(len(self.means)))

    def project(self, features: Features) -> list[NDArray[np.float16]]:
        projected = []
        for level, mean, axes in zip(features, self.means, self.axes, strict=False):
            single = level
            if level.dtype == np.float16:
                single = in_single(level)
            rows = single.reshape(-1, level.shape[2]) @ axes
            rows -= mean @ axes
            projected.append(in_half(rows.reshape(*level.shape[:2], -1)))
        return projected


def colours(rgb: Rgb) -> NDArray[np.float16]:
    """A picture of any size as (GRID, GRID, 3) of CIE Lab, centred, scaled to about ±2."""
    square = ArrayImage(rgb).rgb(GRID, GRID)
    lab = np.asarray(cv2.cvtColor(square, cv2.COLOR_RGB2Lab), np.float32)
    return in_half(lab * np.float32(1 / 64) - np.float32(2))


@dataclass(frozen=True, slots=True)
class AnchorFeatures:
    features: list[NDArray[np.float16]]
    colours: NDArray[np.float16]
    motion: Alpha  # (GRID, GRID), as the colours

    def levels(self) -> list[NDArray[np.float16 | np.float32]]:
        """The classifier's inputs as maps (h, w, channels), each at its own resolution."""
        near = [in_single(self.colours), self.motion[..., None], _position()]
        return [*self.features, np.concatenate(near, axis=-1)]


@cache
def _position() -> NDArray[np.float32]:
    x, y = np.meshgrid(np.linspace(-1, 1, GRID), np.linspace(-1, 1, GRID))
    return (np.stack([x, y], axis=-1) * POSITION_WEIGHT).astype(np.float32)


class Appearance:
    """The subject's appearance in a ``window`` of frames.

    ``store`` has the features that `keep` has written before an earlier run ended too soon.
    """

    def __init__(self, window: str, store: Store) -> None:
        self._window = window
        self._store = store
        self._basis = Basis.kept_in(store, window)
        self._features: dict[int, Features] = {}  # by frame, until the basis is fitted
        self._projected: dict[int, list[NDArray[np.float16]]] = {}

    def recall(self, frame: int) -> bool:
        """Take the features of ``frame`` from the store; return whether it has them."""
        if self._basis is None:
            return False
        levels = range(len(self._basis.means))
        found = [self._store.get(f"{self._window}/{frame}/{level}") for level in levels]
        kept = [each for each in found if each is not None]
        for level, planes in enumerate(kept):
            shape = *planes.shape[:2], self._basis.axes[level].shape[1]
            check_planes(f"{self._window}/{frame}/{level}", planes, shape, np.float16)
        self._projected[frame] = kept
        return len(self._projected[frame]) == len(levels)

    def keep(self) -> None:
        """Write the features to the store. The few before the basis is fitted are too large."""
        if self._basis is None:
            return
        self._basis.keep_in(self._store, self._window)
        for frame, levels in self._projected.items():
            for level, planes in enumerate(levels):
                self._store.setdefault(f"{self._window}/{frame}/{level}", planes)

    @stage("classifier")
    def learn(self, frame: int, features: Features) -> None:
        if self._basis is not None:
            self._projected[frame] = self._basis.project(features)
            return
        self._features[frame] = tuple(in_half(each) for each in features)
        if len(self._features) >= BASIS_ANCHORS:
            self._fit()

    def knows(self, frame: int) -> bool:
        return frame in self._features or frame in self._projected

    def repeat(self, frame: int, before: int) -> None:
        """Learn a frame that looks like the known frame ``before``."""
        if self._basis is not None:
            self._projected[frame] = self._projected[before]
            return
        self._features[frame] = self._features[before]
        if len(self._features) >= BASIS_ANCHORS:
            self._fit()

    def _fit(self) -> None:
        basis = Basis.fit(list(self._features.values()))
        known = stoppable(self._features.items())
        self._projected = {frame: basis.project(each) for frame, each in known}
        self._basis = basis  # only now: `keep` writes no half of it
        self._features = {}

    @stage("classifier")
    def logits(
        self, masks: Mapping[int, Levels], smalls: Sequence[Rgb], motions: Sequence[Alpha]
    ) -> list[Alpha]:
        """The `subject_logits` for each mask; masks, pictures and motions may have any size."""
        if self._basis is None:
            self._fit()
        anchors = [
            AnchorFeatures(self._projected[frame], colours(small), resized(motion, GRID, GRID))
            for frame, small, motion in stoppable(zip(masks, smalls, motions, strict=True))
        ]
        return subject_logits(anchors, list(masks.values()))


def subject_logits(anchors: Sequence[AnchorFeatures], masks: Sequence[Levels]) -> list[Alpha]:
    """For each anchor a plane of logits on the classifier's grid, positive on the subject.

    The classifier is trained on the pixels that ``masks`` (of any size) are sure of. All logits are
    0 if these give no sample of the subject, or none of the background.
    """
    rng = np.random.default_rng(SEED)
    small = [resized(mask, GRID, GRID) * np.float32(1 / 255) for mask in masks]
    samples = _training_samples(anchors, small, rng)
    if samples is None:
        return [np.zeros((GRID, GRID), np.float32)] * len(anchors)
    trained = _train(*samples, rng)
    return [_predicted(anchor.levels(), *trained) for anchor in stoppable(anchors)]


def _training_samples(
    anchors: Sequence[AnchorFeatures], masks: Sequence[Alpha], rng: np.random.Generator
) -> tuple[Samples, Samples, Samples] | None:
    """Samples, labels and weights (sum 1 for each class); None if a class has no sample.

    Pixels of the subject that move less than `STILL_SHARE` of its median motion are left out.
    """
    sure = [each.motion[mask > SURE] for each, mask in zip(anchors, masks, strict=True)]
    together = np.concatenate(sure)
    static_level = STILL_SHARE * float(np.median(together)) if together.size else 0.0
    rows = []
    labels = []
    for anchor, mask in stoppable(zip(anchors, masks, strict=True)):
        maps = anchor.levels()
        moving = anchor.motion >= static_level
        for label, known in enumerate((mask < 1 - SURE, (mask > SURE) & moving)):
            there = np.flatnonzero(known)
            if there.size:
                picked = rng.choice(there, min(there.size, SAMPLES[label]), replace=False)
                row = picked // GRID
                column = picked % GRID
                places = [(row * len(m) // GRID, column * m.shape[1] // GRID) for m in maps]
                parts = [in_single(m[place]) for m, place in zip(maps, places, strict=True)]
                rows.append(np.concatenate(parts, axis=1))
                labels.append(np.full(picked.size, label, np.float32))
    if not labels:
        return None
    y = np.concatenate(labels)
    if y.min() == y.max():
        return None
    w = np.where(y > 0, 1 / (y > 0).sum(), 1 / (y < 1).sum()).astype(np.float32)
    return np.concatenate(rows), y, w


def _predicted(
    maps: Sequence[NDArray[np.float16 | np.float32]],
    mean: Samples,
    deviation: Samples,
    weights: Maps,
) -> Alpha:
    """Logits of the trained classifier; its first layer runs at the resolution of each level."""
    into, bias, out, last = weights
    scaled = into / deviation[:, None]
    hidden = np.zeros((GRID, GRID, HIDDEN), np.float32) + (bias - mean @ scaled)
    start = 0
    for each in maps:
        part = in_single(each) @ scaled[start : start + each.shape[2]]
        hidden += part if part.shape[0] == GRID else cv2.resize(part, (GRID, GRID))
        start += each.shape[2]
    return np.asarray((np.maximum(hidden, 0) @ out + last)[..., 0], np.float32)


def _train(
    x: Samples, y: Samples, weight: Samples, rng: np.random.Generator
) -> tuple[Samples, Samples, Maps]:
    """Train by Adam (Kingma and Ba, 2015); return the inputs' mean and deviation, and weights."""
    mean = x.mean(axis=0)
    deviation = x.std(axis=0) + np.float32(0.3)
    x = (x - mean) / deviation
    target = y * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2
    shapes = [(x.shape[1], HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,)]
    spans = [1 / np.sqrt(n) for n in (x.shape[1], x.shape[1], HIDDEN, HIDDEN)]
    weights = [
        rng.uniform(-span, span, shape).astype(np.float32)
        for span, shape in zip(spans, shapes, strict=True)
    ]
    first = [np.zeros_like(each) for each in weights]
    second = [np.zeros_like(each) for each in weights]
    for step in range(1, STEPS + 1):
        raise_if_stopped()
        batch = rng.integers(0, len(x), BATCH)
        gradients = _gradients(
            weights, x.take(batch, axis=0), target.take(batch), weight.take(batch)
        )
        for i, gradient in enumerate(gradients):
            first[i] += np.float32(0.1) * (gradient - first[i])
            second[i] += np.float32(0.001) * (gradient * gradient - second[i])
            unbiased = first[i] / np.float32(1 - 0.9**step)
            size = np.sqrt(second[i] / np.float32(1 - 0.999**step)) + np.float32(1e-8)
            weights[i] -= np.float32(LEARNING_RATE) * unbiased / size
    return mean, deviation, weights


def _gradients(weights: Maps, x: Samples, target: Samples, weight: Samples) -> Maps:
    into, bias, out, last = weights
    before = x @ into + bias
    hidden = np.maximum(before, 0)
    logit = (hidden @ out + last)[:, 0]
    error = ((1 / (1 + np.exp(-logit)) - target) * weight / weight.sum())[:, None]
    inner = (error @ out.T) * (before > 0)
    return [x.T @ inner, inner.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
