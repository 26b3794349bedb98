"""Steady masks for a stream of images: infer anchors, correct them, propagate them to all frames.

Anchors are chosen and inferred block by block (`_Blocks`). A window of a shot is decided together,
from its own frames and `CONTEXT_FRAMES` on each side: stray parts are dropped (`tracks`), the
subject's appearance is learned and the masks corrected by it (`appearance`), and each frame gets
the mean of its nearest anchors, weighted by trust (`propagate`). Windows lie on a grid that counts
from the clip's start, and share nothing else: so a clip that is cut at the grid is masked like the
whole one. docs/adr/0157
"""

import heapq
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID
from foremask.options import Quality
from foremask.types import Alpha, Image, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import NEVER, View, ask, uncertainty
from foremask.vision.network.session import Features, Network
from foremask.vision.prefetch import prefetch
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.appearance import (
    BASIS_ANCHORS,
    AnchorFeatures,
    Basis,
    colours,
    correct,
    subject_logits,
)
from foremask.vision.temporal.closer import (
    CLOSER,
    MASK,
    CloserJudge,
    CloserMask,
    infer_closer,
    judge_closer,
)
from foremask.vision.temporal.correction import Gate, Shown, fitted_gate
from foremask.vision.temporal.cuts import DELAY_FRAMES, SIDE_FRAMES, starts_of_shots
from foremask.vision.temporal.flow import (
    FlowEstimator,
    continuity,
    residual,
    resize_flow,
    trust,
    warp,
)
from foremask.vision.temporal.guidance import Guidance, WindowCorrections, WindowHints
from foremask.vision.temporal.lesson import Lesson, Mark, lesson_of, without_late_choices
from foremask.vision.temporal.network_cache import (
    KeptAnswers,
    NetworkCache,
    NoStore,
    infer_closer_kept,
)
from foremask.vision.temporal.propagation import FrameFlow, PackedFlow, flow_between, propagate
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.things import Things, follow
from foremask.vision.temporal.tracks import keep_maps
from foremask.vision.temporal.verdict import MEMORY, Judge, compose, decided, judge

TRACK_AREA_PX = 427 * 240  # grids are given by their area, and have the picture's aspect
# Frames whose anchors are chosen together; flow of as many more is estimated meanwhile. Blocks lie
# on a grid, of which windows and their context are multiples.
BLOCK_FRAMES = 12
WINDOW_FRAMES = SEGMENT_GRID.window_frames
CONTEXT_FRAMES = SEGMENT_GRID.context_frames - SIDE_FRAMES  # by these cuts are found
LAG_FRAMES = (
    WINDOW_FRAMES + CONTEXT_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
)  # at most, between an image that is read and its mask
PICTURE_AREA_PX = 1280 * 720  # of an anchor, kept until the network has looked closer
HINTED_STRIDE = 4  # at most: hinted things are followed from anchor to anchor
THREADS = 2  # for flow and propagation; the network has its own


@dataclass(frozen=True, slots=True)
class PlacedThings:
    """The things of one frame, and what of them is in its mask, on the tracks' grid."""

    frame: int
    things: Things
    inside: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tier:
    """What a quality spends; docs/quality.md has what each setting gives.

    Anchors are at most ``stride`` apart; between two whose masks disagree by more than
    ``disagreement`` another is inferred, up to ``anchors_per_frame`` on average. An anchor with an
    uncertainty above ``mirrored_above`` is inferred in the mirror too. The network looks closer at
    an anchor whose decided mask has more than ``closer_above``. Masks are propagated on a
    grid of ``mask_area_px`` along flows estimated on one of ``flow_area_px``, with patches
    ``flow_stride_px`` apart, from ``anchors_per_side`` anchors on each side. ``uses_backdrop``:
    outlines use the background behind them (`backdrop`). ``keeps_frames``: decoded frames may wait
    for their masks where memory allows.
    """

    stride: int
    disagreement: float
    anchors_per_frame: float
    mirrored_above: float = NEVER
    closer_above: float = 0.0
    anchors_per_side: int = 1
    mask_area_px: int = 640 * 360
    flow_area_px: int = 384 * 216
    flow_stride_px: int = 3
    uses_backdrop: bool = False
    keeps_frames: bool = True


TIERS = {
    Quality.FAST: Tier(
        stride=12,
        disagreement=0.2,
        anchors_per_frame=0.17,
        closer_above=0.06,
        flow_area_px=256 * 144,
        flow_stride_px=4,
    ),
    Quality.BALANCED: Tier(
        stride=4,
        disagreement=0.4,
        anchors_per_frame=0.28,
        mirrored_above=0.12,
        closer_above=0.04,
        uses_backdrop=True,
    ),
    Quality.BEST: Tier(
        stride=3,
        disagreement=0.1,
        anchors_per_frame=0.5,
        mirrored_above=0.05,
        anchors_per_side=2,
        mask_area_px=960 * 540,
        uses_backdrop=True,
        keeps_frames=False,
    ),
}


def mask_images(
    images: Iterable[Image],
    network: Network,
    tier: Tier = TIERS[Quality.BALANCED],
    judge: Judge = judge,
    judge_closer: CloserJudge = judge_closer,
    guidance: Guidance | None = None,
    is_wanted: Callable[[Image], bool] = lambda _: True,
    cache: NetworkCache | None = None,
    on_anchor: Callable[[Levels], None] = lambda _: None,
    on_things: Callable[[list[PlacedThings]], None] | None = None,
) -> Iterator[Alpha]:
    """One mask for each image, in order, on the tier's grid, which is never larger than the image.

    All images have one size. The first mask comes at most `LAG_FRAMES` after its image. Masks never
    mix frames of two shots. ``guidance`` is what a person has said of some of the images.

    The images for which ``is_wanted`` follow each other. Those before and after them are context,
    and their masks are empty. A span that begins and ends on `SEGMENT_GRID`, and is shown with the
    context that it names, gets the masks that it has in the whole clip.

    ``cache`` has what the network said in an earlier run over the same images, or gets what it says
    in this one; masks are the same with and without it. ``on_anchor`` gets the network's mask of
    each anchor, long before the frame's own mask is decided. ``on_things`` gets the things of each
    window, those of the network that are not in the mask too.
    """
    cache = cache or (None if guidance is None else NetworkCache(NoStore()))
    with (
        ThreadPoolExecutor(THREADS) as threads,
        prefetch(
            _with_shots(_placed(images, is_wanted), tier, threads), BLOCK_FRAMES, "flow"
        ) as arriving,
    ):
        tools = _Tools(
            network, tier, threads, judge, judge_closer, guidance, cache, on_anchor, on_things
        )
        yield from _masks_of_shots(arriving, tools)


def _masks_of_shots(arriving: Iterable["_IncomingFrame"], tools: "_Tools") -> Iterator[Alpha]:
    shot: _Shot | None = None
    end: int | None = None  # of the wanted images
    after = 0
    for incoming in arriving:
        number = incoming.number
        if number < 0:
            yield _empty_mask(incoming.image, tools.tier)
        elif not incoming.is_wanted:
            after += 1
            end = number if end is None else end
        if number < -CONTEXT_FRAMES or (end is not None and number > end + CONTEXT_FRAMES):
            continue
        if shot is None or incoming.starts_shot:
            if shot is not None:
                yield from shot.finish(end, is_last=False)
            shot = _Shot.of(tools, incoming)
        else:
            yield from shot.add(incoming, end)
    if shot is not None:
        yield from shot.finish(end, is_last=True)
    if after:
        yield from itertools.repeat(_empty_mask(incoming.image, tools.tier), after)


def _empty_mask(image: Image, tier: Tier) -> Alpha:
    return np.zeros(grid_of(image, tier.mask_area_px)[::-1], np.float32)


@dataclass(frozen=True, slots=True)
class _PlacedImage:
    """An image and its number, counted from the first wanted one."""

    image: Image
    number: int
    is_wanted: bool


def _placed(images: Iterable[Image], is_wanted: Callable[[Image], bool]) -> Iterator[_PlacedImage]:
    before: list[Image] = []
    number = 0
    for image in images:
        wanted = is_wanted(image)
        if not wanted and not number:
            before.append(image)
            continue
        while before:
            yield _PlacedImage(before.pop(0), -len(before) - 1, is_wanted=False)
        yield _PlacedImage(image, number, wanted)
        number += 1
    for index, image in enumerate(before):
        yield _PlacedImage(image, index - len(before), is_wanted=False)


@dataclass(frozen=True, slots=True)
class _IncomingFrame:
    """An image with the flow to the previous one, and from the previous one to it."""

    image: Image
    number: int
    is_wanted: bool
    small: Rgb  # on the flow grid
    frame_flow: FrameFlow
    flow_from_previous: PackedFlow | None
    pictures: list[ArrayImage] = field(default_factory=list)  # one, once it was asked for

    @property
    def starts_shot(self) -> bool:
        return self.frame_flow.to_previous is None

    def picture(self) -> ArrayImage:
        """What the network may look at more closely."""
        if not self.pictures:
            grid = grid_of(self.image, PICTURE_AREA_PX)
            self.pictures.append(ArrayImage(self.image.rgb(*grid)))
        return self.pictures[0]


def _with_shots(
    images: Iterable[_PlacedImage], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[_IncomingFrame]:
    """As `_with_flow`, without flow across cuts."""
    items = (
        (
            incoming,
            incoming.small,
            incoming.frame_flow.to_previous.flow if incoming.frame_flow.to_previous else None,
        )
        for incoming in _with_flow(images, tier, threads)
    )
    for incoming, starts in starts_of_shots(items):
        if starts:
            alone = FrameFlow(incoming.frame_flow.grey, None, None)
            yield replace(incoming, frame_flow=alone, flow_from_previous=None)
        else:
            yield incoming


def _with_flow(
    images: Iterable[_PlacedImage], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[_IncomingFrame]:
    """Flows between neighbours, across cuts too."""
    estimate_back, estimate_forward = (
        FlowEstimator(tier.flow_stride_px),
        FlowEstimator(tier.flow_stride_px),
    )
    before: FrameFlow | None = None
    for placed in images:
        image = placed.image
        small = image.rgb(*grid_of(image, tier.flow_area_px))
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8)
        frame_flow, to_here = FrameFlow(grey, None, None), None
        if before is not None:
            forward_later = threads.submit(estimate_forward, before.grey, grey)
            back = estimate_back(grey, before.grey)
            forward = forward_later.result()
            frame_flow, to_here = (
                FrameFlow(grey, PackedFlow.of(back, forward), None),
                PackedFlow.of(forward, back),
            )
        before = frame_flow
        yield _IncomingFrame(image, placed.number, placed.is_wanted, small, frame_flow, to_here)


def learn(
    hinted: Iterable[tuple[Hashable, Image, Sequence[Mark]]],
    network: Network,
    tier: Tier,
    key_of: Callable[[Image], Hashable],
    cache: NetworkCache | None = None,
    gate: Gate | None = None,
) -> Guidance:
    """Infer the hinted images and settle what each mark claims; ``key_of`` finds them again.

    ``gate`` says how far a correction reaches; without one it is the fitted one.
    """
    cache = cache or NetworkCache(NoStore())
    lessons: dict[Hashable, Lesson] = {}
    for key, image, marks in hinted:
        grid = grid_of(image, tier.mask_area_px)
        kept = KeptAnswers(cache, f"{key}", network)
        lessons[key] = lesson_of(image, marks, kept, grid, _tracks_grid(*grid))
    return Guidance(without_late_choices(lessons), key_of, gate or fitted_gate())


def _tracks_grid(columns: int, rows: int) -> tuple[int, int]:
    scale = min(1.0, (TRACK_AREA_PX / (rows * columns)) ** 0.5)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def grid_of(image: Image, area_px: int) -> tuple[int, int]:
    """Columns and rows of about ``area_px`` in the image's aspect; never more than it has."""
    scale = min(1.0, (area_px / (image.width * image.height)) ** 0.5)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


@dataclass(slots=True)
class _Anchor:
    """A frame that the network has segmented.

    ``shown`` are its opinions without hints: none where it is an anchor for its hints only.
    """

    shown: dict[View, Levels]
    small: Rgb  # on the flow grid
    picture: ArrayImage  # for a closer look
    lesson: Lesson | None = None  # what a person said of it
    hinted: Alpha | None = None  # log odds by all hints of the window that decided it last
    corrected: Alpha | None = None  # and those of its corrections

    @property
    def opinions(self) -> dict[View, Levels]:
        """What the network says of it: in every way, where hints are on it."""
        return self.shown if self.lesson is None else self.lesson.opinions

    def mean(self) -> Levels:
        """The mean of its opinions: the classifier is trained on it."""
        return _mean(self.opinions)

    def mean_without_hints(self) -> Levels:
        """Anchors are chosen by it, so that hints do not change the choice."""
        return _mean(self.shown)


def _mean(opinions: dict[View, Levels]) -> Levels:
    stretched = opinions[View.STRETCHED]
    if View.MIRRORED not in opinions:
        return stretched
    return np.asarray(cv2.addWeighted(stretched, 0.5, opinions[View.MIRRORED], 0.5, 0), np.uint8)


@dataclass(slots=True)
class _Block:
    """Frames that follow each other, from one anchor to another; the first ends a block too."""

    first: int
    frame_flows: list[FrameFlow]
    anchors: dict[int, _Anchor]  # in the order in which they were inferred
    features: dict[int, Features]  # of each anchor that was inferred now

    @property
    def last(self) -> int:
        """The number of the last frame."""
        return self.first + len(self.frame_flows) - 1

    def end(self) -> "_Block":
        """The last frame alone."""
        return _Block(
            self.last,
            self.frame_flows[-1:],
            {self.last: self.anchors[self.last]},
            {number: each for number, each in self.features.items() if number == self.last},
        )


class _Blocks:
    """Chooses and infers the anchors of a shot, a block at a time.

    A block ends where `BLOCK_FRAMES` divides the frame's number, or with the shot. What anchors
    there are depends on nothing before the context of the window that they are in.
    """

    def __init__(self, tools: "_Tools", first: _IncomingFrame) -> None:
        self._tools = tools
        self._tier = tools.tier
        self._block = _Block(first.number, [first.frame_flow], {}, {})
        self._waiting = {first.number: first}
        self._frame_count = 1
        self._anchor_count = 0
        self._infer(first.number)
        self._add_for_hints()

    @property
    def start(self) -> _Block:
        """The first frame alone."""
        return self._block.end()

    def add(self, incoming: _IncomingFrame) -> _Block | None:
        """Add a frame; the block that it ends."""
        last = self._block.frame_flows[-1]
        self._block.frame_flows[-1] = replace(last, to_next=incoming.flow_from_previous)
        self._block.frame_flows.append(incoming.frame_flow)
        self._waiting[incoming.number] = incoming
        self._frame_count += 1
        return None if incoming.number % BLOCK_FRAMES else self._finished()

    def finish(self) -> _Block | None:
        """The frames that still wait, if any do: the shot ends here."""
        return self._finished() if len(self._block.frame_flows) > 1 else None

    def _finished(self) -> _Block:
        self._infer_block()
        block = self._block
        self._block = block.end()
        self._waiting.clear()
        if block.last % WINDOW_FRAMES in (0, WINDOW_FRAMES - CONTEXT_FRAMES):
            self._frame_count = self._anchor_count = 1  # as if the shot began here
        return block

    def _infer_block(self) -> None:
        """Infer waiting frames: evenly spaced, then where masks disagree, as the tier allows."""
        first, last = self._block.first, self._block.last
        intervals = -(-(last - first) // self._tier.stride)
        regular = [
            first + round(interval * (last - first) / intervals)
            for interval in range(intervals + 1)
        ]
        for frame in regular[1:]:
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
        """Anchors besides those of a run without hints.

        They are the frames of which a person has said something, and some where others are far
        apart.
        """
        if self._tools.guidance is None:
            return
        count = self._anchor_count
        for before, after in itertools.pairwise(sorted(self._block.anchors)):
            steps = -(-(after - before) // HINTED_STRIDE)
            for step in range(1, steps):
                self._infer(before + round(step * (after - before) / steps), is_extra=True)
        self._anchor_count = count
        for frame, incoming in self._waiting.items():
            lesson = self._tools.guidance.lesson(incoming.image)
            if lesson is None:
                continue
            if frame not in self._block.anchors:
                self._block.anchors[frame] = _Anchor({}, incoming.small, incoming.picture())
                self._block.features[frame] = lesson.features
            self._block.anchors[frame].lesson = lesson

    def _queue_gap(self, gaps: list[tuple[float, int, int]], before: int, after: int) -> None:
        """Queue the gap between two anchors for inference, largest disagreement first."""
        if after - before >= 2:
            disagreement = self._disagreement(before, after)
            if disagreement > self._tier.disagreement:
                heapq.heappush(gaps, (-disagreement, before, after))

    def _disagreement(self, first: int, last: int) -> float:
        """The share of the subject on which two anchors disagree in the frame between them."""
        middle = (first + last) // 2
        start = self._block.first
        steps = self._block.frame_flows
        height, width = steps[middle - start].grey.shape
        propagated = []
        for frame in (first, last):
            mean = self._block.anchors[frame].mean_without_hints()
            mask = resized(as_alpha(mean), width, height)
            propagated.append(warp(mask, flow_between(steps, middle - start, frame - start)))
        either = np.maximum(*propagated).sum() + 0.001 * height * width
        return float(np.abs(propagated[0] - propagated[1]).sum() / either)

    def _infer(self, frame: int, *, is_extra: bool = False) -> None:
        incoming = self._waiting[frame]
        cache = self._tools.cache
        if cache is not None and self._tools.reads and not is_extra:
            shown = cache.opinions(f"{frame}")
            cache.forget(f"{frame}")
        else:
            grid = grid_of(incoming.image, self._tier.mask_area_px)
            asked = ask(self._tools.network, incoming.image, grid, self._tier.mirrored_above)
            shown = asked.masks
            self._block.features[frame] = asked.features
            if cache is not None and not is_extra:
                cache.keep_opinions(f"{frame}", shown)
        anchor = self._block.anchors[frame] = _Anchor(shown, incoming.small, incoming.picture())
        self._tools.on_anchor(anchor.mean_without_hints())
        self._anchor_count += 1


class _Shot:
    """The windows of one shot that are in work: two, where one's end is the next one's context.

    ``plain`` is the same shot without hints, from which a shot with hints starts.
    """

    def __init__(
        self, tools: "_Tools", first: _IncomingFrame, plain: "_Shot | None" = None
    ) -> None:
        self._tools = tools
        self._plain = plain
        self._blocks = _Blocks(tools, first)
        self._windows: list[_Window] = []
        here = first.number // WINDOW_FRAMES
        self._open(here, self._blocks.start)
        if first.number >= (here + 1) * WINDOW_FRAMES - CONTEXT_FRAMES:
            self._open(here + 1, self._blocks.start)

    @classmethod
    def of(cls, tools: "_Tools", first: _IncomingFrame) -> "_Shot":
        """With the same shot without hints, where that has to be inferred first."""
        if tools.guidance is None or tools.is_known:
            return cls(tools, first)
        return cls(tools, first, cls(replace(tools, guidance=None, makes_masks=False), first))

    def add(self, incoming: _IncomingFrame, end: int | None) -> Iterator[Alpha]:
        """Add a frame; the masks of a window whose last frame it is, up to frame ``end``."""
        if self._plain is not None:
            for _ in self._plain.add(incoming, end):
                pass  # it makes none
        block = self._blocks.add(incoming)
        if block is None:
            return
        self._take(block)
        at = block.last
        if at % WINDOW_FRAMES == WINDOW_FRAMES - CONTEXT_FRAMES:
            self._open(at // WINDOW_FRAMES + 1, block.end())
        if self._windows and self._windows[0].own.stop + CONTEXT_FRAMES == at:
            yield from self._windows.pop(0).masks(end)

    def finish(self, end: int | None, *, is_last: bool) -> Iterator[Alpha]:
        """The masks of all frames that are left, up to ``end``: the shot ends here.

        In the last shot the end of a window goes to the window before, which has seen all of it.
        """
        if self._plain is not None:
            for _ in self._plain.finish(end, is_last=is_last):
                pass
        block = self._blocks.finish()
        if block is not None:
            self._take(block)
        if is_last and len(self._windows) > 1:
            first = self._windows[0]
            first.own = range(first.own.start, self._windows.pop().own.stop)
        for window in self._windows:
            yield from window.masks(end)
        if is_last and self._tools.cache is not None:
            self._tools.cache.finish()

    def _take(self, block: _Block) -> None:
        for window in self._windows:
            window.take(block)

    def _open(self, number: int, start: _Block) -> None:
        if number >= 0:
            first = max(start.first, number * WINDOW_FRAMES)
            own = range(first, (number + 1) * WINDOW_FRAMES)
            self._windows.append(_Window(self._tools, own, start))


@dataclass(frozen=True, slots=True)
class _Tools:
    """What every window works with."""

    network: Network
    tier: Tier
    threads: ThreadPoolExecutor
    judge: Judge
    judge_closer: CloserJudge
    guidance: Guidance | None
    cache: NetworkCache | None
    on_anchor: Callable[[Levels], None]
    on_things: Callable[[list[PlacedThings]], None] | None = None
    makes_masks: bool = True  # and not only decides anchors

    @property
    def is_known(self) -> bool:
        """Whether the cache has all that the network says without hints."""
        return self.cache is not None and self.cache.is_complete

    @property
    def reads(self) -> bool:
        """Whether that is read from the cache; else it is put in."""
        return self.guidance is not None or self.is_known


@dataclass(frozen=True, slots=True)
class _Decided:
    """The masks of a window's anchors, and what they were decided by.

    ``closer`` has what the network says closer, and the mask where nobody looked closer.
    """

    masks: list[Levels]
    scenes: list[Scene]
    log_odds: list[Alpha]
    closer: list[Levels]


class _Window:
    """Frames of one shot that are decided together, from these and from their context.

    ``own`` are the numbers of the frames that get their masks here. Within, frames are counted from
    the start of the context.
    """

    def __init__(self, tools: _Tools, own: range, start: _Block) -> None:
        self.own = own
        self._tools = tools
        self._network = tools.network
        self._tier = tools.tier
        self._threads = tools.threads
        self._guidance = tools.guidance
        self._first = start.first
        self._name = f"{start.first}:{own.start}"  # in the cache
        self._frame_flows = [replace(start.frame_flows[0], to_previous=None)]
        self._anchors: dict[int, _Anchor] = {}
        self._features: dict[int, Features] = {}  # as they came, until there is a basis
        self._projected: dict[int, list[NDArray[np.float16]]] = {}
        self._basis: Basis | None = None
        self._take_anchors(start)

    def take(self, block: _Block) -> None:
        """Add a block that begins with the last frame of this window."""
        first = replace(self._frame_flows[-1], to_next=block.frame_flows[0].to_next)
        self._frame_flows[-1:] = [first, *block.frame_flows[1:]]
        self._take_anchors(block)

    def _take_anchors(self, block: _Block) -> None:
        for number, anchor in block.anchors.items():
            frame = number - self._first
            if frame in self._anchors:
                continue
            self._anchors[frame] = anchor
            if self._tools.reads:
                if number in block.features:
                    self._features[frame] = block.features[number]
                continue
            if self._basis is not None:
                self._projected[frame] = self._basis.project(block.features[number])
                continue
            self._features[frame] = block.features[number]
            if len(self._features) >= BASIS_ANCHORS:
                self._fit_basis()

    def _fit_basis(self) -> None:
        basis = self._basis = Basis.fit(list(self._features.values()))
        for frame, features in self._features.items():
            self._projected[frame] = basis.project(features)
        self._features.clear()

    def masks(self, end: int | None) -> Iterator[Alpha]:
        """The masks of its own frames, up to frame ``end`` of the clip."""
        first = self.own.start - self._first
        stop = min(self.own.stop if end is None else min(end, self.own.stop), self._last + 1)
        stop -= self._first
        if stop <= first:
            return
        frames = sorted(self._anchors)
        self._complete_features()
        masks = self._corrected_masks(frames)
        if self._tools.reads and self._tools.cache is not None:
            self._tools.cache.forget(self._name)
        if not self._tools.makes_masks:
            return
        if self._tools.on_things is not None:
            self._tools.on_things(self._things(frames, masks))
        per_side = self._tier.anchors_per_side
        gaps = [
            gap
            for gap, (frame, after) in enumerate(itertools.pairwise([*frames, stop]))
            if frame < stop and after > first
        ]
        at = frames[gaps[0]]
        for batch in itertools.batched(gaps, 2 * THREADS):
            for some in self._threads.map(
                lambda gap: propagate(gap, self._frame_flows, frames, masks, per_side), batch
            ):
                for alpha in some:
                    if first <= at < stop:
                        yield decided(alpha)
                    at += 1

    def _things(self, frames: list[int], masks: list[Levels]) -> list[PlacedThings]:
        """What is in a mask, or is found by the network, followed from anchor to anchor."""
        grid = _tracks_grid(*masks[0].shape[::-1])
        inside = [resized(mask, *grid) > 127 for mask in masks]
        found = [resized(self._anchors[frame].mean(), *grid) > 127 for frame in frames]
        picked = [np.asarray(a | b) for a, b in zip(inside, found, strict=True)]
        placed = follow(picked, self._links(frames, grid))
        return [
            PlacedThings(self._first + frame, numbers, mask)
            for frame, numbers, mask in zip(frames, placed, inside, strict=True)
        ]

    def _complete_features(self) -> None:
        """The basis, and the features of all anchors in it: from the cache, or into it."""
        cache = self._tools.cache
        if cache is not None and self._tools.reads:
            self._basis = cache.basis(self._name)
            for frame in self._anchors:
                if frame in self._features:
                    self._projected[frame] = self._basis.project(self._features[frame])
                else:
                    self._projected[frame] = cache.levels(self._name, f"features {frame}")
            self._features.clear()
            return
        if self._basis is None:
            self._fit_basis()
        if cache is not None and self._basis is not None:
            cache.keep_basis(self._name, self._basis)
            for frame, levels in self._projected.items():
                cache.keep_levels(self._name, f"features {frame}", levels)

    def _infer_closer(self, frame: int, mask: Levels) -> CloserMask | None:
        picture, cache = self._anchors[frame].picture, self._tools.cache
        if cache is None:
            return infer_closer(self._network, picture, mask)
        place = cache, f"{self._name}/closer {frame}"
        return infer_closer_kept(
            self._network, picture, mask, *place, hinted=self._guidance is not None
        )

    @property
    def _last(self) -> int:
        return self._first + len(self._frame_flows) - 1

    def _closer_anchors(self, frames: list[int]) -> set[int]:
        """The anchors, of those at ``frames``, of which the masks of its own frames are made."""
        beyond = self._tier.anchors_per_side - 1
        own = range(self.own.start - self._first, self.own.stop - self._first)
        before = max((n for n, frame in enumerate(frames) if frame <= own.start), default=0)
        after = next((n for n, frame in enumerate(frames) if frame >= own.stop), len(frames))
        return set(frames[max(0, before - beyond) : after + 1 + beyond])

    def _corrected_masks(self, frames: list[int]) -> list[Levels]:
        """The masks of anchors, corrected by tracks, appearance, verdicts on regions, and hints."""
        keys = [self._anchors[f] for f in frames]
        grid = _tracks_grid(*keys[0].mean().shape[::-1])
        links = self._links(frames, grid)
        lessons = [anchor.lesson for anchor in keys]
        named = self._guidance if self._guidance and self._guidance.names_things else None
        hints = WindowHints(named, lessons, keys[0].hinted, links, grid)
        decided = self._decided(frames, links, hints)
        if self._guidance is None:
            return decided.masks
        return self._with_corrections(keys, decided, links)

    def _decided(
        self, frames: list[int], links: list[dict[int, Link]], hints: WindowHints
    ) -> "_Decided":
        keys = [self._anchors[f] for f in frames]
        means = [anchor.mean() for anchor in keys]
        motions = list(self._threads.map(self._motion, frames))
        small = _tracks_grid(*means[0].shape[::-1])
        nowhere = np.zeros((small[1], small[0], 2), np.float32)
        back = [each[-1].flow if -1 in each else nowhere for each in links]
        opinions = [list(anchor.opinions.values()) for anchor in keys]
        masks = _without_stray_tracks(hints.cleaned(means, opinions), motions, back)
        anchor_features = [
            AnchorFeatures(self._projected[frame], colours(anchor.small), motion)
            for frame, anchor, motion in zip(frames, keys, motions, strict=True)
        ]
        logits = subject_logits(anchor_features, masks, hints.pixels, self._basis)
        remembered = masks
        if logits is not None:
            corrected = list(self._threads.map(correct, masks, logits))
            remembered = _without_stray_tracks(corrected, motions, back)
        planes = logits or [np.zeros(small[::-1], np.float32)] * len(keys)
        scenes = [
            _scene(*each, small)
            for each in zip(keys, remembered, motions, planes, links, strict=True)
        ]
        if logits is None:
            return _Decided(masks, scenes, planes, masks)
        log_odds = hints.applied(self._tools.judge(scenes), scenes)
        opinions = [
            [*anchor.opinions.values(), memory, *(anchor.lesson.closer if anchor.lesson else ())]
            for anchor, memory in zip(keys, remembered, strict=True)
        ]
        masks = list(self._threads.map(compose, opinions, log_odds))
        return self._decided_closer(frames, masks, scenes, log_odds, hints)

    def _decided_closer(
        self,
        frames: list[int],
        masks: list[Levels],
        scenes: list[Scene],
        log_odds: list[Alpha],
        hints: WindowHints,
    ) -> "_Decided":
        """The masks, corrected by a closer look at those anchors that count for its own frames."""
        for frame, plane in zip(frames, hints.planes, strict=False):  # there may be none
            self._anchors[frame].hinted = plane
        inferred = self._closer_anchors(frames)
        closer_masks = list[Levels]()
        for frame, mask in zip(frames, masks, strict=True):
            closer = None
            undecided = uncertainty(as_alpha(mask)) > self._tier.closer_above
            if undecided and frame in inferred:
                closer = self._infer_closer(frame, mask)
            closer_masks.append(mask if closer is None else closer.over(mask))
        rows, columns = scenes[0].motion.shape
        pairs = [
            replace(
                scene,
                opinions={
                    name: resized(levels, columns, rows) * np.float32(1 / 255)
                    for name, levels in ((MASK, mask), (CLOSER, closer))
                },
            )
            for scene, mask, closer in zip(scenes, masks, closer_masks, strict=True)
        ]
        closer_log_odds = hints.applied_again(self._tools.judge_closer(pairs, log_odds))
        decided = list(
            self._threads.map(compose, zip(masks, closer_masks, strict=True), closer_log_odds)
        )
        return _Decided(decided, scenes, closer_log_odds, closer_masks)

    def _with_corrections(
        self, keys: list[_Anchor], decided: "_Decided", links: list[dict[int, Link]]
    ) -> list[Levels]:
        """The masks after the points that mend them; what none reaches stays as it is."""
        if self._guidance is None:
            return decided.masks
        lessons = [anchor.lesson for anchor in keys]
        corrections = WindowCorrections(self._guidance, lessons, keys[0].corrected, links)
        if not corrections.any:
            return decided.masks
        rows, columns = decided.scenes[0].motion.shape
        shown = []
        for k, (scene, anchor) in enumerate(zip(decided.scenes, keys, strict=True)):
            further = [decided.closer[k], *(anchor.lesson.closer if anchor.lesson else ())]
            small = [resized(each, columns, rows) * np.float32(1 / 255) for each in further]
            before = resized(decided.masks[k], columns, rows) * np.float32(1 / 255)
            shown.append(
                Shown(
                    scene.rgb,
                    before,
                    [*scene.opinions.values(), before, *small],
                    scene.logit,
                    decided.log_odds[k],
                    self._projected[self._number_of(anchor)],
                )
            )
        log_odds = corrections.applied(shown)
        masks = []
        for k, (anchor, mask) in enumerate(zip(keys, decided.masks, strict=True)):
            anchor.corrected = corrections.planes[k]
            reached = corrections.reached(k)
            if not reached.any():
                masks.append(mask)
                continue
            also = [*anchor.opinions.values(), mask, decided.closer[k]]
            also += anchor.lesson.closer if anchor.lesson else []
            where = resized(reached.astype(np.float32), *mask.shape[::-1]) > 0
            masks.append(np.where(where, compose(also, log_odds[k]), mask))
        return masks

    def _number_of(self, anchor: _Anchor) -> int:
        return next(frame for frame, each in self._anchors.items() if each is anchor)

    def _links(self, frames: list[int], grid: tuple[int, int]) -> list[dict[int, Link]]:
        """For each anchor the flows to the two before and the two after it, on the tracks' grid."""

        def of(index: int) -> dict[int, Link]:
            found = {}
            for offset in (-2, -1, 1, 2):
                if 0 <= index + offset < len(frames):
                    found[offset] = self._link(frames[index], frames[index + offset], grid)
            return found

        return list(self._threads.map(of, range(len(frames))))

    def _link(self, here: int, there: int, grid: tuple[int, int]) -> Link:
        flow = flow_between(self._frame_flows, here, there)
        trusted = trust(self._frame_flows[here].grey, self._frame_flows[there].grey, flow)
        pictures = self._anchors[here].small, self._anchors[there].small
        held = continuity(*pictures, flow, trusted)
        return Link(resize_flow(flow, *grid), resized(trusted, *grid), resized(held, *grid))

    def _motion(self, frame: int) -> Alpha:
        """The smaller residual of both directions: uncovered areas move in one of them only."""
        frame_flow = self._frame_flows[frame]
        moves = (frame_flow.to_previous, frame_flow.to_next)
        flows = [move.flow for move in moves if move is not None]
        if not flows:
            flows = [np.zeros((*frame_flow.grey.shape, 2), np.float32)]
        residuals = [residual(flow) for flow in flows]
        return np.minimum(residuals[0], residuals[-1])


def _scene(
    anchor: _Anchor,
    memory: Levels,
    motion: Alpha,
    logit: Alpha,
    links: dict[int, Link],
    grid: tuple[int, int],
) -> Scene:
    """An anchor with its opinions, motion, appearance and links, on the tracks' ``grid``."""
    opinions: list[tuple[str, Levels]] = [*anchor.opinions.items(), (MEMORY, memory)]
    return Scene(
        rgb=ArrayImage(anchor.small).rgb(*grid),
        opinions={name: resized(mask, *grid) * np.float32(1 / 255) for name, mask in opinions},
        motion=resized(motion, *grid),
        logit=resized(logit, *grid),
        links=links,
    )


def _without_stray_tracks(
    masks: list[Levels], motions: list[Alpha], back: list[NDArray[np.float32]]
) -> list[Levels]:
    rows, columns = back[0].shape[:2]
    small = [resized(mask, columns, rows) * np.float32(1 / 255) for mask in masks]
    keep = keep_maps(small, motions, back)
    return [
        mask if kept.all() else as_levels(as_alpha(mask) * resized(kept, *mask.shape[::-1]))
        for mask, kept in zip(masks, keep, strict=True)
    ]
