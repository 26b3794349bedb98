"""What the trees of `foremask.vision.temporal.verdict` learn from: regions of labelled clips.

Each clip is shown whole and coming close (`coming_close`): the clips themselves have few subjects
that fill a third of the picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import Clip
from benchmarks.quality.answers import Named, named
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.opinions import View
from foremask.vision.temporal.regions import FOREGROUND, Scene, measure
from foremask.vision.temporal.tier import BLOCK_FRAMES, Tier

ALWAYS: Final = -1.0  # below every uncertainty
LEAST_REGION_PX: Final = 12  # smaller ones teach nothing
LEAST_SUBJECT_PX: Final = 50  # a smaller one, or none, counts as this large
CLOSE_FRAMES: Final = 4 * BLOCK_FRAMES + 1  # length of a lesson in which the subject comes close
CLOSE_SHARES: Final = (1.0, 1.6)  # of the picture's side that the subject has at the end
MOST_ENLARGED: Final = 6.0
BLURRED_PX: Final = 2.5  # standard deviation at the end of every second lesson


@dataclass(frozen=True, slots=True)
class Take:
    """A clip as it is shown: whole, or coming close; pictures are named for `answers`."""

    images: list[Named]
    truths: list[Alpha]
    comes_close: bool = False


def takes_of(clip: Clip, number: int) -> list[Take]:
    """The takes of a clip; its number chooses how close and how blurred the subject ends."""
    whole = Take(named(clip.frames()), clip.truths())
    close = coming_close(whole, CLOSE_SHARES[number % 3 > 0], blurred=number % 2 == 1)
    return [whole, close]


def coming_close(take: Take, share: float, *, blurred: bool) -> Take:
    """The middle of a take, enlarged more and more round its subject, which ends at ``share``.

    ``share`` is of the picture's width or height, whichever the subject fills more; above 1, a
    part of the subject leaves the picture.
    """
    start = max(0, (len(take.images) - CLOSE_FRAMES) // 2)
    count = (min(CLOSE_FRAMES, len(take.images)) - 1) // BLOCK_FRAMES * BLOCK_FRAMES + 1
    truths = take.truths[start : start + count]
    middles, sides = _subject(truths)
    enlarged = np.clip(share / np.median(sides[count // 2 :]), 1.3, MOST_ENLARGED)
    images, masks = [], []
    for at, truth in enumerate(truths):
        passed = at / max(1, count - 1)
        scale = float(enlarged**passed)
        whole = np.array(truth.shape[::-1]) / 2
        followed = min(1.0, 1.5 * (scale - 1) / (enlarged - 1))
        middle = followed * middles[at] + (1 - followed) * whole
        pixels = _enlarged(
            take.images[start + at].pixels, middle / (2 * whole), scale, cv2.INTER_CUBIC
        )
        if blurred:
            deviation_px = 0.3 + BLURRED_PX * passed
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), deviation_px), np.uint8)
        images.append(Named(pixels, f"close{at:05d}"))
        masks.append(np.clip(_enlarged(truth, middle / (2 * whole), scale, cv2.INTER_LINEAR), 0, 1))
    return Take(images, masks, comes_close=True)


def _subject(truths: Sequence[Alpha]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each frame, the middle of the subject's box (smoothed), and its share of a side."""
    rows, columns = truths[0].shape
    left, top, width, height = 0, 0, columns, rows
    middles, sides = [], []
    for truth in truths:
        picked = (truth > FOREGROUND).astype(np.uint8)
        if picked.sum() > LEAST_SUBJECT_PX:
            left, top, width, height = cv2.boundingRect(picked)
        middles.append((left + width / 2, top + height / 2))
        sides.append(max(width / columns, height / rows))
    padded = np.pad(np.array(middles), ((4, 4), (0, 0)), mode="edge")
    smoothed = [np.convolve(padded[:, axis], np.full(9, 1 / 9), "valid") for axis in (0, 1)]
    return np.stack(smoothed, axis=1), np.array(sides)


def _enlarged[Plane: NDArray[np.uint8] | NDArray[np.float32]](
    plane: Plane, middle: NDArray[np.float64], scale: float, how: int
) -> Plane:
    """The part of ``plane`` round ``middle`` (shares of its sides), enlarged to its own size."""
    rows, columns = plane.shape[:2]
    size = np.array([columns, rows])
    corner = np.clip(middle * size - size / scale / 2, 0, size - size / scale)
    moved = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    border = cv2.BORDER_REPLICATE
    return cv2.warpAffine(plane, moved, (columns, rows), None, how, border)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Regions of one take: their features, whether each is foreground, and their weights.

    ``comes_close`` is that of the take.
    """

    names: list[str]
    features: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    weights: NDArray[np.float32]
    comes_close: bool


class _Seen(Exception):
    """The scenes of a take's first window; nothing else of the take is needed."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes


def _tell(scenes: Sequence[Scene]) -> list[Alpha]:
    raise _Seen(scenes)


def scenes_of(take: Take, network: Network, tier: Tier) -> Sequence[Scene]:
    """The tier's anchors in a take's first window, with all views."""
    every = replace(tier, mirrored_above=ALWAYS, probed_above=ALWAYS, cropped_above=ALWAYS)
    try:
        next(mask_images(take.images, network, every, _tell))
    except _Seen as seen:
        return seen.scenes
    return []


def lessons_of(take: Take, network: Network, tier: Tier) -> Iterator[Lesson]:
    """The regions of `scenes_of`, with all views, and with one.

    Trees fitted on both do not depend on when the tier asks for more views.
    """
    scenes = scenes_of(take, network, tier)
    yield lesson(scenes, take)
    yield lesson([_seen_alone(each) for each in scenes], take)


def _seen_alone(scene: Scene) -> Scene:
    return replace(scene, opinions={View.STRETCHED: scene.opinions[View.STRETCHED]}, box=None)


def lesson(scenes: Sequence[Scene], take: Take) -> Lesson:
    """Weigh a region by the root of its share of the subject, less where its pixels disagree.

    With the share itself, thin regions would have no weight. Each frame of a take weighs the same.
    """
    features, foreground, weights = [], [], []
    frame = 0
    for scene, (regions, found) in zip(scenes, measure(scenes), strict=True):
        rows, columns = scene.motion.shape
        truth = on_grid((columns, rows), take.truths[frame]) > FOREGROUND
        share = regions.mean(truth.astype(np.float32))
        kept = regions.sizes >= LEAST_REGION_PX
        subject = np.float32(max(LEAST_SUBJECT_PX, int(truth.sum())))
        counted = np.sqrt(np.minimum(1, regions.sizes * np.abs(2 * share - 1) / subject))
        features.append(np.stack(list(found.values()), axis=1)[kept])
        foreground.append(share[kept] > FOREGROUND)
        weights.append(counted[kept])
        frame += scene.links[1].frames if 1 in scene.links else 0
    each = np.asarray(np.concatenate(weights) / len(scenes), np.float32)
    return Lesson(
        names=list(found),
        features=np.concatenate(features),
        foreground=np.concatenate(foreground),
        weights=each,
        comes_close=take.comes_close,
    )


def on_grid(grid: tuple[int, int], truth: Alpha) -> Alpha:
    return np.asarray(cv2.resize(truth, grid, interpolation=cv2.INTER_AREA), np.float32)
