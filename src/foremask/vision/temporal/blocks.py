"""Chooses the anchors of a shot and runs the network on them, a block at a time."""

import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from foremask.types import Image, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import CropBox, View, ask, disagreement
from foremask.vision.network.session import Features, Network
from foremask.vision.resample import as_alpha, resized
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.frame_hints import FrameHints
from foremask.vision.temporal.guidance import Guidance, Hinted
from foremask.vision.temporal.incoming import IncomingFrame
from foremask.vision.temporal.network_cache import NetworkCache
from foremask.vision.temporal.propagation import flow_between
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import Tier, grid_of
from foremask.vision.temporal.verdict import Judge

# Frames whose anchors are chosen together; flow of as many more is estimated meanwhile. Blocks lie
# on a grid, of which windows and their context are multiples, as they are of `PROBED_FRAMES`.
BLOCK_FRAMES = 12
PROBED_FRAMES = 24  # the mirror image is asked more readily on every such frame,
DIFFERING_SHARE = 0.3  # and as long as it differs from the picture by more than this
KEPT_AREA_PX = 960 * 540
FOLLOWED_STRIDE = 4  # at most: hinted things are followed from anchor to anchor


def image_for(guidance: Guidance | None, image: Image) -> Image | None:
    """What is kept of a picture, so that the network can be asked about parts of it later."""
    if guidance is None or not guidance.corrects:
        return None
    return ArrayImage(image.rgb(*grid_of(image, KEPT_AREA_PX)))


@dataclass(frozen=True, slots=True)
class Tools:
    """What every window works with."""

    network: Network
    tier: Tier
    threads: ThreadPoolExecutor
    judge: Judge
    guidance: Guidance | None
    cache: NetworkCache | None
    on_anchor: Callable[[Levels], None]
    on_picked: Callable[[list[PickedAnchor]], None] | None = None
    on_asked: Callable[[int], None] = lambda _: None
    on_decided: Callable[[int], None] = lambda _: None

    @property
    def known(self) -> NetworkCache | None:
        """The cache, where it has all the network's results on the clip; else they are put in."""
        return self.cache if self.cache is not None and self.cache.is_complete else None


@dataclass(slots=True)
class Anchor:
    """A frame whose mask others get theirs from.

    ``opinions`` are the network's, and their crop shows ``box``: none where it is an anchor for
    hints only. ``image`` is kept for hints, and then not larger than `KEPT_AREA_PX`.
    """

    opinions: dict[View, Levels]
    box: CropBox | None
    small: Rgb  # on the flow grid
    image: Image | None = None
    hints: FrameHints | None = None
    hinted: Hinted | None = None  # by all hints of the window that decided it last

    def mean(self) -> Levels:
        """The mean of the network's opinions: the classifier is trained on it."""
        mean = np.mean(list(self.opinions.values()), axis=0, dtype=np.float32)
        return np.asarray(np.rint(mean), np.uint8)


class Blocks:
    """Chooses and infers the anchors of a shot, a block at a time.

    A block goes from an anchor to where `BLOCK_FRAMES` divides the frame's number, or to the end of
    the shot; the first frame ends a block too. Which frames are anchors depends on nothing before
    the context of their window. ``on_features`` gets the features of each anchor as it is inferred:
    27 MB each, which are not kept here. ``steps`` and ``anchors`` have what is not forgotten of the
    shot, by frame; frames of a block that has not ended are in ``steps`` already.
    """

    def __init__(
        self,
        tools: "Tools",
        first: IncomingFrame,
        on_features: Callable[[int, Features], None] = lambda *_: None,
    ) -> None:
        self._tools = tools
        self._on_features = on_features
        self._tier = tools.tier
        self.steps = {first.number: first.frame_flow}
        self.anchors: dict[int, Anchor] = {}
        self._waiting = {first.number: first}
        self._first = self._last = first.number  # of the block
        self._frame_count = 1
        self._anchor_count = 0
        self._mirror_differs = True  # until it has been asked
        self._infer(first.number)
        self._add_for_hints()
        self._waiting.clear()

    def add(self, incoming: IncomingFrame) -> bool:
        """Add a frame; whether it ends a block."""
        self._last = incoming.number
        self.steps[incoming.number] = incoming.frame_flow
        self._waiting[incoming.number] = incoming
        self._frame_count += 1
        return incoming.number % BLOCK_FRAMES == 0 and self.finish()

    def restart_budget(self) -> None:
        """Choose and ask as if the shot began with the last frame of the block."""
        self._frame_count = self._anchor_count = 1
        self._mirror_differs = True
        self._compare(self.anchors[self._first])

    def finish(self) -> bool:
        """Infer the frames that wait, and return whether any did: the block ends here."""
        if not self._waiting:
            return False
        self._infer_block()
        self._first = self._last
        self._waiting.clear()
        self._tools.on_asked(self._last + 1)
        return True

    def forget(self, before: int) -> None:
        """Drop the frames before this one."""
        for kept in (self.steps, self.anchors):
            for frame in [each for each in kept if each < before]:
                del kept[frame]

    def _infer_block(self) -> None:
        """Infer waiting frames: evenly spaced, then where masks disagree, as the tier allows."""
        first, last = self._first, self._last
        intervals = -(-(last - first) // self._tier.stride)
        regular = [
            first + round(interval * (last - first) / intervals)
            for interval in range(intervals + 1)
        ]
        for frame in (last, *regular[1:-1]):
            self._infer(frame)
        gaps: list[tuple[float, int, int]] = []
        for gap in itertools.pairwise(regular):
            self._queue_gap(gaps, *gap)
        while gaps and self._anchor_count < self._tier.anchors_per_frame * self._frame_count:
            _, before, after = heapq.heappop(gaps)
            middle = (before + after) // 2
            self._infer(middle)
            self._queue_gap(gaps, before, middle)
            self._queue_gap(gaps, middle, after)
        self._add_for_hints()

    def _add_for_hints(self) -> None:
        """Anchors besides those of a run without hints, of which the network is not asked.

        These are hinted frames, and, where things are followed, frames in gaps that are too wide.
        """
        guidance = self._tools.guidance
        if guidance is None:
            return
        further = [frame for frame, each in self._waiting.items() if guidance.on(each.image)]
        if guidance.follows_things:
            for before, after in itertools.pairwise(
                sorted(each for each in self.anchors if each >= self._first)
            ):
                steps = -(-(after - before) // FOLLOWED_STRIDE)
                further += [
                    before + round(step * (after - before) / steps) for step in range(1, steps)
                ]
        for frame in further:
            incoming = self._waiting[frame]
            image = image_for(guidance, incoming.image)
            added = Anchor({}, None, incoming.small, image)
            anchor = self.anchors.setdefault(frame, added)
            anchor.hints = guidance.on(incoming.image)

    def _queue_gap(self, gaps: list[tuple[float, int, int]], before: int, after: int) -> None:
        """Queue the gap between two anchors for inference, largest disagreement first."""
        if after - before >= 2:
            disagreement = self._disagreement(before, after)
            if disagreement > self._tier.disagreement:
                heapq.heappush(gaps, (-disagreement, before, after))

    def _disagreement(self, first: int, last: int) -> float:
        """The share of the subject on which two anchors disagree in the frame between them."""
        middle = (first + last) // 2
        height, width = self.steps[middle].grey.shape
        propagated = []
        for frame in (first, last):
            mask = resized(as_alpha(self.anchors[frame].mean()), width, height)
            propagated.append(warp(mask, flow_between(self.steps, middle, frame)))
        return disagreement(*propagated)

    def _infer(self, frame: int) -> None:
        incoming = self._waiting[frame]
        known = self._tools.known
        if known is not None:
            known.kept(f"{frame}/{View.STRETCHED}")  # every anchor has it
            opinions, box = known.opinions(f"{frame}")
        else:
            grid = grid_of(incoming.image, self._tier.mask_area_px)
            is_probed = frame % PROBED_FRAMES == 0 or self._mirror_differs
            mirrored = self._tier.probed_above if is_probed else self._tier.mirrored_above
            above = mirrored, self._tier.cropped_above
            learn = partial(self._on_features, frame)
            asked = ask(self._tools.network, incoming.image, grid, *above, learn)
            opinions, box = asked.masks, asked.box
            if self._tools.cache is not None:
                self._tools.cache.keep_opinions(f"{frame}", opinions, box)
        image = image_for(self._tools.guidance, incoming.image)
        anchor = self.anchors[frame] = Anchor(opinions, box, incoming.small, image)
        self._compare(anchor)
        self._tools.on_anchor(anchor.mean())
        self._anchor_count += 1

    def _compare(self, anchor: Anchor) -> None:
        if View.MIRRORED in anchor.opinions:
            both = (as_alpha(anchor.opinions[view]) for view in (View.STRETCHED, View.MIRRORED))
            self._mirror_differs = disagreement(*both) > DIFFERING_SHARE
