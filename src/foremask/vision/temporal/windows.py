"""Steady masks for a stream of images: infer anchors, correct them, propagate them to all frames.

Anchors are chosen and inferred block by block (`Blocks`). A window of a shot is decided together,
from its own frames and `CONTEXT_FRAMES` on each side: the subject's appearance is learned
(`appearance`), each region of each anchor gets its verdict (`verdict`), and each frame gets the
mean of its nearest anchors, weighted by trust (`propagate`). Windows lie on a grid that counts
from the clip's start, and share nothing else: so a clip that is cut at the grid is masked like the
whole one. docs/adr/0157
"""

import itertools
from bisect import bisect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID
from foremask.options import Quality
from foremask.types import Alpha, Flow, Image, Levels
from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import CLOSER_PX, box_round_subject
from foremask.vision.network.session import Features, Network
from foremask.vision.prefetch import prefetch
from foremask.vision.resample import as_levels, resized
from foremask.vision.temporal.appearance import (
    BASIS_ANCHORS,
    AnchorFeatures,
    Basis,
    colours,
    subject_logits,
)
from foremask.vision.temporal.blocks import BLOCK_FRAMES, Anchor, Block, Blocks, Tools
from foremask.vision.temporal.correction import Shown
from foremask.vision.temporal.cuts import DELAY_FRAMES, SIDE_FRAMES
from foremask.vision.temporal.flow import (
    Chroma,
    chroma,
    continuity,
    residual,
    resize_flow,
    trust,
    warp,
)
from foremask.vision.temporal.frame_hints import Claims, Mark, settled
from foremask.vision.temporal.guidance import Guidance, hinted_window, near, with_hints
from foremask.vision.temporal.incoming import IncomingFrame, placed_images, with_shots
from foremask.vision.temporal.network_cache import KeptAnswers, MemoryStore, NetworkCache
from foremask.vision.temporal.propagation import flow_between, propagate
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import TIERS, Tier, grid_of, tracks_grid
from foremask.vision.temporal.verdict import Judge, compose, decided, judge

WINDOW_FRAMES = SEGMENT_GRID.window_frames
CONTEXT_FRAMES = SEGMENT_GRID.context_frames - SIDE_FRAMES  # by these cuts are found
LAG_FRAMES = (
    WINDOW_FRAMES + CONTEXT_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
)  # at most, between an image that is read and its mask
REPEATED_SHARE = 0.3  # of the motion beyond: less, and the frame is a repeated one
THREADS = 2  # for flow and propagation; the network has its own


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
    """One mask for each image, in order, on the tier's grid, which is never larger than the image.

    All images have one size. The first mask comes at most `LAG_FRAMES` after its image. Masks never
    mix frames of two shots. ``guidance`` are the hints on some of the images.

    The images for which ``is_wanted`` follow each other. Those before and after them are context,
    and their masks are empty. A span that begins and ends on `SEGMENT_GRID`, and is shown with the
    context that it names, gets the masks that it has in the whole clip.

    ``cache`` has what the network said in an earlier run over the same images, or gets what it says
    in this one; masks are the same with and without it. ``on_anchor`` gets the network's mask of
    each anchor, long before the frame's own mask is decided. ``on_picked`` gets the anchors of each
    window, with what the network has picked besides the mask. ``on_asked`` and ``on_decided`` get
    a frame's number: all anchors from the first wanted frame up to it are inferred, or decided.
    ``flows_ahead`` images wait with their flow, at most, while the network runs.
    """
    with (
        ThreadPoolExecutor(THREADS) as threads,
        prefetch(
            with_shots(placed_images(images, is_wanted), tier, threads), flows_ahead, "flow"
        ) as arriving,
    ):
        heard = on_anchor, on_picked, on_asked, on_decided
        tools = Tools(network, tier, threads, judge, guidance, cache, *heard)
        yield from _masks_of_shots(arriving, tools)


def _masks_of_shots(arriving: Iterable["IncomingFrame"], tools: "Tools") -> Iterator[Alpha]:
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
            shot = _Shot(tools, incoming)
        else:
            yield from shot.add(incoming, end)
    if shot is not None:
        yield from shot.finish(end, is_last=True)
    if after:
        yield from itertools.repeat(_empty_mask(incoming.image, tools.tier), after)


def _empty_mask(image: Image, tier: Tier) -> Alpha:
    return np.zeros(grid_of(image, tier.mask_area_px)[::-1], np.float32)


def learn(
    hinted: Iterable[tuple[Hashable, Image, Sequence[Mark]]],
    network: Network,
    tier: Tier,
    key_of: Callable[[Image], Hashable],
    cache: NetworkCache | None = None,
) -> Guidance:
    """Infer the hinted images and settle what each mark claims; ``key_of`` identifies an image."""
    cache = cache or NetworkCache(MemoryStore())
    frames: dict[Hashable, Claims] = {}
    for key, image, marks in hinted:
        grid = grid_of(image, tier.mask_area_px)
        kept = KeptAnswers(cache, f"{key}", network)
        frames[key] = Claims(image, marks, kept, grid, tracks_grid(*grid))
    return Guidance(settled(frames), key_of)


class _Shot:
    """The windows of one shot in progress: two, where one's end is the next one's context."""

    def __init__(self, tools: "Tools", first: IncomingFrame) -> None:
        self._tools = tools
        windows: list[_Window] = []
        at_opening: dict[int, Features] = {}  # of the anchor with which the next window opens
        self._windows, self._at_opening = windows, at_opening

        def learn(number: int, features: Features) -> None:
            for window in windows:
                window.learn(number, features)
            if number == first.number or _opens_window(number):
                at_opening[number] = features

        # Not a method: shot and blocks would keep each other, and their memory, after the end.
        self._blocks = Blocks(tools, first, learn)
        here = first.number // WINDOW_FRAMES
        self._open(here, self._blocks.start)
        if first.number >= (here + 1) * WINDOW_FRAMES - CONTEXT_FRAMES:
            self._open(here + 1, self._blocks.start)
        at_opening.clear()

    def add(self, incoming: IncomingFrame, end: int | None) -> Iterator[Alpha]:
        """Add a frame; the masks of a window whose last frame it is, up to frame ``end``."""
        block = self._blocks.add(incoming)
        if block is None:
            return
        self._take(block)
        at = block.last
        if at % WINDOW_FRAMES in (0, WINDOW_FRAMES - CONTEXT_FRAMES):
            self._blocks.restart_budget()  # every window gets the same
        if _opens_window(at):
            self._open(at // WINDOW_FRAMES + 1, block.end())
            self._at_opening.clear()
        if self._windows and self._windows[0].own.stop + CONTEXT_FRAMES == at:
            yield from self._windows.pop(0).masks(end)

    def finish(self, end: int | None, *, is_last: bool) -> Iterator[Alpha]:
        """The masks of all frames that are left, up to ``end``: the shot ends here.

        In the last shot the end of a window goes to the window before, which has seen all of it.
        """
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

    def _take(self, block: Block) -> None:
        for window in self._windows:
            window.take(block)

    def _open(self, number: int, start: Block) -> None:
        if number >= 0:
            first = max(start.first, number * WINDOW_FRAMES)
            own = range(first, (number + 1) * WINDOW_FRAMES)
            self._windows.append(_Window(self._tools, own, start))
            for frame, features in self._at_opening.items():
                self._windows[-1].learn(frame, features)


def _opens_window(number: int) -> bool:
    return number % WINDOW_FRAMES == WINDOW_FRAMES - CONTEXT_FRAMES


@dataclass(frozen=True, slots=True)
class _Decided:
    """The masks of a window's anchors, and what they were decided by."""

    masks: list[Levels]
    opinions: list[list[Levels]]  # where the network was not asked, their mean beside it
    logits: list[Alpha]  # of the clip's classifier
    log_odds: list[Alpha]


class _Window:
    """Frames of one shot that are decided together, from these and from their context.

    ``own`` are the numbers of the frames that get their masks here. Within, frames are counted from
    the start of the context.
    """

    def __init__(self, tools: Tools, own: range, start: Block) -> None:
        self.own = own
        self._tools = tools
        self._network = tools.network
        self._tier = tools.tier
        self._threads = tools.threads
        self._guidance = tools.guidance
        self._first = start.first
        self._name = f"{start.first}:{own.start}"  # in the cache
        self._frame_flows = [replace(start.frame_flows[0], to_previous=None)]
        self._anchors: dict[int, Anchor] = {}
        self._features: dict[int, Features] = {}  # until there is a basis
        self._projected: dict[int, list[NDArray[np.float16]]] = {}
        self._basis: Basis | None = None
        self._take_anchors(start)

    def take(self, block: Block) -> None:
        """Add a block that begins with the last frame of this window."""
        first = replace(self._frame_flows[-1], to_next=block.frame_flows[0].to_next)
        self._frame_flows[-1:] = [first, *block.frame_flows[1:]]
        self._take_anchors(block)

    def _take_anchors(self, block: Block) -> None:
        for number, anchor in block.anchors.items():
            self._anchors.setdefault(number - self._first, anchor)

    def learn(self, number: int, features: Features) -> None:
        """Add the features of an anchor, before its block."""
        if self._basis is not None:
            self._projected[number - self._first] = self._basis.project(features)
            return
        kept = tuple(each.astype(np.float16) for each in features)  # half of 27 MB
        self._features[number - self._first] = kept
        if len(self._features) >= BASIS_ANCHORS:
            self._fit_basis()

    def _fit_basis(self) -> None:
        basis = self._basis = Basis.fit(list(self._features.values()))
        for frame in [*self._features]:
            self._projected[frame] = basis.project(self._features.pop(frame))

    def masks(self, end: int | None) -> Iterator[Alpha]:
        """The masks of its own frames, up to frame ``end`` of the clip."""
        first = self.own.start - self._first
        stop = min(self.own.stop if end is None else min(end, self.own.stop), self._last + 1)
        stop -= self._first
        if stop <= first:
            return
        frames = sorted(self._anchors)
        self._complete_features()
        plain = self._decided(frames)
        masks = plain.masks
        if self._guidance is not None:
            masks = self._with_hints(frames, plain, self._guidance)
        self._tools.on_decided(self._first + stop)
        if self._tools.on_picked is not None:
            self._tools.on_picked(self._picked(frames, plain.masks, masks))
        if masks is plain.masks:  # as without hints, whose further anchors are of no use here
            asked = [k for k, frame in enumerate(frames) if self._anchors[frame].opinions]
            frames, masks = [frames[k] for k in asked], [masks[k] for k in asked]
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

    def _picked(
        self, frames: list[int], plain: list[Levels], masks: list[Levels]
    ) -> list[PickedAnchor]:
        grid = tracks_grid(*masks[0].shape[::-1])
        links = self._links(frames, grid)
        result = []
        for frame, before, mask, around in zip(frames, plain, masks, links, strict=True):
            picked = resized(before, *grid) > 127
            if self._anchors[frame].opinions:
                picked |= resized(self._anchors[frame].mean(), *grid) > 127
            inside = resized(mask, *grid) > 127
            result.append(PickedAnchor(self._first + frame, picked | inside, inside, around))
        return result

    def _complete_features(self) -> None:
        """Set the projected features of all anchors: read from the cache, or computed and kept."""
        inferred = [frame for frame, anchor in self._anchors.items() if anchor.opinions]
        known, cache = self._tools.known, self._tools.cache
        if known is not None:
            self._projected = {
                frame: known.levels(self._name, f"features {frame}") for frame in inferred
            }
            return
        if self._basis is None:
            self._fit_basis()
        if cache is not None:
            for frame, levels in self._projected.items():
                cache.keep_levels(self._name, f"features {frame}", levels)

    @property
    def _last(self) -> int:
        return self._first + len(self._frame_flows) - 1

    def _decided(self, frames: list[int]) -> _Decided:
        """The masks of anchors by what is decided of their regions, as without hints.

        Anchors for hints only get propagated ones.
        """
        inferred = [frame for frame in frames if self._anchors[frame].opinions]
        keys = [self._anchors[frame] for frame in inferred]
        means = [anchor.mean() for anchor in keys]
        motions = list(self._threads.map(self._motion, inferred))
        grid = tracks_grid(*means[0].shape[::-1])
        anchor_features = [
            AnchorFeatures(self._projected[frame], colours(anchor.small), motion)
            for frame, anchor, motion in zip(inferred, keys, motions, strict=True)
        ]
        logits = subject_logits(anchor_features, means)
        if logits is None:  # the network is sure of nothing, or has no features
            logits = [np.zeros(grid[::-1], np.float32)] * len(keys)
        links = self._links(inferred, grid)
        scenes = [_scene(*each, grid) for each in zip(keys, motions, logits, links, strict=True)]
        log_odds = self._tools.judge(scenes)
        opinions = [list(anchor.opinions.values()) for anchor in keys]
        masks = list(self._threads.map(compose, opinions, log_odds))
        plain = _Decided(masks, opinions, [scene.logit for scene in scenes], log_odds)
        return self._between(frames, inferred, plain) if len(inferred) < len(frames) else plain

    def _between(self, frames: list[int], inferred: list[int], plain: _Decided) -> _Decided:
        """What is decided, and what is propagated to the anchors that were not inferred."""
        rows, columns = plain.log_odds[0].shape
        result = _Decided([], [], [], [])
        means = [self._anchors[frame].mean() for frame in inferred]
        per_side = self._tier.anchors_per_side
        colours = {frame: chroma(self._anchors[frame].small) for frame in frames}
        for frame in frames:
            near = min(range(len(inferred)), key=lambda k: abs(inferred[k] - frame))
            mask, opinions = plain.masks[near], plain.opinions[near]
            logit, odds = plain.logits[near], plain.log_odds[near]
            if frame not in inferred:
                gap = bisect(inferred, frame) - 1
                mask, mean = (
                    as_levels(
                        propagate(gap, self._frame_flows, inferred, of, per_side)[
                            frame - inferred[gap]
                        ]
                    )
                    for of in (plain.masks, means)
                )
                opinions = [mean]
                flow = self._link(frame, inferred[near], colours, (columns, rows)).flow
                logit, odds = warp(logit, flow), warp(odds, flow)
            result.masks.append(mask)
            result.opinions.append(opinions)
            result.logits.append(logit)
            result.log_odds.append(odds)
        return result

    def _with_hints(self, frames: list[int], plain: _Decided, guidance: Guidance) -> list[Levels]:
        """The masks after hints, `plain`'s own where none reaches a pixel of the window."""
        rows, columns = plain.log_odds[0].shape
        grid = columns, rows
        anchors = [self._anchors[frame] for frame in frames]
        hints = [anchor.hints for anchor in anchors]
        brought = [guidance.brought_to(self._first + frame, grid) for frame in frames]
        found = plain.masks, plain.opinions, plain.logits, plain.log_odds
        together = zip(anchors, *found, strict=True)
        shown = [_shown(*each, grid) for each in together]
        links = self._links(frames, grid)
        masks, is_reached = [], False
        crops: list[list[Levels]] = [[] for _ in frames]

        def ask_round(index: int, place: NDArray[np.bool_]) -> Alpha:
            found, crop = self._asked_round(frames[index], place, plain.masks[index])
            if crop is not None:
                crops[index].append(crop)
            return found

        hinted = hinted_window(hints, anchors[0].hinted, brought, shown, links, ask_round)
        every = zip(anchors, plain.masks, plain.opinions, shown, hinted, crops, strict=True)
        for anchor, mask, opinions, known, changes, further in every:
            anchor.hinted = changes
            log_odds, reached = with_hints(known, changes)
            is_reached |= bool(reached.any())
            outlines = [mask, *opinions, *further]
            if anchor.hints is not None:
                outlines = [mask, *anchor.hints.opinions.values(), *anchor.hints.crops]
                outlines += further
            changed = resized(reached.astype(np.float32), *mask.shape[::-1]) > 0
            inside = resized(near(log_odds > 0).astype(np.float32), *mask.shape[::-1]) > 0
            composed = np.where(inside, compose(outlines, log_odds), np.uint8(0))
            masks.append(np.where(changed, composed, mask))
        return masks if is_reached else plain.masks

    def _asked_round(
        self, frame: int, place: NDArray[np.bool_], mask: Levels
    ) -> tuple[Alpha, Levels | None]:
        """The opinion of a crop round a place, 0 beyond it, and the mask with it."""
        rows, columns = mask.shape
        grid = place.shape[::-1]
        around = as_levels(resized(place.astype(np.float32), columns, rows))
        box = box_round_subject(around, around)
        image = self._anchors[frame].image
        if box is None or image is None:
            return np.zeros(place.shape, np.float32), None
        cache = self._tools.cache or NetworkCache(MemoryStore())
        kept = KeptAnswers(cache, f"anchor {self._first + frame}", self._network)
        part = kept.infer_part(image, (rows, columns), box, CLOSER_PX)
        alone, over = np.zeros_like(mask), mask.copy()
        alone[box] = over[box] = part
        return resized(alone, *grid) * np.float32(1 / 255), over

    def _links(self, frames: list[int], grid: tuple[int, int]) -> list[Mapping[int, Link]]:
        """For each anchor the flows to the two before and the two after it, on the tracks' grid."""
        colours = {frame: chroma(self._anchors[frame].small) for frame in frames}

        def of(index: int) -> Mapping[int, Link]:
            there = [o for o in (-2, -1, 1, 2) if 0 <= index + o < len(frames)]
            return _Links(
                there, lambda o: self._link(frames[index], frames[index + o], colours, grid)
            )

        return list(self._threads.map(of, range(len(frames))))

    def _link(
        self, here: int, there: int, colours: dict[int, Chroma], grid: tuple[int, int]
    ) -> Link:
        flow = flow_between(self._frame_flows, here, there)
        trusted = trust(self._frame_flows[here].grey, self._frame_flows[there].grey, flow)
        held = continuity(colours[here], colours[there], flow, trusted)
        planes = resized(trusted, *grid), resized(held, *grid)
        return Link(resize_flow(flow, *grid), *planes, abs(there - here))

    def _motion(self, frame: int) -> Alpha:
        """The smaller residual of both directions: in one of them, uncovered areas seem to move."""
        flows = [self._moved(frame, direction) for direction in (-1, 1)]
        known = [flow for flow in flows if flow is not None]
        if not known:
            known = [np.zeros((*self._frame_flows[frame].grey.shape, 2), np.float32)]
        residuals = [residual(flow) for flow in known]
        return np.minimum(residuals[0], residuals[-1])

    def _moved(self, frame: int, direction: int) -> Flow | None:
        """The flow to the frame beside it, or past one that only repeats it, as telecine does."""
        steps = self._frame_flows
        near = steps[frame].towards(direction)
        if near is None:
            return None
        beyond = steps[frame + direction].towards(direction)
        if beyond is None or near.length >= REPEATED_SHARE * beyond.length:
            return near.flow
        return flow_between(steps, frame, frame + 2 * direction)


class _Links(Mapping[int, Link]):
    """An anchor's links, by how many anchors away the other is.

    Only those to its neighbours are kept, each in 16 bytes a pixel; others are made when asked for.
    """

    def __init__(self, there: Sequence[int], link: Callable[[int], Link]) -> None:
        self._there, self._link = there, link
        self._near = {offset: link(offset) for offset in there if abs(offset) == 1}

    def __getitem__(self, offset: int) -> Link:
        if offset not in self._there:
            raise KeyError(offset)
        return self._near.get(offset) or self._link(offset)

    def __contains__(self, offset: object) -> bool:
        return offset in self._there

    def __iter__(self) -> Iterator[int]:
        return iter(self._there)

    def __len__(self) -> int:
        return len(self._there)


def _shown(
    anchor: Anchor,
    mask: Levels,
    opinions: Sequence[Levels],
    logit: Alpha,
    log_odds: Alpha,
    grid: tuple[int, int],
) -> Shown:
    """What corrections go by, on the tracks' ``grid``."""
    answers = opinions if anchor.hints is None else anchor.hints.opinions.values()
    small, *found = (resized(each, *grid) * np.float32(1 / 255) for each in [mask, *answers])
    return Shown(ArrayImage(anchor.small).rgb(*grid), small, found, logit, log_odds)


def _scene(
    anchor: Anchor, motion: Alpha, logit: Alpha, links: Mapping[int, Link], grid: tuple[int, int]
) -> Scene:
    """An anchor with its opinions, motion, appearance and links, on the tracks' ``grid``."""
    opinions = anchor.opinions
    columns, rows = grid
    box = None
    if anchor.box is not None:
        height, width = next(iter(opinions.values())).shape
        down, across = anchor.box
        box = (
            slice(round(down.start * rows / height), round(down.stop * rows / height)),
            slice(round(across.start * columns / width), round(across.stop * columns / width)),
        )
    return Scene(
        rgb=ArrayImage(anchor.small).rgb(*grid),
        opinions={
            view: resized(mask, *grid) * np.float32(1 / 255) for view, mask in opinions.items()
        },
        box=box,
        motion=resized(motion, *grid),
        logit=resized(logit, *grid),
        links=links,
    )
