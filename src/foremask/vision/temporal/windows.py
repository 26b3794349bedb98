"""Masks a stream of images: runs the network on some (anchors), and propagates the masks to all.

A window of frames begins at a multiple of `WINDOW_FRAMES` or at a cut. Its anchors are decided
together with those in the `CONTEXT_FRAMES` before and after it. Other frames change its masks only
by hints. So a window read with only its context gets the same masks as in the clip (docs/adr/0157).
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from foremask.facts import SEGMENT_GRID
from foremask.options import Quality
from foremask.types import Alpha, Image, Levels
from foremask.vision.image import ArrayImage
from foremask.vision.network.network_cache import KeptAnswers, NetworkCache, check_planes
from foremask.vision.network.opinions import CLOSER_PX, View, box_round_subject, cropped_box
from foremask.vision.network.session import Features, Network
from foremask.vision.prefetch import StoppedError, prefetch
from foremask.vision.resample import alpha_on, as_levels, resized
from foremask.vision.temporal.appearance import GRID, Appearance
from foremask.vision.temporal.blocks import Anchor, Blocks, Tools
from foremask.vision.temporal.correction import Shown
from foremask.vision.temporal.cuts import DELAY_FRAMES, IncomingFrame, incoming_frames
from foremask.vision.temporal.flow import chroma, continuity, luma, resize_flow, trust, warp
from foremask.vision.temporal.frame_hints import FrameHints, Mark, settle
from foremask.vision.temporal.guidance import Guidance, hinted_window, with_hints
from foremask.vision.temporal.places import OUTLINE_PX, Place, grown, tracks_grid
from foremask.vision.temporal.propagation import flow_between, motion_of, propagate
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import BLOCK_FRAMES, CONTEXT_FRAMES, TIERS, Tier, grid_of
from foremask.vision.temporal.verdict import Judge, compose, decided, judge

WINDOW_FRAMES = SEGMENT_GRID.window_frames
LAG_FRAMES = WINDOW_FRAMES + CONTEXT_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
"""At most this many images are read after an image before its mask is yielded."""
THREADS = 2  # for flow and propagation; the network has its own threads


def mask_images(
    images: Iterable[Image],
    network: Network,
    tier: Tier = TIERS[Quality.BALANCED],
    judge: Judge = judge,
    guidance: Guidance | None = None,
    is_wanted: Callable[[Image], bool] = lambda _: True,
    cache: NetworkCache | None = None,
    on_anchor: Callable[[Levels], None] = lambda _: None,
    on_picked: Callable[[list[PickedAnchor]], None] | None = None,
    on_asked: Callable[[int], None] = lambda _: None,
    on_decided: Callable[[int], None] = lambda _: None,
    flows_ahead: int = BLOCK_FRAMES,
) -> Iterator[Alpha]:
    """Yield one mask for each image, in order, on the grid of `Tier.mask_area_px`.

    All images have one size. A mask comes at most `LAG_FRAMES` images after its own image.

    The wanted images, for which ``is_wanted`` is true, are consecutive. Images before and after
    them are context, and get empty masks. A span of a clip between two multiples of `WINDOW_FRAMES`
    gets the same masks as in the clip, if ``context_frames`` of `SEGMENT_GRID` are on both sides.

    ``cache`` has the network's results of an earlier run over the same images, also of one that
    was stopped, or gets those of this run; masks are the same without it. ``on_anchor`` gets the
    mean of an anchor's masks by the network, and ``on_picked`` gets the foreground of a window's
    anchors. ``on_asked`` gets a frame number before which the network is done, and ``on_decided``
    gets one before which all anchors are decided. At most ``flows_ahead`` images wait with their
    flow while the network runs.
    """
    with (
        ThreadPoolExecutor(THREADS) as threads,
        prefetch(
            incoming_frames(images, is_wanted, tier, threads), flows_ahead, "flow"
        ) as arriving,
    ):
        kept, heard = cache or NetworkCache(), (on_anchor, on_picked, on_asked, on_decided)
        tools = Tools(network, tier, threads, judge, guidance, kept, *heard)
        yield from _masks_of_shots(arriving, tools)


def _masks_of_shots(arriving: Iterable[IncomingFrame], tools: Tools) -> Iterator[Alpha]:
    shot: _Shot | None = None
    end: int | None = None  # number of the first image after the wanted images
    after = 0
    try:
        for incoming in arriving:
            number = incoming.number
            if number < 0:
                yield _empty_mask(incoming.image, tools.tier)
            elif not incoming.is_wanted:
                after += 1
                end = number if end is None else end
            if number < -CONTEXT_FRAMES or (end is not None and number > end + CONTEXT_FRAMES):
                continue
            if shot is None or incoming.frame_flow.to_previous is None:
                if shot is not None:
                    yield from shot.finish(end, is_last=False)
                shot = _Shot(tools, incoming)
            else:
                yield from shot.add(incoming, end)
        if shot is not None:
            yield from shot.finish(end, is_last=True)
        if after:
            yield from itertools.repeat(_empty_mask(incoming.image, tools.tier), after)
    except (StoppedError, GeneratorExit):
        if shot is not None:
            shot.keep()
        raise


def _empty_mask(image: Image, tier: Tier) -> Alpha:
    return np.zeros(grid_of(image, tier.mask_area_px)[::-1], np.float32)


def learn(
    hinted: Iterable[tuple[Hashable, Image, Sequence[Mark]]],
    network: Network,
    tier: Tier,
    key_of: Callable[[Image], Hashable],
    cache: NetworkCache | None = None,
) -> Guidance:
    """Run the network on the hinted images, and decide which points are corrections."""
    kept, frames = cache or NetworkCache(), {}
    for key, image, marks in hinted:
        network_once = KeptAnswers(kept, f"{key}", network)
        frames[key] = FrameHints(image, marks, network_once, grid_of(image, tier.mask_area_px))
    settle(frames.values())
    return Guidance(frames, key_of)


class _Shot:
    """The undecided windows of a shot; a frame near the border of two windows is in both."""

    def __init__(self, tools: Tools, first: IncomingFrame) -> None:
        self._tools = tools
        windows: list[_Window] = []
        self._windows = windows
        here = first.number // WINDOW_FRAMES
        self._open(here, first.number)
        if first.number >= (here + 1) * WINDOW_FRAMES - CONTEXT_FRAMES:
            self._open(here + 1, first.number)

        # These are no methods: a reference cycle of shot and blocks would delay freeing them.
        def learn(number: int, features: Features) -> None:
            for window in windows:
                if number >= window.first:
                    window.appearance.learn(number, features)

        def known(number: int) -> dict[View, Levels]:
            around = [window for window in windows if number >= window.first]
            if any(window.is_decided for window in around):
                tools.cache.kept(f"{number}/{View.STRETCHED}")  # raises if the anchor is missing
            if all(window.is_decided or window.appearance.recall(number) for window in around):
                return tools.cache.opinions(f"{number}")
            return {}

        self._blocks = Blocks(tools, first, learn, known)

    def add(self, incoming: IncomingFrame, end: int | None) -> Iterator[Alpha]:
        """Add a frame; if it completes a window, yield the window's masks before frame ``end``."""
        at = incoming.number
        opens_window = at % WINDOW_FRAMES == WINDOW_FRAMES - CONTEXT_FRAMES
        if opens_window:
            self._open(at // WINDOW_FRAMES + 1, at)
        if not self._blocks.add(incoming):
            return
        if opens_window or at % WINDOW_FRAMES == 0:
            self._blocks.restart_budget()  # every window gets the same budget of anchors
        if self._windows[0].own.stop + CONTEXT_FRAMES == at:
            yield from self._windows[0].masks(self._blocks, end)
            del self._windows[0]
            self._blocks.forget(self._windows[0].first)

    def finish(self, end: int | None, *, is_last: bool) -> Iterator[Alpha]:
        """Yield the remaining masks before frame ``end``; join the last two windows of a clip."""
        self._blocks.finish()
        if is_last and len(self._windows) > 1:
            first = self._windows[0]
            first.own = range(first.own.start, self._windows.pop().own.stop)
        for window in self._windows:
            yield from window.masks(self._blocks, end)
        if is_last:
            self._tools.cache.finish()

    def keep(self) -> None:
        """Keep what the next run needs to decide the undecided windows without the network."""
        for window in self._windows:
            if not window.is_decided:
                window.appearance.keep()

    def _open(self, number: int, first: int) -> None:
        if number >= 0:
            own = range(max(first, number * WINDOW_FRAMES), (number + 1) * WINDOW_FRAMES)
            self._windows.append(_Window(self._tools, first, own))


@dataclass(frozen=True, slots=True)
class _Decision:
    mask: Levels
    opinions: list[Levels]  # the network's, or the mean propagated from other anchors
    logit: Alpha  # by `appearance`
    log_odds: Alpha


class _Window:
    """Makes the masks of the frames ``own`` from these and their context (from ``first`` on)."""

    def __init__(self, tools: Tools, first: int, own: range) -> None:
        self.first, self.own = first, own
        self._tools = tools
        name = f"{first}:{own.start}"
        self._logits_name = f"{name}/logits"
        self.appearance = Appearance(name, tools.cache.unfinished)

    @property
    def is_decided(self) -> bool:
        """Whether this run or an earlier one has decided the window's anchors."""
        return self._tools.cache.is_complete or self._logits_name in self._tools.cache

    def masks(self, blocks: Blocks, end: int | None) -> Iterator[Alpha]:
        self._steps = {at: each for at, each in blocks.steps.items() if at >= self.first}
        self._anchors = {at: each for at, each in blocks.anchors.items() if at >= self.first}
        self._chroma = {at: chroma(each.small) for at, each in self._anchors.items()}
        first = self.own.start
        stop = min(self.own.stop if end is None else min(end, self.own.stop), max(self._steps) + 1)
        if stop <= first:
            return
        frames = sorted(self._anchors)
        plain = self._decided(frames)
        masks = {frame: plain[frame].mask for frame in frames}
        changed = None
        if self._tools.guidance is not None:
            changed = self._with_hints(frames, plain, self._tools.guidance)
        self._tools.on_decided(stop)
        if self._tools.on_picked is not None:
            self._tools.on_picked(self._picked(masks, changed or masks))
        if changed is None:  # hints change no mask: drop the anchors added for hints
            changed = {frame: masks[frame] for frame in frames if self._anchors[frame].opinions}
        ends = itertools.pairwise([*changed, stop])
        gaps = [frame for frame, after in ends if frame < stop and after > first]
        numbers = itertools.count(gaps[0])
        for batch in itertools.batched(gaps, 2 * THREADS):
            made = self._tools.threads.map(partial(self._between, changed), batch)
            for alpha in itertools.chain.from_iterable(made):
                if first <= next(numbers) < stop:
                    yield decided(alpha)

    def _between(self, masks: Mapping[int, Levels], first: int) -> list[Alpha]:
        return propagate(first, self._steps, masks, self._tools.tier.anchors_per_side)

    def _picked(
        self, plain: Mapping[int, Levels], masks: Mapping[int, Levels]
    ) -> list[PickedAnchor]:
        result = []
        for frame, links in zip(masks, self._links(list(masks)), strict=True):
            found = [plain[frame], masks[frame]]
            if self._anchors[frame].opinions:
                found.append(self._anchors[frame].mean())
            places = [resized(each, *self._grid) > 127 for each in found]
            result.append(PickedAnchor(frame, np.any(places, axis=0), places[1], links))
        return result

    def _decided(self, frames: list[int]) -> dict[int, _Decision]:
        """Decide the anchors that have opinions, and propagate their masks to the other anchors."""
        inferred = [frame for frame in frames if self._anchors[frame].opinions]
        anchors = [self._anchors[frame] for frame in inferred]
        motions = list(self._tools.threads.map(partial(motion_of, self._steps), inferred))
        means = {frame: self._anchors[frame].mean() for frame in inferred}
        self._grid = tracks_grid(*means[inferred[0]].shape[::-1])
        logits, links = self._logits(means, motions), self._links(inferred)
        scenes = list(map(self._scene, anchors, motions, logits, links))
        log_odds = self._tools.judge(scenes)
        opinions = [list(anchor.opinions.values()) for anchor in anchors]
        masks = self._tools.threads.map(compose, opinions, log_odds)
        made = map(_Decision, masks, opinions, [scene.logit for scene in scenes], log_odds)
        plain = dict(zip(inferred, made, strict=True))
        return {each: plain.get(each) or self._propagated(each, plain, means) for each in frames}

    def _logits(self, means: Mapping[int, Levels], motions: list[Alpha]) -> list[Alpha]:
        cache = self._tools.cache
        if self.is_decided:
            kept = cache.kept(self._logits_name)
            check_planes(self._logits_name, kept, (len(means), GRID, GRID), np.float32)
            return list(kept)
        smalls = [self._anchors[frame].small for frame in means]
        logits = self.appearance.logits(means, smalls, motions)
        cache.put(self._logits_name, np.stack(logits))
        return logits

    def _propagated(
        self, frame: int, plain: Mapping[int, _Decision], means: Mapping[int, Levels]
    ) -> _Decision:
        gap = [each for each in plain if each < frame][-1]
        near = min(plain, key=lambda each: abs(each - frame))
        masks = {each: known.mask for each, known in plain.items()}
        mask, mean = (as_levels(self._between(of, gap)[frame - gap]) for of in (masks, means))
        flow = self._link(frame, near).flow
        logit, log_odds = (warp(each, flow) for each in (plain[near].logit, plain[near].log_odds))
        return _Decision(mask, [mean], logit, log_odds)

    def _with_hints(
        self, frames: list[int], plain: Mapping[int, _Decision], guidance: Guidance
    ) -> dict[int, Levels] | None:
        """The masks after hints; None if hints decide no pixel of the window."""
        anchors = [self._anchors[frame] for frame in frames]
        shown = list(map(self._shown, anchors, plain.values(), self._links(frames)))
        crops: dict[int, list[Levels]] = {frame: [] for frame in frames}

        def ask_round(index: int, place: Place) -> Alpha:
            frame = frames[index]
            return self._asked_round(frame, place, plain[frame].mask, crops[frame])

        followed = [each.hints.followed if each.hints else None for each in anchors]
        if all(each is None for each in followed):
            followed = [guidance.brought_to(frame, self._grid) for frame in frames]
        places = [each.hints.corrections if each.hints else [] for each in anchors]
        hinted = hinted_window(followed, places, anchors[0].hinted, shown, ask_round)
        masks, is_reached = {}, False
        for frame, anchor, known, changes in zip(frames, anchors, shown, hinted, strict=True):
            anchor.hinted = changes
            log_odds, reached = with_hints(known, changes)
            is_reached |= bool(reached.any())
            mask, outlines = plain[frame].mask, plain[frame].opinions
            if anchor.hints is not None:
                outlines = [*anchor.hints.opinions.values(), *anchor.hints.crops]
            size = mask.shape[::-1]
            changed = resized(reached.astype(np.float32), *size) > 0
            inside = resized(grown(log_odds > 0, OUTLINE_PX).astype(np.float32), *size) > 0
            composed = compose([mask, *outlines, *crops[frame]], log_odds)
            masks[frame] = np.where(changed, np.where(inside, composed, np.uint8(0)), mask)
        return masks if is_reached else None

    def _asked_round(self, frame: int, place: Place, mask: Levels, crops: list[Levels]) -> Alpha:
        """Mask a crop round ``place``; append a copy of ``mask`` with the new crop to ``crops``."""
        rows, columns = mask.shape
        around = as_levels(resized(place.astype(np.float32), columns, rows))
        box = box_round_subject(around, around)
        image = self._anchors[frame].image
        if box is None or image is None:
            return np.zeros(place.shape, np.float32)
        kept = KeptAnswers(self._tools.cache, f"anchor {frame}", self._tools.network)
        part = kept.infer_part(image, (rows, columns), box, CLOSER_PX)
        alone, over = np.zeros_like(mask), mask.copy()
        alone[box] = over[box] = part
        crops.append(over)
        return alpha_on(alone, *self._grid)

    def _shown(self, anchor: Anchor, decision: _Decision, links: Mapping[int, Link]) -> Shown:
        opinions = decision.opinions if anchor.hints is None else anchor.hints.opinions.values()
        rgb = ArrayImage(anchor.small).rgb(*self._grid)
        mask, *found = (alpha_on(each, *self._grid) for each in (decision.mask, *opinions))
        return Shown(rgb, mask, found, decision.logit, decision.log_odds, links)

    def _scene(
        self, anchor: Anchor, motion: Alpha, logit: Alpha, links: Mapping[int, Link]
    ) -> Scene:
        box = cropped_box(anchor.opinions)
        if box is not None:
            shape = anchor.opinions[View.STRETCHED].shape
            scales = [new / old for new, old in zip(self._grid[::-1], shape, strict=True)]
            down, across = (
                slice(round(each.start * scale), round(each.stop * scale))
                for each, scale in zip(box, scales, strict=True)
            )
            box = down, across
        return Scene(
            rgb=ArrayImage(anchor.small).rgb(*self._grid),
            opinions={view: alpha_on(mask, *self._grid) for view, mask in anchor.opinions.items()},
            box=box,
            motion=resized(motion, *self._grid),
            logit=resized(logit, *self._grid),
            links=links,
        )

    def _links(self, frames: list[int]) -> list[Mapping[int, Link]]:
        def of(index: int) -> Mapping[int, Link]:
            there = {o: index + o for o in (-1, 1) if 0 <= index + o < len(frames)}
            return {o: self._link(frames[index], frames[k]) for o, k in there.items()}

        return list(self._tools.threads.map(of, range(len(frames))))

    def _link(self, here: int, there: int) -> Link:
        flow = flow_between(self._steps, here, there)
        trusted = trust(luma(self._steps[here].small), luma(self._steps[there].small), flow)
        held = continuity(self._chroma[here], self._chroma[there], flow, trusted)
        planes = resized(trusted, *self._grid), resized(held, *self._grid)
        return Link(resize_flow(flow, *self._grid), *planes, abs(there - here))
