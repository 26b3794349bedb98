"""Chooses the anchors of a shot and asks the network about them, a block of frames at a time."""

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from foremask.machine.stopwatch import stage
from foremask.options import Quality
from foremask.types import Alpha, Image, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.network.network_cache import NetworkCache, check_opinions
from foremask.vision.network.network_protocol import Features, Network
from foremask.vision.network.opinions import View, ask, disagreement
from foremask.vision.resample import as_alpha
from foremask.vision.temporal.anchors import Anchor
from foremask.vision.temporal.cuts import IncomingFrame
from foremask.vision.temporal.flow import differ_by_at_most, warp
from foremask.vision.temporal.frame_hints import Guidance
from foremask.vision.temporal.grids import Grids, MaskLevels, grid_of
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.propagation import FrameFlow, flow_between
from foremask.vision.temporal.tier import BLOCK_FRAMES, CLOSE_FRAMES, TIERS, Tier

# `Tier.probed_above` applies to frames whose number is a multiple of `PROBED_FRAMES`, and to all
# frames while the last mirrored and plain masks differ by more than `DIFFERING_SHARE`. The network
# is always asked about an anchor with such a number, and only such an anchor (or the shot's first)
# can be repeated by later ones. So a part of a clip that begins there has the whole clip's masks.
PROBED_FRAMES = 2 * BLOCK_FRAMES  # the lengths of windows and contexts are multiples of this
DIFFERING_SHARE = 0.3  # docs/adr/0050
REPEATED_LEVELS = 6  # a picture of which no pixel differs more is a repeat: coding a still does so
KEPT_AREA_PX = TIERS[Quality.BEST].mask_area_px  # of the images that are kept for corrections


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom the blocks of all shots ask, how often, and who is told."""

    network: Network
    tier: Tier
    guidance: Guidance | None
    cache: NetworkCache
    observer: Observer


class _Gap(NamedTuple):
    """Two neighbouring anchors; the gap whose masks disagree most comes first."""

    agreement: float  # minus `disagreement`
    first: int
    last: int


class _Reference(NamedTuple):
    """A frame that other frames can repeat, with its picture on the mask grid."""

    frame: int
    picture: Rgb
    opinions: Mapping[View, MaskLevels]


class Blocks:
    """Chooses the anchors of a shot and asks the network about them, a block at a time.

    The first frame of the shot is a block by itself. Each later block goes from the last frame of
    the previous block to the next multiple of `BLOCK_FRAMES`, or to the end of the shot.
    ``on_features`` gets the encoder features (27 MB) of each frame that the network runs on; it
    is not asked about a frame for which ``known`` returns masks, of an earlier run. Nor is it asked
    about a frame whose picture repeats that of the newest reference. ``on_repeat`` then gets both
    frames; if it returns False, as it lacks the reference's features, the network is asked.
    """

    def __init__(
        self,
        asking: Asking,
        first: IncomingFrame,
        on_features: Callable[[int, Features], None],
        on_repeat: Callable[[int, int], bool],
        known: Callable[[int], Mapping[View, MaskLevels]],
    ) -> None:
        self.grids = Grids.of(first.image, asking.tier)
        self.steps: dict[int, FrameFlow] = {first.number: first.frame_flow}
        self.anchors: dict[int, Anchor] = {}
        self._asking = asking
        self._on_features = on_features
        self._on_repeat = on_repeat
        self._reference: _Reference | None = None  # the newest
        self._known = known
        self._waiting = {first.number: first}
        self._first = first.number  # of the block
        self._last = first.number
        self._frame_count = 1
        self._anchor_count = 0
        self._mirror_differs = True  # assumed until the network has run on a mirror image
        self._ask(first.number)
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
        self._frame_count = 1
        self._anchor_count = 1
        self._mirror_differs = True
        self._compare(self.anchors[self._first])

    def finish(self) -> bool:
        """End the block and choose its anchors; return whether it had any frame."""
        if not self._waiting:
            return False
        self._ask_block()
        self._first = self._last
        self._waiting.clear()
        self._asking.observer.ask_to(self._last + 1)
        return True

    def forget(self, before: int) -> None:
        for kept in (self.steps, self.anchors):
            for frame in [each for each in kept if each < before]:
                del kept[frame]

    def _ask_block(self) -> None:
        """Ask about evenly spaced frames, and between those that disagree more than the price."""
        between = _spaced(self._first, self._last, self._asking.tier.stride)
        for frame in (self._last, *between):
            self._ask(frame)
        gaps: list[_Gap] = []
        for first, last in itertools.pairwise([self._first, *between, self._last]):
            self._queue_gap(gaps, first, last)
        while gaps and -gaps[0].agreement > self._least_disagreement():
            gap = heapq.heappop(gaps)
            middle = (gap.first + gap.last) // 2
            self._ask(middle)
            self._queue_gap(gaps, gap.first, middle)
            self._queue_gap(gaps, middle, gap.last)
        self._add_for_hints()

    def _add_for_hints(self) -> None:
        """Make hinted frames anchors and, to follow things, fill gaps wider than `CLOSE_FRAMES`."""
        guidance = self._asking.guidance
        if guidance is None:
            return
        further = [frame for frame, each in self._waiting.items() if guidance.on(each.image)]
        if guidance.chooses:
            anchors = sorted(each for each in self.anchors if each >= self._first)
            for first, last in itertools.pairwise(anchors):
                further += _spaced(first, last, CLOSE_FRAMES)
        for frame in further:
            if frame not in self.anchors:
                self.anchors[frame] = self._anchor(self._waiting[frame], {})

    def _queue_gap(self, gaps: list[_Gap], first: int, last: int) -> None:
        """Queue the gap between two anchors by how far their masks disagree in its middle."""
        if last - first < 2:
            return
        middle = (first + last) // 2
        disagree = disagreement(self._moved(first, middle), self._moved(last, middle))
        heapq.heappush(gaps, _Gap(-disagree, first, last))

    def _least_disagreement(self) -> float:
        """The disagreement that a gap must exceed; it rises with the number of anchors so far."""
        share = self._anchor_count / self._frame_count
        return self._asking.tier.anchor_price * share**2

    @stage("propagation")
    def _moved(self, anchor: int, frame: int) -> Alpha:
        """An anchor's mean mask, moved to another frame, on the flow grid."""
        mask = self.grids.flow.resized(as_alpha(self.anchors[anchor].mean()))
        return warp(mask, flow_between(self.steps, frame, anchor))

    def _ask(self, frame: int) -> None:
        incoming = self._waiting[frame]
        picture = self.grids.mask.rgb(incoming.image)
        opinions = self._known(frame)
        check_opinions(f"{frame}", opinions, self.grids.mask)
        if not opinions:
            opinions = self._repeated(frame, picture) or self._answers(incoming.image, frame)
            self._asking.cache.keep_opinions(f"{frame}", opinions)
        if self._reference is None or frame % PROBED_FRAMES == 0:
            self._reference = _Reference(frame, picture, opinions)
        anchor = self._anchor(incoming, opinions)
        self.anchors[frame] = anchor
        self._compare(anchor)
        self._asking.observer.add_anchor(anchor.mean())
        self._anchor_count += 1

    def _repeated(self, frame: int, picture: Rgb) -> Mapping[View, MaskLevels]:
        """The opinions of the reference if the frame repeats it, else none."""
        reference = self._reference
        if reference is None or frame % PROBED_FRAMES == 0:
            return {}
        if not differ_by_at_most(REPEATED_LEVELS, picture, reference.picture):
            return {}
        if not self._on_repeat(frame, reference.frame):
            return {}
        return reference.opinions

    @stage("network")
    def _answers(self, image: Image, frame: int) -> dict[View, MaskLevels]:
        tier = self._asking.tier
        mirrored_above = tier.mirrored_above
        if frame % PROBED_FRAMES == 0 or self._mirror_differs:
            mirrored_above = tier.probed_above
        return ask(
            self._asking.network,
            image,
            self.grids.mask,
            mirrored_above=mirrored_above,
            cropped_above=tier.cropped_above,
            on_features=partial(self._on_features, frame),
        )

    def _anchor(self, incoming: IncomingFrame, opinions: Mapping[View, MaskLevels]) -> Anchor:
        guidance = self._asking.guidance
        small = incoming.frame_flow.small
        image = None
        if guidance is not None and guidance.corrects:
            image = ArrayImage(grid_of(incoming.image, KEPT_AREA_PX).rgb(incoming.image))
        hints = None if guidance is None else guidance.on(incoming.image)
        return Anchor(opinions, small, image, hints)

    def _compare(self, anchor: Anchor) -> None:
        """Note whether the mirror image, if it was asked about, finds other things."""
        if View.MIRRORED in anchor.opinions:
            plain = as_alpha(anchor.opinions[View.STRETCHED])
            mirrored = as_alpha(anchor.opinions[View.MIRRORED])
            self._mirror_differs = disagreement(plain, mirrored) > DIFFERING_SHARE


def _spaced(first: int, last: int, stride: int) -> list[int]:
    """Evenly spaced frames between two frames, ``stride`` apart at most."""
    steps = -(-(last - first) // stride)
    return [first + round(step * (last - first) / steps) for step in range(1, steps)]
