"""Masks a stream of images, window by window: ask, decide, apply hints, propagate.

A window of frames begins at a multiple of `WINDOW_FRAMES` or at a cut. Its anchors are decided
together with those in the `CONTEXT_FRAMES` before and after it. Other frames change its masks only
by hints. So a window read with only its context gets the same masks as in the clip (docs/adr/0157).
"""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from foremask.facts import SEGMENT_GRID
from foremask.machine import stopwatch
from foremask.options import Quality
from foremask.types import Alpha, Image
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import Features, Network
from foremask.vision.network.opinions import View
from foremask.vision.prefetch import StoppedError, prefetch, stoppable
from foremask.vision.temporal.anchors import Tools, Window, links_between
from foremask.vision.temporal.appearance import Appearance
from foremask.vision.temporal.blocks import Blocks
from foremask.vision.temporal.cuts import DELAY_FRAMES, IncomingFrame, incoming_frames
from foremask.vision.temporal.decision import decide, is_decided
from foremask.vision.temporal.frame_hints import Guidance
from foremask.vision.temporal.grids import MaskAlpha, MaskLevels, RegionPlane, grid_of
from foremask.vision.temporal.guidance import Evidence, apply_hints
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.propagation import propagate
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import BLOCK_FRAMES, CONTEXT_FRAMES, TIERS, Tier
from foremask.vision.temporal.verdict import Judge, hardened, judge, outline_px

WINDOW_FRAMES = SEGMENT_GRID.window_frames
LAG_FRAMES = WINDOW_FRAMES + CONTEXT_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
"""At most this many images are read after an image before its mask is yielded."""
THREADS = 2  # for flow and propagation; the network has its own threads

type EvidenceByFrame = Mapping[int, Evidence]


def mask_images(
    images: Iterable[Image],
    network: Network,
    tier: Tier = TIERS[Quality.BALANCED],
    judge: Judge = judge,
    guidance: Guidance | None = None,
    is_wanted: Callable[[Image], bool] = lambda _: True,
    cache: NetworkCache | None = None,
    observer: Observer | None = None,
    flows_ahead: int = BLOCK_FRAMES,
    *,
    learns_appearance: bool = True,
) -> Iterator[MaskAlpha]:
    """Yield one mask for each image, in order, on the grid of `Tier.mask_area_px`.

    All images have one size. A mask comes at most `LAG_FRAMES` images after its own image.

    The wanted images, for which ``is_wanted`` is true, are consecutive. Images before and after
    them are context, and get empty masks. A span of a clip between two multiples of `WINDOW_FRAMES`
    gets the same masks as in the clip, if ``context_frames`` of `SEGMENT_GRID` are on both sides.

    ``cache`` has the network's results of an earlier run over the same images, also of one that
    was stopped, or gets those of this run; masks are the same without it. At most ``flows_ahead``
    images wait with their flow while the network runs. Without ``learns_appearance``, no classifier
    is trained, and the logits that ``judge`` gets are 0.
    """
    with (
        ThreadPoolExecutor(
            THREADS, initializer=stopwatch.join, initargs=(stopwatch.current(),)
        ) as threads,
        prefetch(
            incoming_frames(images, is_wanted, tier, threads), flows_ahead, "flow"
        ) as arriving,
    ):
        tools = Tools(
            network=network,
            tier=tier,
            judge=judge,
            learns_appearance=learns_appearance,
            guidance=guidance,
            cache=cache or NetworkCache(),
            threads=threads,
            observer=observer or Observer(),
        )
        yield from _masks_of_clip(arriving, tools)


def _masks_of_clip(arriving: Iterable[IncomingFrame], tools: Tools) -> Iterator[MaskAlpha]:
    shot: _Shot | None = None
    evidence: EvidenceByFrame = {}
    end: int | None = None  # number of the first image after the wanted images
    after = 0
    try:
        for incoming in arriving:
            number = incoming.number
            if number < 0:
                yield _empty_mask(incoming.image, tools.tier)
            elif not incoming.is_wanted:
                after += 1
                if end is None:
                    end = number
            if number < -CONTEXT_FRAMES or (end is not None and number > end + CONTEXT_FRAMES):
                continue
            if shot is None or incoming.frame_flow.to_previous is None:
                if shot is not None:
                    yield from _masks_of_windows(shot.rest(is_last=False), evidence, end, tools)
                shot = _Shot(tools, incoming)
                evidence = {}
            else:
                complete = shot.add(incoming)
                evidence = yield from _masks_of_windows(complete, evidence, end, tools)
        if shot is not None:
            yield from _masks_of_windows(shot.rest(is_last=True), evidence, end, tools)
            if tools.learns_appearance:
                tools.cache.finish()
        if after:
            yield from itertools.repeat(_empty_mask(incoming.image, tools.tier), after)
    except (StoppedError, GeneratorExit):
        if shot is not None:
            shot.keep()
        raise


def _empty_mask(image: Image, tier: Tier) -> MaskAlpha:
    return np.zeros(grid_of(image, tier.mask_area_px).shape, np.float32)


class _Shot:
    """Asks the network about the frames of a shot, and yields its windows in order."""

    def __init__(self, tools: Tools, first: IncomingFrame) -> None:
        self._cache = tools.cache
        self._open = _OpenWindows(tools.cache)
        here = first.number // WINDOW_FRAMES
        self._open.add(here, first.number)
        if first.number >= (here + 1) * WINDOW_FRAMES - CONTEXT_FRAMES:
            self._open.add(here + 1, first.number)
        # Blocks know the open windows and not the shot: a reference cycle would delay freeing them.
        self._blocks = Blocks(
            tools, first, self._open.collect, self._open.repeat, self._open.kept_opinions
        )

    def add(self, incoming: IncomingFrame) -> Iterator[Window]:
        """Add a frame; yield the window whose anchors have all been asked with it, if any.

        The window is open until the next one is wanted, so that `keep` knows it meanwhile.
        """
        at = incoming.number
        opens_window = at % WINDOW_FRAMES == WINDOW_FRAMES - CONTEXT_FRAMES
        if opens_window:
            self._open.add(at // WINDOW_FRAMES + 1, at)
        if not self._blocks.add(incoming):
            return
        if opens_window or at % WINDOW_FRAMES == 0:
            self._blocks.restart_budget()  # every window gets the same budget of anchors
        windows = self._open.windows
        if windows[0].own.stop + CONTEXT_FRAMES == at:
            yield self._asked(windows[0])
            del windows[0]
            self._blocks.forget(windows[0].first)

    def rest(self, *, is_last: bool) -> Iterator[Window]:
        """End the shot and yield its other windows; the last two of a clip are one."""
        self._blocks.finish()
        windows = self._open.windows
        if is_last and len(windows) > 1:
            last = windows.pop()
            windows[0] = replace(windows[0], own=range(windows[0].own.start, last.own.stop))
        for window in windows:
            yield self._asked(window)

    def keep(self) -> None:
        """Keep what the next run needs to decide the undecided windows without the network."""
        for window in self._open.windows:
            if not is_decided(window.name, self._cache):
                window.appearance.keep()

    def _asked(self, window: "_OpenWindow") -> Window:
        steps = {at: each for at, each in self._blocks.steps.items() if at >= window.first}
        frames = sorted(at for at in self._blocks.anchors if at >= window.first)
        anchors = {at: self._blocks.anchors[at] for at in frames}
        return Window(
            name=window.name,
            own=window.own,
            grids=self._blocks.grids,
            steps=steps,
            anchors=anchors,
            appearance=window.appearance,
        )


@dataclass(frozen=True, slots=True)
class _OpenWindow:
    """A window, from frame ``first`` on, whose frames arrive; it makes the masks of ``own``."""

    name: str
    first: int
    own: range
    appearance: Appearance


class _OpenWindows:
    """The open windows of a shot; a frame near the border of two windows is in both."""

    def __init__(self, cache: NetworkCache) -> None:
        self._cache = cache
        self.windows: list[_OpenWindow] = []

    def add(self, number: int, first: int) -> None:
        if number >= 0:
            own = range(max(first, number * WINDOW_FRAMES), (number + 1) * WINDOW_FRAMES)
            name = f"{first}:{own.start}"
            appearance = Appearance(name, self._cache.unfinished)
            self.windows.append(_OpenWindow(name, first, own, appearance))

    def collect(self, frame: int, features: Features) -> None:
        """Give the network's features of a frame to the classifiers of its windows."""
        for window in self._around(frame):
            window.appearance.learn(frame, features)

    def repeat(self, frame: int, before: int) -> bool:
        """Give a frame the features of one that it repeats; False if a window of it lacks them."""
        around = self._around(frame)
        if not all(window.appearance.knows(before) for window in around):
            return False
        for window in around:
            window.appearance.repeat(frame, before)
        return True

    def kept_opinions(self, frame: int) -> dict[View, MaskLevels]:
        """An earlier run's opinions of a frame; none if a classifier still needs its features."""
        around = self._around(frame)
        if any(is_decided(window.name, self._cache) for window in around):
            self._cache.kept(f"{frame}/{View.STRETCHED}")  # raises if the anchor is missing
        for window in around:
            if not (is_decided(window.name, self._cache) or window.appearance.recall(frame)):
                return {}
        return self._cache.opinions(f"{frame}")

    def _around(self, frame: int) -> list[_OpenWindow]:
        return [window for window in self.windows if frame >= window.first]


def _masks_of_windows(
    windows: Iterable[Window], evidence: EvidenceByFrame, end: int | None, tools: Tools
) -> Generator[MaskAlpha, None, EvidenceByFrame]:
    """Yield the masks before frame ``end``, and return the evidence of the last window.

    ``evidence`` is that of the window before the first.
    """
    for window in windows:
        evidence = yield from _masks_of_window(window, evidence, end, tools)
    return evidence


def _masks_of_window(
    window: Window, earlier: EvidenceByFrame, end: int | None, tools: Tools
) -> Generator[MaskAlpha, None, EvidenceByFrame]:
    stop = min(window.own.stop, max(window.steps) + 1)
    if end is not None:
        stop = min(stop, end)
    if stop <= window.own.start:
        return {}
    masks, evidence = _masks_of_anchors(window, earlier, stop, tools)
    for alpha in _propagated(window, masks, stop, tools):
        yield hardened(alpha)
    return evidence


def _masks_of_anchors(
    window: Window, earlier: EvidenceByFrame, stop: int, tools: Tools
) -> tuple[Mapping[int, MaskLevels], EvidenceByFrame]:
    """The masks of the anchors, by frame, and the evidence on those of the next window too."""
    decisions = decide(window, tools)
    plain = {frame: decision.mask for frame, decision in decisions.items()}
    unchanged = {frame: plain[frame] for frame in window.asked()}  # no anchors added for hints
    if tools.guidance is None:
        tools.observer.decide_to(stop, partial(_foreground, window, plain, plain, {}, tools))
        return unchanged, {}
    before = earlier.get(min(window.anchors))
    hinted = apply_hints(window, decisions, tools.guidance, before, tools)
    shared_from = window.own.stop - CONTEXT_FRAMES
    evidence = {frame: each for frame, each in hinted.evidence.items() if frame >= shared_from}
    foreground = partial(_foreground, window, plain)
    if not hinted.changed:
        tools.observer.decide_to(stop, partial(foreground, plain, hinted.choices, tools))
        return unchanged, evidence
    tools.observer.decide_to(stop, partial(foreground, hinted.masks, hinted.choices, tools))
    return hinted.masks, evidence


def _propagated(
    window: Window, masks: Mapping[int, MaskLevels], stop: int, tools: Tools
) -> Iterator[Alpha]:
    """Propagate the masks of anchors to the window's own frames before ``stop``."""
    first = window.own.start
    ends = itertools.pairwise([*masks, stop])
    gaps = [frame for frame, after in ends if frame < stop and after > first]
    per_side = tools.tier.anchors_per_side
    between = partial(
        propagate,
        steps=window.steps,
        masks=masks,
        per_side=per_side,
        outline_px=outline_px(window.grids.mask.shape),
    )
    numbers = itertools.count(gaps[0])
    for batch in itertools.batched(gaps, 2 * THREADS):
        for alpha in itertools.chain.from_iterable(tools.threads.map(between, batch)):
            if first <= next(numbers) < stop:
                yield alpha


def _foreground(
    window: Window,
    plain: Mapping[int, MaskLevels],
    masks: Mapping[int, MaskLevels],
    choices: Mapping[int, RegionPlane],
    tools: Tools,
) -> list[PickedAnchor]:
    """The foreground of each anchor: of its mask, without hints too, and of the network."""
    grid = window.grids.region
    result = []
    links_of_anchors = links_between(window, list(masks), tools.threads)
    for frame, links in stoppable(zip(masks, links_of_anchors, strict=True)):
        anchor = window.anchors[frame]
        inside = grid.resized(masks[frame]) > 127
        picked = inside | (grid.resized(plain[frame]) > 127)
        if anchor.opinions:
            picked |= grid.resized(anchor.mean()) > 127
        result.append(PickedAnchor(frame, picked, inside, links, choices.get(frame)))
    return result
