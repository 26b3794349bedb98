"""Chooses the anchors of a shot and runs the network on them, a block of frames at a time."""

import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from foremask.options import Quality
from foremask.types import Image, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.network.network_cache import NetworkCache, check_opinions
from foremask.vision.network.opinions import View, ask, disagreement
from foremask.vision.network.session import Features, Network
from foremask.vision.resample import as_alpha, resized
from foremask.vision.temporal.cuts import IncomingFrame
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.frame_hints import FrameHints
from foremask.vision.temporal.guidance import Guidance, Hinted
from foremask.vision.temporal.propagation import flow_between
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import BLOCK_FRAMES, CLOSE_FRAMES, TIERS, Tier, grid_of
from foremask.vision.temporal.verdict import Judge

# `Tier.probed_above` applies to frames whose number is a multiple of `PROBED_FRAMES`, and to all
# frames while the last mirrored and plain masks differ by more than `DIFFERING_SHARE`.
PROBED_FRAMES = 2 * BLOCK_FRAMES  # the lengths of windows and contexts are multiples of this
DIFFERING_SHARE = 0.3
KEPT_AREA_PX = TIERS[Quality.BEST].mask_area_px


@dataclass(frozen=True, slots=True)
class Tools:
    network: Network
    tier: Tier
    threads: ThreadPoolExecutor
    judge: Judge
    guidance: Guidance | None
    cache: NetworkCache
    on_anchor: Callable[[Levels], None]
    on_picked: Callable[[list[PickedAnchor]], None] | None
    on_asked: Callable[[int], None]
    on_decided: Callable[[int], None]


@dataclass(slots=True)
class Anchor:
    """A frame whose mask is propagated to the frames around it.

    ``opinions`` are the network's masks; an anchor that was added for hints has none. ``image``
    is kept for crops if any hint of the clip corrects a mask, reduced to about `KEPT_AREA_PX`.
    """

    opinions: dict[View, Levels]
    small: Rgb  # on the flow grid
    image: Image | None = None
    hints: FrameHints | None = None
    hinted: Hinted | None = None  # changes by hints in the anchor's last decision

    def mean(self) -> Levels:
        mean = np.mean(list(self.opinions.values()), axis=0, dtype=np.float32)
        return np.asarray(np.rint(mean), np.uint8)


class Blocks:
    """Chooses the anchors of a shot and runs the network on them, a block at a time.

    The first frame of the shot is a block by itself. Each later block goes from the last frame of
    the previous block to the next multiple of `BLOCK_FRAMES`, or to the end of the shot.
    ``on_features`` gets the encoder features (27 MB) of each frame that the network runs on. It
    does not run on a frame for which ``known`` returns masks, of an earlier run.
    """

    def __init__(
        self,
        tools: Tools,
        first: IncomingFrame,
        on_features: Callable[[int, Features], None],
        known: Callable[[int], dict[View, Levels]],
    ) -> None:
        self._tools = tools
        self._on_features = on_features
        self._known = known
        self.steps = {first.number: first.frame_flow}
        self.anchors: dict[int, Anchor] = {}
        self._waiting = {first.number: first}
        self._first = self._last = first.number  # first and last frame of the block
        self._frame_count = 1
        self._anchor_count = 0
        self._mirror_differs = True  # assumed until the network has run on a mirror image
        self._infer(first.number)
        self._add_for_hints()
        self._waiting.clear()

    def add(self, incoming: IncomingFrame) -> bool:
        """Add a frame; return whether it ends a block."""
        self._last = incoming.number
        self.steps[incoming.number] = incoming.frame_flow
        self._waiting[incoming.number] = incoming
        self._frame_count += 1
        return incoming.number % BLOCK_FRAMES == 0 and self.finish()

    def restart_budget(self) -> None:
        """Choose later anchors as if the shot began with the last frame of the finished block."""
        self._frame_count = self._anchor_count = 1
        self._mirror_differs = True
        self._compare(self.anchors[self._first])

    def finish(self) -> bool:
        """End the block and choose its anchors; return whether it had any frame."""
        if not self._waiting:
            return False
        self._infer_block()
        self._first = self._last
        self._waiting.clear()
        self._tools.on_asked(self._last + 1)
        return True

    def forget(self, before: int) -> None:
        for kept in (self.steps, self.anchors):
            for frame in [each for each in kept if each < before]:
                del kept[frame]

    def _infer_block(self) -> None:
        """Run the network on evenly spaced frames and, up to a limit, between masks that differ."""
        between = _spaced(self._first, self._last, self._tools.tier.stride)
        for frame in (self._last, *between):
            self._infer(frame)
        gaps: list[tuple[float, int, int]] = []
        for gap in itertools.pairwise([self._first, *between, self._last]):
            self._queue_gap(gaps, *gap)
        while gaps and self._anchor_count < self._tools.tier.anchors_per_frame * self._frame_count:
            _, before, after = heapq.heappop(gaps)
            middle = (before + after) // 2
            self._infer(middle)
            self._queue_gap(gaps, before, middle)
            self._queue_gap(gaps, middle, after)
        self._add_for_hints()

    def _add_for_hints(self) -> None:
        """Make hinted frames anchors and, to follow things, fill gaps wider than `CLOSE_FRAMES`."""
        guidance = self._tools.guidance
        if guidance is None:
            return
        further = [frame for frame, each in self._waiting.items() if guidance.on(each.image)]
        if any(each.followed is not None for each in guidance.frames.values()):
            anchors = sorted(each for each in self.anchors if each >= self._first)
            for gap in itertools.pairwise(anchors):
                further += _spaced(*gap, CLOSE_FRAMES)
        for frame in further:
            incoming = self._waiting[frame]
            anchor = self.anchors.setdefault(frame, self._anchor(incoming, {}))
            anchor.hints = guidance.on(incoming.image)

    def _queue_gap(self, gaps: list[tuple[float, int, int]], first: int, last: int) -> None:
        """Queue the gap between two anchors if their masks, propagated to its middle, disagree."""
        if last - first < 2:
            return
        middle = (first + last) // 2
        height, width = self.steps[middle].small.shape[:2]
        propagated = []
        for frame in (first, last):
            mask = resized(as_alpha(self.anchors[frame].mean()), width, height)
            propagated.append(warp(mask, flow_between(self.steps, middle, frame)))
        disagree = disagreement(*propagated)
        if disagree > self._tools.tier.disagreement:
            heapq.heappush(gaps, (-disagree, first, last))

    def _infer(self, frame: int) -> None:
        incoming, tier, cache = self._waiting[frame], self._tools.tier, self._tools.cache
        grid = grid_of(incoming.image, tier.mask_area_px)
        opinions = self._known(frame)
        check_opinions(f"{frame}", opinions, grid)
        if not opinions:
            is_probed = frame % PROBED_FRAMES == 0 or self._mirror_differs
            above = tier.probed_above if is_probed else tier.mirrored_above, tier.cropped_above
            learn = partial(self._on_features, frame)
            opinions = ask(self._tools.network, incoming.image, grid, *above, learn)
            cache.keep_opinions(f"{frame}", opinions)
        anchor = self.anchors[frame] = self._anchor(incoming, opinions)
        self._compare(anchor)
        self._tools.on_anchor(anchor.mean())
        self._anchor_count += 1

    def _anchor(self, incoming: IncomingFrame, opinions: dict[View, Levels]) -> Anchor:
        guidance, image = self._tools.guidance, None
        if guidance is not None and any(each.corrections for each in guidance.frames.values()):
            image = ArrayImage(incoming.image.rgb(*grid_of(incoming.image, KEPT_AREA_PX)))
        return Anchor(opinions, incoming.frame_flow.small, image)

    def _compare(self, anchor: Anchor) -> None:
        if View.MIRRORED in anchor.opinions:
            both = (as_alpha(anchor.opinions[view]) for view in (View.STRETCHED, View.MIRRORED))
            self._mirror_differs = disagreement(*both) > DIFFERING_SHARE


def _spaced(first: int, last: int, stride: int) -> list[int]:
    """Evenly spaced frames between two frames, ``stride`` apart at most."""
    steps = -(-(last - first) // stride)
    return [first + round(step * (last - first) / steps) for step in range(1, steps)]
