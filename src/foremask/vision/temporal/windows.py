"""Steady masks for a stream of images: infer anchors, correct them, propagate them to all frames.

One window of a shot is held at a time, on small grids, so memory does not grow with the clip. In
it, anchors are chosen (`_Window.add`), stray parts dropped (`tracks`), the subject's appearance
learned and the masks corrected by it (`appearance`), and each frame gets the mean of its nearest
anchors, weighted by trust (`propagate`).
"""

import heapq
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.options import Quality
from foremask.types import Alpha, Image, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import NEVER, Opinions, View, ask
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
from foremask.vision.temporal.cuts import DELAY_FRAMES, starts_of_shots
from foremask.vision.temporal.flow import FlowEstimator, residual, resize_flow, trust, warp
from foremask.vision.temporal.guidance import Guidance, WindowHints
from foremask.vision.temporal.lesson import Lesson, Mark, lesson_of
from foremask.vision.temporal.propagation import FrameFlow, PackedFlow, flow_between, propagate
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.tracks import keep_maps
from foremask.vision.temporal.verdict import MEMORY, Judge, compose, decided, judge

TRACK_AREA_PX = 427 * 240  # grids are given by their area, and have the picture's aspect
WINDOW_FRAMES = 180  # about 0.5 MB each, and 5 MB more for an anchor while its window is in work
CONTEXT_FRAMES = 60  # of the previous window that are kept as context
# Frames that wait until their anchors are chosen; flow of as many more is estimated meanwhile.
BLOCK_FRAMES = 12
LAG_FRAMES = (
    WINDOW_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
)  # at most, between an image that is read and its mask
PICTURE_AREA_PX = 1280 * 720  # of an anchor, kept until the network has looked closer
THREADS = 2  # for flow and propagation; the network has its own


@dataclass(frozen=True, slots=True)
class Tier:
    """What a quality spends; docs/quality.md has what each setting gives.

    Anchors are at most ``stride`` apart; between two whose masks disagree by more than
    ``disagreement`` another is inferred, up to ``anchors_per_frame`` on average. An anchor with an
    uncertainty above ``mirrored_above`` is inferred in the mirror too. Masks are propagated on a
    grid of ``mask_area_px`` along flows estimated on one of ``flow_area_px``, with patches
    ``flow_stride_px`` apart, from ``anchors_per_side`` anchors on each side. ``uses_backdrop``:
    outlines use the background behind them (`backdrop`). ``keeps_frames``: decoded frames may wait
    for their masks where memory allows.
    """

    stride: int
    disagreement: float
    anchors_per_frame: float
    mirrored_above: float = NEVER
    anchors_per_side: int = 1
    mask_area_px: int = 640 * 360
    flow_area_px: int = 384 * 216
    flow_stride_px: int = 3
    uses_backdrop: bool = False
    keeps_frames: bool = True


TIERS = {
    Quality.FAST: Tier(
        stride=6,
        disagreement=0.4,
        anchors_per_frame=0.17,
        flow_area_px=256 * 144,
        flow_stride_px=4,
    ),
    Quality.BALANCED: Tier(
        stride=4,
        disagreement=0.4,
        anchors_per_frame=0.28,
        mirrored_above=0.12,
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
) -> Iterator[Alpha]:
    """One mask for each image, in order, on the tier's grid, which is never larger than the image.

    All images have one size. The first mask comes at most `LAG_FRAMES` after its image. Masks never
    mix frames of two shots. ``guidance`` is what a person has said of some of the images.
    """
    with (
        ThreadPoolExecutor(THREADS) as threads,
        prefetch(_with_shots(images, tier, threads), BLOCK_FRAMES, "flow") as arriving,
    ):
        window: _Window | None = None
        for incoming in arriving:
            if window is None or incoming.starts_shot:
                if window is not None:
                    yield from window.finish()
                window = _Window(network, tier, threads, judge, judge_closer, guidance)
            window.add(incoming)
            if window.is_full:
                yield from window.advance()
        if window is not None:
            yield from window.finish()


@dataclass(frozen=True, slots=True)
class _IncomingFrame:
    """An image with the flow to the previous one, and from the previous one to it."""

    image: Image
    small: Rgb  # on the flow grid
    frame_flow: FrameFlow
    flow_from_previous: PackedFlow | None

    @property
    def starts_shot(self) -> bool:
        return self.frame_flow.to_previous is None


def _with_shots(
    images: Iterable[Image], tier: Tier, threads: ThreadPoolExecutor
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
            yield _IncomingFrame(
                incoming.image,
                incoming.small,
                FrameFlow(incoming.frame_flow.grey, None, None),
                None,
            )
        else:
            yield incoming


def _with_flow(
    images: Iterable[Image], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[_IncomingFrame]:
    """Flows between neighbours, across cuts too."""
    estimate_back, estimate_forward = (
        FlowEstimator(tier.flow_stride_px),
        FlowEstimator(tier.flow_stride_px),
    )
    before: FrameFlow | None = None
    for image in images:
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
        yield _IncomingFrame(image, small, frame_flow, to_here)


def learn(
    hinted: Iterable[tuple[Hashable, Image, Sequence[Mark]]],
    network: Network,
    tier: Tier,
    key_of: Callable[[Image], Hashable],
) -> Guidance:
    """Infer the hinted images and settle what each mark claims; ``key_of`` finds them again."""
    lessons: dict[Hashable, Lesson] = {}
    for key, image, marks in hinted:
        grid = grid_of(image, tier.mask_area_px)
        lessons[key] = lesson_of(image, marks, network, grid, _tracks_grid(*grid))
    return Guidance(lessons, key_of)


def _tracks_grid(columns: int, rows: int) -> tuple[int, int]:
    scale = min(1.0, (TRACK_AREA_PX / (rows * columns)) ** 0.5)
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def grid_of(image: Image, area_px: int) -> tuple[int, int]:
    """Columns and rows of about ``area_px`` in the image's aspect; never more than it has."""
    scale = min(1.0, (area_px / (image.width * image.height)) ** 0.5)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


@dataclass(slots=True)
class _Anchor:
    """A frame that the network has segmented."""

    opinions: dict[View, Levels]
    small: Rgb  # on the flow grid
    features: Features | None  # as they came, until the window has a basis
    projected: list[NDArray[np.float16]]
    picture: Image | None  # until the network has looked closer
    closer: CloserMask | None = None
    lesson: Lesson | None = None  # what a person said of it
    hinted: Alpha | None = None  # log odds by all hints of the window that decided it last

    def mean(self) -> Levels:
        """The mean of the stretched and the mirrored opinion: the classifier is trained on it."""
        stretched = self.opinions[View.STRETCHED]
        if View.MIRRORED not in self.opinions:
            return stretched
        mean = cv2.addWeighted(stretched, 0.5, self.opinions[View.MIRRORED], 0.5, 0)
        return np.asarray(mean, np.uint8)


class _Window:
    """The frames of one shot that are in work; frame numbers count from the window's start."""

    def __init__(
        self,
        network: Network,
        tier: Tier,
        threads: ThreadPoolExecutor,
        judge: Judge,
        judge_closer: CloserJudge,
        guidance: Guidance | None,
    ) -> None:
        self._judge = judge
        self._judge_closer = judge_closer
        self._guidance = guidance
        self._network = network
        self._tier = tier
        self._threads = threads
        self._frame_flows: list[FrameFlow] = []
        self._anchors: dict[int, _Anchor] = {}
        self._waiting: dict[int, _IncomingFrame] = {}  # since the last anchor: may become one
        self._basis: Basis | None = None
        self._emitted = 0
        self._frame_count = 0
        self._anchor_count = 0

    @property
    def is_full(self) -> bool:
        return len(self._frame_flows) >= WINDOW_FRAMES

    def add(self, incoming: _IncomingFrame) -> None:
        """Add a frame; every `BLOCK_FRAMES`, choose anchors among those that wait."""
        frame = len(self._frame_flows)
        if frame:
            last = self._frame_flows[-1]
            self._frame_flows[-1] = FrameFlow(
                last.grey, last.to_previous, incoming.flow_from_previous
            )
        self._frame_flows.append(incoming.frame_flow)
        self._waiting[frame] = incoming
        self._frame_count += 1
        if not self._anchors or frame - max(self._anchors) >= BLOCK_FRAMES:
            self._infer_block()

    def finish(self) -> Iterator[Alpha]:
        """The masks of all frames that are left: the shot ends here."""
        if self._waiting:
            self._infer_block()
        yield from self._masks(len(self._frame_flows))

    def advance(self) -> Iterator[Alpha]:
        """The masks of all frames with enough anchors after them; some frames stay as context."""
        decided_until = max(self._anchors) - 2 * self._tier.stride
        upto = max(frame for frame in self._anchors if frame <= decided_until)
        yield from self._masks(upto)
        self._drop_frames(max(0, upto - CONTEXT_FRAMES))

    def _drop_frames(self, frames: int) -> None:
        self._frame_flows = self._frame_flows[frames:]
        self._frame_flows[0] = FrameFlow(
            self._frame_flows[0].grey, None, self._frame_flows[0].to_next
        )
        self._anchors = {f - frames: each for f, each in self._anchors.items() if f >= frames}
        self._waiting = {f - frames: each for f, each in self._waiting.items()}
        self._emitted -= frames

    def _infer_block(self) -> None:
        """Infer waiting frames: evenly spaced, then where masks disagree, as the tier allows."""
        last = max(self._waiting)
        first = max(self._anchors, default=last)
        intervals = -(-(last - first) // self._tier.stride)
        regular = [
            first + round(interval * (last - first) / max(1, intervals))
            for interval in range(intervals + 1)
        ]
        regular = sorted({*regular, *self._hinted(first, last)})
        for frame in regular:
            if frame not in self._anchors:
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
        self._waiting.clear()

    def _hinted(self, first: int, last: int) -> Iterator[int]:
        """The waiting frames of which a person has said something."""
        if self._guidance is not None:
            for frame, incoming in self._waiting.items():
                if first <= frame <= last and self._guidance.lesson(incoming.image) is not None:
                    yield frame

    def _queue_gap(self, gaps: list[tuple[float, int, int]], before: int, after: int) -> None:
        """Queue the gap between two anchors for inference, largest disagreement first."""
        if after - before >= 2:
            disagreement = self._disagreement(before, after)
            if disagreement > self._tier.disagreement:
                heapq.heappush(gaps, (-disagreement, before, after))

    def _infer(self, frame: int) -> None:
        incoming = self._waiting[frame]
        tier = self._tier
        grid = grid_of(incoming.image, tier.mask_area_px)
        lesson = None if self._guidance is None else self._guidance.lesson(incoming.image)
        opinions = (
            ask(self._network, incoming.image, grid, tier.mirrored_above)
            if lesson is None
            else Opinions(lesson.opinions, lesson.features)
        )
        features, projected = None, list[NDArray[np.float16]]()
        if self._basis is None:
            features = opinions.features
        else:
            projected = self._basis.project(opinions.features)
        picture = incoming.image.rgb(*grid_of(incoming.image, PICTURE_AREA_PX))
        self._anchors[frame] = _Anchor(
            opinions.masks,
            incoming.small,
            features,
            projected,
            ArrayImage(picture),
            lesson=lesson,
        )
        self._anchor_count += 1
        if self._basis is None and len(self._anchors) >= BASIS_ANCHORS:
            self._fit_basis()

    def _fit_basis(self) -> None:
        kept = [anchor.features for anchor in self._anchors.values() if anchor.features is not None]
        basis = self._basis = Basis.fit(kept)
        for anchor in self._anchors.values():
            if anchor.features is not None:
                anchor.projected, anchor.features = basis.project(anchor.features), None

    def _disagreement(self, first: int, last: int) -> float:
        """The share of the subject on which two anchors disagree in the frame between them."""
        middle = (first + last) // 2
        height, width = self._frame_flows[middle].grey.shape
        propagated = []
        for frame in (first, last):
            mask = resized(as_alpha(self._anchors[frame].mean()), width, height)
            propagated.append(warp(mask, flow_between(self._frame_flows, middle, frame)))
        either = np.maximum(*propagated).sum() + 0.001 * height * width
        return float(np.abs(propagated[0] - propagated[1]).sum() / either)

    def _masks(self, upto: int) -> Iterator[Alpha]:
        """Correct the anchors over the window, then propagate them to frames before ``upto``."""
        frames = sorted(self._anchors)
        if self._basis is None:
            self._fit_basis()
        masks = self._corrected_masks(frames)
        anchors_per_side = self._tier.anchors_per_side
        gaps = [gap for gap, frame in enumerate(frames) if self._emitted <= frame < upto]
        for batch in itertools.batched(gaps, 2 * THREADS):
            for some in self._threads.map(
                lambda gap: propagate(gap, self._frame_flows, frames, masks, anchors_per_side),
                batch,
            ):
                yield from map(decided, some)
        self._emitted = upto

    def _corrected_masks(self, frames: list[int]) -> list[Levels]:
        """The masks of anchors, corrected by tracks, appearance, and a verdict on each region."""
        keys = [self._anchors[f] for f in frames]
        means = [anchor.mean() for anchor in keys]
        motions = list(self._threads.map(self._motion, frames))
        rows, columns = means[0].shape
        small = _tracks_grid(columns, rows)
        links = self._links(frames, small)
        nowhere = np.zeros((small[1], small[0], 2), np.float32)
        back = [each[-1].flow if -1 in each else nowhere for each in links]
        lessons = [anchor.lesson for anchor in keys]
        hints = WindowHints(self._guidance, lessons, keys[0].hinted, links, small)
        opinions = [list(anchor.opinions.values()) for anchor in keys]
        masks = _without_stray_tracks(hints.cleaned(means, opinions), motions, back)
        anchor_features = [
            AnchorFeatures(anchor.projected, colours(anchor.small), motion)
            for anchor, motion in zip(keys, motions, strict=True)
        ]
        logits = subject_logits(anchor_features, masks, hints.pixels, self._basis)
        if logits is None:
            return masks
        corrected = list(self._threads.map(correct, masks, logits))
        remembered = _without_stray_tracks(corrected, motions, back)
        scenes = [
            _scene(anchor, memory, motion, logit, linked, small)
            for anchor, memory, motion, logit, linked in zip(
                keys, remembered, motions, logits, links, strict=True
            )
        ]
        log_odds = hints.applied(self._judge(scenes), scenes)
        opinions = [
            [*anchor.opinions.values(), memory, *(anchor.lesson.closer if anchor.lesson else ())]
            for anchor, memory in zip(keys, remembered, strict=True)
        ]
        masks = list(self._threads.map(compose, opinions, log_odds))
        return self._corrected_closer(keys, masks, scenes, log_odds, hints)

    def _corrected_closer(
        self,
        anchors: list[_Anchor],
        masks: list[Levels],
        scenes: list[Scene],
        log_odds: list[Alpha],
        hints: WindowHints,
    ) -> list[Levels]:
        """The masks, corrected by a closer look at each anchor."""
        for anchor, plane in zip(anchors, hints.planes, strict=False):  # there may be none
            anchor.hinted = plane
        for anchor, mask in zip(anchors, masks, strict=True):
            if anchor.picture is not None:
                anchor.closer = infer_closer(self._network, anchor.picture, mask)
                anchor.picture = None
        closer_masks = [
            mask if anchor.closer is None else anchor.closer.over(mask)
            for anchor, mask in zip(anchors, masks, strict=True)
        ]
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
        closer_log_odds = hints.applied_again(self._judge_closer(pairs, log_odds))
        return list(
            self._threads.map(compose, zip(masks, closer_masks, strict=True), closer_log_odds)
        )

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
        return Link(resize_flow(flow, *grid), resized(trusted, *grid))

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
