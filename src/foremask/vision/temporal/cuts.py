"""Numbers the incoming images, estimates the flow between neighbours, and finds the shots.

Cuts between shots are found in pictures that are reduced to about 96 by 54 pixels. At a cut, none
of the three pictures before it matches any of the three after it, while neighbouring pictures on
the same side of the cut match. So a flash, a strobe or a broken frame is no cut, nor is a whip pan
or confetti (docs/adr/0050).
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow, Image, Luma, Rgb
from foremask.vision.resample import in_half, in_single
from foremask.vision.temporal.flow import LEAST_SIDE_PX, PATCH_STRIDE_PX, FlowEstimator, luma, warp
from foremask.vision.temporal.grids import grid_of, size_of
from foremask.vision.temporal.propagation import FrameFlow
from foremask.vision.temporal.tier import SIDE_FRAMES, Tier

DELAY_FRAMES = SIDE_FRAMES - 1  # pictures read ahead to decide whether a picture starts a shot
# The numbers below stand together: `benchmarks.quality.cuts` counts the cuts that they miss.
GRID_AREA_PX = 96 * 54
WINDOW_PX = 7  # the side of the square in which structure and chroma are compared
LEAST_CONTRAST = 1.0  # a picture is skipped if its mean local standard deviation of luma is less
CHROMA_FLOOR = 24.0  # chroma is divided by brightness plus this, so it is small in dark pixels
CHROMA_SCALE = 0.25  # difference of relative chroma at which similarity falls to 1/e
# The agreement of two flows falls to 1/e at a squared error of `RETURN_PX2` plus `RETURN_SHARE` of
# the flows' squared lengths.
RETURN_PX2 = 0.5
RETURN_SHARE = 0.05
SAME_SHOT = 0.88  # a picture that shares this much structure with the previous one starts no shot
CUT_RATIO = 0.56  # at a cut, the match across it is below this share of the neighbours' match
CHANCE = 0.2  # subtracted from the neighbours' match before the ratio is taken: docs/adr/0050


@dataclass(frozen=True, slots=True)
class IncomingFrame:
    """An image with its flow; numbers count from 0 at the first wanted image."""

    image: Image
    number: int
    is_wanted: bool
    frame_flow: FrameFlow


def incoming_frames(
    images: Iterable[Image],
    is_wanted: Callable[[Image], bool],
    tier: Tier,
    threads: ThreadPoolExecutor,
) -> Iterator[IncomingFrame]:
    """Yield the images as frames; those before the first wanted image have negative numbers."""
    numbered = _numbered(images, is_wanted)
    for incoming, starts in starts_of_shots(_with_flow(numbered, tier, threads)):
        if starts:
            alone = FrameFlow(incoming.frame_flow.small, None, None)
            yield replace(incoming, frame_flow=alone)
        else:
            yield incoming


def _numbered(
    images: Iterable[Image], is_wanted: Callable[[Image], bool]
) -> Iterator[tuple[Image, int, bool]]:
    images = iter(images)
    before = deque[Image]()  # up to the first wanted image
    for image in images:
        before.append(image)
        if is_wanted(image):
            break
    while before:
        image = before.popleft()
        yield image, -len(before), is_wanted(image)
    for number, image in enumerate(images, 1):
        yield image, number, is_wanted(image)


def _with_flow(
    numbered: Iterable[tuple[Image, int, bool]], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[tuple[IncomingFrame, Rgb, Flow | None]]:
    """Yield each frame with its small picture and its flow to the frame before, across cuts too."""
    estimate_back = FlowEstimator()
    estimate_forward = FlowEstimator()
    before: Luma | None = None
    for image, number, is_wanted in numbered:
        small = grid_of(image, tier.flow_area_px).rgb(image)
        grey = luma(small)
        back = ahead = None
        if before is not None:
            forward_later = threads.submit(estimate_forward, before, grey)
            back = in_half(estimate_back(grey, before))
            ahead = in_half(forward_later.result())
        before = grey
        incoming = IncomingFrame(image, number, is_wanted, FrameFlow(small, back, ahead))
        if back is None:
            yield incoming, small, None
        else:
            yield incoming, small, in_single(back)


@dataclass(slots=True)
class _View:
    number: int
    grey: Luma
    chroma: NDArray[np.float32]  # (H, W, 2): (red - green, blue - green) / brightness
    shared: float = 0.0  # the share of its structure that the previous picture shows
    matches: dict[int, float] = field(default_factory=dict)  # by the number of an earlier picture


class CutFinder:
    """Decides for each frame, in order, whether a shot starts there. Not thread-safe."""

    def __init__(self) -> None:
        self._flow = FlowEstimator(at_any_brightness=True, least_stride_px=PATCH_STRIDE_PX)
        self._before: deque[_View] = deque(maxlen=SIDE_FRAMES)
        self._from_here: deque[_View | None] = deque()  # None: contrast too low
        self._count = 0

    def add(self, image: Rgb, back: Flow | None) -> None:
        """Add the next frame; ``back`` is the flow to the previous one, on any grid, or None."""
        view = _view(self._count, image)
        last = next((each[-1] for each in (self._from_here, self._before) if each), None)
        if view and last and back is not None and last.number == view.number - 1:
            flow = size_of(view.grey).flow(back)
            similarity, weight = _structure(view.grey, warp(last.grey, flow))
            view.shared = _mean(similarity, weight)
        self._from_here.append(view)
        self._count += 1

    def decide(self) -> bool:
        score = self.score(enough=CUT_RATIO)
        view = self._from_here.popleft()
        if view is not None:
            self._before.append(view)
        return score < CUT_RATIO

    def score(self, enough: float = 1.0) -> float:
        """Return a score below `CUT_RATIO` if the earliest undecided frame starts a shot.

        The score is the best match across the possible cut, divided by (the neighbours' match on
        the worse side - `CHANCE`). It is infinite if the frame is much like the previous one, or if
        a side has too few or unlike frames. No more frames are compared once it is ``enough``.
        """
        first = self._from_here[0]
        if first is None or first.shared >= SAME_SHOT:
            return np.inf
        after = [view for view in list(self._from_here)[:SIDE_FRAMES] if view is not None]
        before = list(self._before)
        if min(len(before), len(after)) < 2:
            return np.inf
        alike = min(self._alike(before), self._alike(after))
        neighbours = alike - CHANCE
        if neighbours <= 0:
            return np.inf
        best = 0.0
        for later, earlier in itertools.product(after, reversed(before)):
            best = max(best, self._match(earlier, later))
            if best >= enough * neighbours:
                break
        return best / neighbours

    def _alike(self, views: Sequence[_View]) -> float:
        """The mean match of neighbours."""
        matches = [self._match(one, other) for one, other in itertools.pairwise(views)]
        return float(np.mean(matches))

    def _match(self, earlier: _View, later: _View) -> float:
        """How alike two pictures are in structure and colour, less where the two flows disagree."""
        known = later.matches.get(earlier.number)
        if known is None:
            back = self._flow(later.grey, earlier.grey)
            ahead = self._flow(earlier.grey, later.grey)
            similarity, weight = _structure(later.grey, warp(earlier.grey, back))
            similarity *= _agreement(back, ahead)
            differ = _blurred(later.chroma - warp(earlier.chroma, back))
            similarity *= np.exp(np.abs(differ).sum(axis=-1) * np.float32(-1 / CHROMA_SCALE))
            known = later.matches[earlier.number] = _mean(similarity, weight)
        return known


def starts_of_shots[Item](
    items: Iterable[tuple[Item, Rgb, Flow | None]],
) -> Iterator[tuple[Item, bool]]:
    """Yield each item and whether its picture starts a shot; the first picture does.

    ``items`` has the picture of each item, and the flow to the previous picture. `DELAY_FRAMES`
    items are read ahead.
    """
    finder = CutFinder()
    waiting = deque[tuple[Item, bool]]()
    for number, (item, image, back) in enumerate(items):
        finder.add(image, back)
        waiting.append((item, number == 0))
        if len(waiting) > DELAY_FRAMES:
            item, is_first = waiting.popleft()
            yield item, finder.decide() or is_first
    for item, is_first in waiting:
        yield item, finder.decide() or is_first


def _view(number: int, image: Rgb) -> _View | None:
    """Reduce a picture for comparison; None if its contrast is too low."""
    height, width = image.shape[:2]
    scale = float((GRID_AREA_PX / (height * width)) ** 0.5)
    columns, rows = (max(LEAST_SIDE_PX, round(side * scale)) for side in (width, height))
    small = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    if float(np.sqrt(_variance(grey.astype(np.float32))).mean()) < LEAST_CONTRAST:
        return None
    red, green, blue = np.moveaxis(small.astype(np.float32), 2, 0)
    brightness = (red + green + blue) * np.float32(1 / 3) + np.float32(CHROMA_FLOOR)
    chroma = cv2.merge([(red - green) / brightness, (blue - green) / brightness])
    return _View(number, grey, np.asarray(chroma, np.float32))


def _blurred(plane: Alpha) -> Alpha:
    return np.asarray(cv2.blur(plane, (WINDOW_PX, WINDOW_PX)), np.float32)


def _variance(plane: Alpha) -> Alpha:
    mean = _blurred(plane)
    return np.maximum(_blurred(plane * plane) - mean * mean, 0)


def _structure(here: Luma, there: Luma) -> tuple[Alpha, Alpha]:
    """The correlation (0 to 1) in a window round each pixel, and the contrast as its weight."""
    one = here.astype(np.float32)
    other = there.astype(np.float32)
    variance = _variance(one)
    other_variance = _variance(other)
    shared = _blurred(one * other) - _blurred(one) * _blurred(other)
    scale = np.sqrt(variance * other_variance + np.float32(1e-3))
    correlation = np.asarray(np.maximum(shared, 0) / scale, np.float32)
    return correlation, np.sqrt(np.maximum(variance, other_variance))


def _agreement(there: Flow, back: Flow) -> Alpha:
    """The degree to which two flows cancel out (Sundaram et al., ECCV 2010, equation 5)."""
    returned = warp(back, there)
    moved = (there * there + returned * returned).sum(axis=-1)
    missed = there + returned
    return np.exp(-(missed * missed).sum(axis=-1) / (RETURN_SHARE * moved + RETURN_PX2))


def _mean(similarity: Alpha, weight: Alpha) -> float:
    return float((similarity * weight).sum() / (weight.sum() + 1e-6))
