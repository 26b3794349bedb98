"""From pictures to masks that hold still: look at keyframes, remember the subject, carry it to every frame.

One window of a shot is held at a time, on small grids, so memory does not grow with the clip. Within it:
keyframes are chosen (`_Window.add`), wrong parts dropped (`tracks`), the subject's look learned and the masks
corrected by it (`appearance`), and every frame gets the trusted mean of its nearest keyframes (`carry`).
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.ahead import ahead
from foremask.options import Quality
from foremask.pictures import Alpha, Levels, Picture, Rgb
from foremask.vision.appearance import (
    BASIS_KEYFRAMES,
    Basis,
    Look,
    colours,
    correct,
    verdicts,
)
from foremask.vision.carry import Move, Step, carry, flow_between
from foremask.vision.cuts import DELAY_FRAMES, starts_of_shots
from foremask.vision.grids import as_alpha, as_levels, resized
from foremask.vision.motion import FlowFinder, residual, resize_flow, trust, warp
from foremask.vision.opinions import View, ask
from foremask.vision.regions import Link, Scene
from foremask.vision.session import Features, Network
from foremask.vision.still import Still
from foremask.vision.tracks import keep_maps
from foremask.vision.verdict import MEMORY, Judge, compose, decided, judge

WHOLE_VIEWS = (View.STRETCHED, View.MIRRORED)
TRACK_AREA_PX = 427 * 240  # grids are given by their area, and have the picture's aspect
WINDOW_FRAMES = 180  # about 0.5 MB each, and 5 MB more for a keyframe while its window is decided
CONTEXT_FRAMES = 60  # of the window before that are still remembered
# That wait until it is decided which of them are looked at; meanwhile the flow of as many more is found.
BLOCK_FRAMES = 12
LAG_FRAMES = (
    WINDOW_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
)  # at most, between a picture that is drawn and its mask
NEVER = 1.0  # nothing is more unsure than this
THREADS = 2  # for flow and for carrying; the network has its own


@dataclass(frozen=True, slots=True)
class Tier:
    """What a quality spends; docs/quality.md has what each setting gives.

    Keyframes are at most ``stride`` apart; between two whose masks disagree by more than ``doubt`` another
    is put, as long as there are no more than ``keyframes_per_frame`` on average. A keyframe that the network is
    more than ``unsure`` of is looked at in the mirror too. Masks are carried on a grid of ``mask_area_px`` along
    flows found on one of ``flow_area_px``, patch by patch in steps of ``flow_stride_px``; ``reach`` keyframes on
    each side speak for a frame. ``looks_behind``: outlines are settled with what is behind them (`backdrop`).
    ``keeps_frames``: decoded frames may wait for their masks, as long as they are small enough.
    """

    stride: int
    doubt: float
    keyframes_per_frame: float
    unsure: float
    views: tuple[View, ...] = ()
    views_if_unsure: tuple[View, ...] = ()
    reach: int = 1
    mask_area_px: int = 640 * 360
    flow_area_px: int = 384 * 216
    flow_stride_px: int = 3
    looks_behind: bool = False
    keeps_frames: bool = True


TIERS = {
    Quality.FAST: Tier(
        stride=6,
        doubt=0.4,
        keyframes_per_frame=0.21,
        unsure=NEVER,
        flow_area_px=256 * 144,
        flow_stride_px=4,
    ),
    Quality.BALANCED: Tier(
        stride=4,
        doubt=0.4,
        keyframes_per_frame=0.28,
        unsure=0.12,
        views_if_unsure=(View.MIRRORED, View.LETTERBOX, View.CROP),
        looks_behind=True,
    ),
    Quality.BEST: Tier(
        stride=3,
        doubt=0.1,
        keyframes_per_frame=0.5,
        unsure=0.05,
        views=(View.MIRRORED,),
        views_if_unsure=(View.LETTERBOX, View.CROP),
        reach=2,
        mask_area_px=960 * 540,
        looks_behind=True,
        keeps_frames=False,
    ),
}


def mask_pictures(
    pictures: Iterable[Picture],
    network: Network,
    tier: Tier = TIERS[Quality.BALANCED],
    judge: Judge = judge,
) -> Iterator[Alpha]:
    """One mask for each picture, in order, on the tier's grid, which is never larger than the picture.

    All pictures have one size. Runs up to `WINDOW_FRAMES` ahead of what it yields. Nothing of one shot
    shows in another.
    """
    with (
        ThreadPoolExecutor(THREADS) as threads,
        ahead(_moments_of_shots(pictures, tier, threads), BLOCK_FRAMES, "flow") as moments,
    ):
        window: _Window | None = None
        for moment in moments:
            if window is None or moment.starts_shot:
                if window is not None:
                    yield from window.finish()
                window = _Window(network, tier, threads, judge)
            window.add(moment)
            if window.is_full:
                yield from window.advance()
        if window is not None:
            yield from window.finish()


@dataclass(frozen=True, slots=True)
class _Moment:
    """A picture as it comes in, with the way from it to the one before, and from that one to it."""

    picture: Picture
    small: Rgb  # on the flow grid
    step: Step
    way_to_here: Move | None

    @property
    def starts_shot(self) -> bool:
        return self.step.back is None


def _moments_of_shots(
    pictures: Iterable[Picture], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[_Moment]:
    """As `_moments`, with no flow from a shot's first picture to the shot before, nor back."""
    items = (
        (moment, moment.small, moment.step.back.flow if moment.step.back else None)
        for moment in _moments(pictures, tier, threads)
    )
    for moment, starts in starts_of_shots(items):
        if starts:
            yield _Moment(moment.picture, moment.small, Step(moment.step.grey, None, None), None)
        else:
            yield moment


def _moments(
    pictures: Iterable[Picture], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[_Moment]:
    """Flows between neighbours, across cuts too."""
    find_back, find_ahead = FlowFinder(tier.flow_stride_px), FlowFinder(tier.flow_stride_px)
    before: Step | None = None
    for picture in pictures:
        small = picture.rgb(*grid_of(picture, tier.flow_area_px))
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8)
        step, to_here = Step(grey, None, None), None
        if before is not None:
            ahead_later = threads.submit(find_ahead, before.grey, grey)
            back = find_back(grey, before.grey)
            ahead = ahead_later.result()
            step, to_here = Step(grey, Move.of(back, ahead), None), Move.of(ahead, back)
        before = step
        yield _Moment(picture, small, step, to_here)


def grid_of(picture: Picture, area_px: int) -> tuple[int, int]:
    """Columns and rows of about ``area_px`` in the picture's aspect; never more than the picture has."""
    scale = min(1.0, (area_px / (picture.width * picture.height)) ** 0.5)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def unsureness(alpha: Alpha) -> float:
    """How far from 0 and 1 a mask stays, as a share of what it picks: from 0, to 1 where it only doubts."""
    undecided = np.minimum(alpha, 1 - alpha).sum()
    return float(undecided / (alpha.sum() + 0.001 * alpha.size))


@dataclass(slots=True)
class _Keyframe:
    """A frame that the network has looked at."""

    opinions: dict[View, Levels]
    small: Rgb  # on the flow grid
    features: Features | None  # as they came, until the window has a basis
    projected: list[NDArray[np.float16]]

    def mean(self) -> Levels:
        """Of the picture as it is and in the mirror: what the other memory of the subject starts from."""
        pair = [mask for view, mask in self.opinions.items() if view in WHOLE_VIEWS]
        if len(pair) == 1:
            return pair[0]
        return np.asarray(cv2.addWeighted(pair[0], 0.5, pair[1], 0.5, 0), np.uint8)


class _Window:
    """The frames of one shot that are being worked on; frame numbers count from the window's start."""

    def __init__(
        self, network: Network, tier: Tier, threads: ThreadPoolExecutor, judge: Judge
    ) -> None:
        self._judge = judge
        self._network = network
        self._tier = tier
        self._threads = threads
        self._steps: list[Step] = []
        self._keyframes: dict[int, _Keyframe] = {}
        self._waiting: dict[int, _Moment] = {}  # since the last keyframe: may become one
        self._basis: Basis | None = None
        self._emitted = 0
        self._frames_seen = 0
        self._keyframes_seen = 0

    @property
    def is_full(self) -> bool:
        return len(self._steps) >= WINDOW_FRAMES

    def add(self, moment: _Moment) -> None:
        """Take a picture in; look at it if it is time for a keyframe, and then between if need be."""
        frame = len(self._steps)
        if frame:
            last = self._steps[-1]
            self._steps[-1] = Step(last.grey, last.back, moment.way_to_here)
        self._steps.append(moment.step)
        self._waiting[frame] = moment
        self._frames_seen += 1
        if not self._keyframes or frame - max(self._keyframes) >= BLOCK_FRAMES:
            self._look_at_block()

    def finish(self) -> Iterator[Alpha]:
        """The masks of all frames that are left: the shot ends here."""
        if self._waiting:
            self._look_at_block()
        yield from self._masks(len(self._steps))

    def advance(self) -> Iterator[Alpha]:
        """The masks of all frames that have keyframes enough after them; keeps some as memory."""
        spoken_for = max(self._keyframes) - 2 * self._tier.stride
        upto = max(frame for frame in self._keyframes if frame <= spoken_for)
        yield from self._masks(upto)
        self._forget(max(0, upto - CONTEXT_FRAMES))

    def _forget(self, frames: int) -> None:
        self._steps = self._steps[frames:]
        self._steps[0] = Step(self._steps[0].grey, None, self._steps[0].ahead)
        self._keyframes = {f - frames: each for f, each in self._keyframes.items() if f >= frames}
        self._waiting = {f - frames: each for f, each in self._waiting.items()}
        self._emitted -= frames

    def _look_at_block(self) -> None:
        """Look at what waits: in an even rhythm first, then where doubt is greatest, while the tier affords it."""
        last = max(self._waiting)
        first = max(self._keyframes, default=last)
        beats = -(-(last - first) // self._tier.stride)
        rhythm = [first + round(beat * (last - first) / max(1, beats)) for beat in range(beats + 1)]
        for frame in rhythm:
            if frame not in self._keyframes:
                self._look_at(frame)
        gaps: list[tuple[float, int, int]] = []
        for gap in itertools.pairwise(rhythm):
            self._weigh(gaps, *gap)
        while gaps and self._keyframes_seen < self._tier.keyframes_per_frame * self._frames_seen:
            _, before, after = heapq.heappop(gaps)
            middle = (before + after) // 2
            self._look_at(middle)
            self._weigh(gaps, before, middle)
            self._weigh(gaps, middle, after)
        self._waiting.clear()

    def _weigh(self, gaps: list[tuple[float, int, int]], before: int, after: int) -> None:
        """Put the gap between two keyframes among those that deserve a look, most doubtful first."""
        if after - before >= 2:
            doubt = self._doubt(before, after)
            if doubt > self._tier.doubt:
                heapq.heappush(gaps, (-doubt, before, after))

    def _look_at(self, frame: int) -> None:
        moment = self._waiting[frame]
        tier = self._tier
        grid = grid_of(moment.picture, tier.mask_area_px)
        opinions = ask(
            self._network,
            moment.picture,
            grid,
            tier.views,
            tier.views_if_unsure,
            lambda alpha: unsureness(alpha) > tier.unsure,
        )
        features, projected = None, list[NDArray[np.float16]]()
        if self._basis is None:
            features = opinions.features
        else:
            projected = self._basis.project(opinions.features)
        self._keyframes[frame] = _Keyframe(opinions.masks, moment.small, features, projected)
        self._keyframes_seen += 1
        if self._basis is None and len(self._keyframes) >= BASIS_KEYFRAMES:
            self._settle_basis()

    def _settle_basis(self) -> None:
        kept = [key.features for key in self._keyframes.values() if key.features is not None]
        basis = self._basis = Basis.fit(kept)
        for key in self._keyframes.values():
            if key.features is not None:
                key.projected, key.features = basis.project(key.features), None

    def _doubt(self, first: int, last: int) -> float:
        """Share of the subject on which the masks of two keyframes disagree, carried to the middle."""
        middle = (first + last) // 2
        height, width = self._steps[middle].grey.shape
        carried = []
        for frame in (first, last):
            mask = resized(as_alpha(self._keyframes[frame].mean()), width, height)
            carried.append(warp(mask, flow_between(self._steps, middle, frame)))
        either = np.maximum(*carried).sum() + 0.001 * height * width
        return float(np.abs(carried[0] - carried[1]).sum() / either)

    def _masks(self, upto: int) -> Iterator[Alpha]:
        """Decide on the subject over the whole window, then carry it to each frame before keyframe ``upto``."""
        frames = sorted(self._keyframes)
        if self._basis is None:
            self._settle_basis()
        masks = self._remember(frames)
        reach = self._tier.reach
        gaps = [gap for gap, frame in enumerate(frames) if self._emitted <= frame < upto]
        for batch in itertools.batched(gaps, 2 * THREADS):
            for some in self._threads.map(
                lambda gap: carry(gap, self._steps, frames, masks, reach), batch
            ):
                yield from map(decided, some)
        self._emitted = upto

    def _remember(self, frames: list[int]) -> list[Levels]:
        """The keyframes' masks after what the window knows: tracks, look, and a verdict on each region."""
        keys = [self._keyframes[f] for f in frames]
        means = [key.mean() for key in keys]
        motions = list(self._threads.map(self._motion, frames))
        rows, columns = means[0].shape
        scale = min(1.0, (TRACK_AREA_PX / (rows * columns)) ** 0.5)
        small = max(1, round(columns * scale)), max(1, round(rows * scale))
        links = self._links(frames, small)
        nowhere = np.zeros((small[1], small[0], 2), np.float32)
        back = [each[-1].flow if -1 in each else nowhere for each in links]
        masks = _without_strays(means, motions, back)
        looks = [
            Look(key.projected, colours(key.small), motion)
            for key, motion in zip(keys, motions, strict=True)
        ]
        logits = verdicts(looks, masks)
        if logits is None:
            return masks
        corrected = list(self._threads.map(correct, masks, logits))
        remembered = _without_strays(corrected, motions, back)
        scenes = [
            _scene(key, memory, motion, logit, linked, small)
            for key, memory, motion, logit, linked in zip(
                keys, remembered, motions, logits, links, strict=True
            )
        ]
        log_odds = self._judge(scenes)
        opinions = [
            [*key.opinions.values(), memory] for key, memory in zip(keys, remembered, strict=True)
        ]
        return list(self._threads.map(compose, opinions, log_odds))

    def _links(self, frames: list[int], grid: tuple[int, int]) -> list[dict[int, Link]]:
        """For each keyframe the flows to the two before and the two after it, on the tracks' grid."""

        def of(index: int) -> dict[int, Link]:
            found = {}
            for offset in (-2, -1, 1, 2):
                if 0 <= index + offset < len(frames):
                    found[offset] = self._link(frames[index], frames[index + offset], grid)
            return found

        return list(self._threads.map(of, range(len(frames))))

    def _link(self, here: int, there: int, grid: tuple[int, int]) -> Link:
        flow = flow_between(self._steps, here, there)
        trusted = trust(self._steps[here].grey, self._steps[there].grey, flow)
        return Link(resize_flow(flow, *grid), resized(trusted, *grid))

    def _motion(self, frame: int) -> Alpha:
        """The smaller residual of both directions: what was just uncovered moves in one of them only."""
        step = self._steps[frame]
        moves = (step.back, step.ahead)
        flows = [move.flow for move in moves if move is not None]
        if not flows:
            flows = [np.zeros((*step.grey.shape, 2), np.float32)]
        residuals = [residual(flow) for flow in flows]
        return np.minimum(residuals[0], residuals[-1])


def _scene(
    key: _Keyframe,
    memory: Levels,
    motion: Alpha,
    logit: Alpha,
    links: dict[int, Link],
    grid: tuple[int, int],
) -> Scene:
    """What is known of a keyframe, on the tracks' ``grid``."""
    opinions: list[tuple[str, Levels]] = [*key.opinions.items(), (MEMORY, memory)]
    return Scene(
        rgb=Still(key.small).rgb(*grid),
        opinions={name: resized(mask, *grid) * np.float32(1 / 255) for name, mask in opinions},
        motion=resized(motion, *grid),
        logit=resized(logit, *grid),
        links=links,
    )


def _without_strays(
    masks: list[Levels], motions: list[Alpha], back: list[NDArray[np.float32]]
) -> list[Levels]:
    rows, columns = back[0].shape[:2]
    small = [resized(mask, columns, rows) * np.float32(1 / 255) for mask in masks]
    keep = keep_maps(small, motions, back)
    return [
        mask if kept.all() else as_levels(as_alpha(mask) * resized(kept, *mask.shape[::-1]))
        for mask, kept in zip(masks, keep, strict=True)
    ]
