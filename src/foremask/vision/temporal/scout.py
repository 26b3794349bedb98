"""Follows chosen things back to the start of their shot.

Windows are decided in order, each from the hints on its own frames and the window before. So what a
later hint decides in earlier windows is found first, on a coarse grid, by the flow between anchors.
Source: docs/adr/0050.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID
from foremask.types import Alpha, Image, Levels
from foremask.vision.network.session import Network
from foremask.vision.prefetch import prefetch
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.blocks import BLOCK_FRAMES, Block, Blocks, Tools
from foremask.vision.temporal.flow import resize_flow, trust
from foremask.vision.temporal.frame_hints import FrameHints
from foremask.vision.temporal.incoming import IncomingFrame, placed_images, with_shots
from foremask.vision.temporal.network_cache import NetworkCache
from foremask.vision.temporal.propagation import PackedFlow, flow_between
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import is_separate, traced_back
from foremask.vision.temporal.tier import Tier, tracks_grid
from foremask.vision.temporal.verdict import judge
from foremask.vision.temporal.windows import begins_budget

REACH_FRAMES = SEGMENT_GRID.window_frames + SEGMENT_GRID.context_frames
"""Hints on earlier frames are in the clip's first window, which needs no scout."""
MOST_ANCHORS = 2000  # of a shot: 150 kB each; things are not followed beyond them
COARSE = 2  # pixels of the tracks' grid for one of this grid, in each direction


@dataclass(frozen=True, slots=True)
class _Step:
    """An anchor: what is found there, and the flow to the next one, with its trust."""

    number: int
    picked: NDArray[np.bool_]
    to_next: PackedFlow | None


def scouted(
    images: Iterable[Image],
    network: Network,
    tier: Tier,
    hinted: Mapping[int, FrameHints],
    cache: NetworkCache | None = None,
) -> dict[int, Levels]:
    """What ``hinted``, by the number of their frame, decide on earlier anchors of the same shots.

    By frame: 255 on what is chosen, 0 on what is out. Images are read up to the last such frame and
    a few more. Anchors missing in ``cache`` are inferred.
    """
    chosen = {number: each for number, each in hinted.items() if each.followed is not None}
    known = cache if cache is not None and cache.is_complete else None
    found: dict[int, Levels] = {}
    with (
        ThreadPoolExecutor(2) as threads,
        prefetch(
            with_shots(placed_images(images, lambda _: True), tier, threads), BLOCK_FRAMES, "flow"
        ) as arriving,
    ):
        tools = Tools(network, tier, threads, judge, None, known, on_anchor=lambda _: None)
        for steps in _shots(arriving, tools, chosen):
            found |= _traced(steps, chosen)
    return found


def _shots(
    arriving: Iterable[IncomingFrame], tools: Tools, chosen: Mapping[int, FrameHints]
) -> Iterator[list[_Step]]:
    """The anchors of each shot, up to the last frame on which a thing is chosen."""
    blocks: Blocks | None = None
    steps: list[_Step] = []
    for incoming in arriving:
        if blocks is None or incoming.starts_shot:
            if blocks is not None:
                yield _joined(steps, blocks.finish(), chosen)
            blocks, steps = Blocks(tools, incoming), []
            block: Block | None = blocks.start
        else:
            block = blocks.add(incoming)
        if block is None:
            continue
        steps = _joined(steps, block, chosen)
        if block.last >= max(chosen):
            yield steps
            return
        if begins_budget(block.last):
            blocks.restart_budget()
    if blocks is not None:
        yield _joined(steps, blocks.finish(), chosen)


def _joined(
    steps: list[_Step], block: Block | None, chosen: Mapping[int, FrameHints]
) -> list[_Step]:
    """``steps`` with the anchors of a block added; its first anchor is the last of ``steps``."""
    if block is None:
        return steps
    inside = [number for number in chosen if block.first <= number <= block.last]
    numbers = sorted({*block.anchors, *inside})
    further = [
        _step(block, here, there, chosen.get(here))
        for here, there in zip(numbers, [*numbers[1:], None], strict=True)
    ]
    return [*steps[:-1], *further][-MOST_ANCHORS:]


def _step(block: Block, here: int, there: int | None, hints: FrameHints | None) -> _Step:
    if hints is None:
        levels = block.anchors[here].mean()
    else:
        levels = np.mean(list(hints.opinions.values()), axis=0).astype(np.uint8)
    columns, rows = tracks_grid(*levels.shape[::-1])
    grid = max(1, columns // COARSE), max(1, rows // COARSE)
    picked = np.asarray(resized(levels, *grid) > 255 * FOREGROUND)
    if there is None:
        return _Step(here, picked, None)
    steps = block.frame_flows
    flow = flow_between(steps, here - block.first, there - block.first)
    grey_here, grey_there = (steps[each - block.first].grey for each in (here, there))
    trusted = resized(trust(grey_here, grey_there, flow), *grid)
    return _Step(here, picked, PackedFlow.packed(resize_flow(flow, *grid), trusted))


def _traced(steps: Sequence[_Step], chosen: Mapping[int, FrameHints]) -> dict[int, Levels]:
    """What is chosen in a shot, on its anchors before."""
    claims: list[Alpha | None] = []
    for step in steps:
        hints = chosen.get(step.number)
        if hints is None or hints.followed is None:
            claims.append(None)
            continue
        size = step.picked.shape[::-1]
        side = cv2.resize(hints.followed, size, interpolation=cv2.INTER_NEAREST)
        claims.append(np.asarray(side, np.float32))
    if all(claim is None for claim in claims):
        return {}

    def link_of(index: int) -> Link | None:
        here = steps[index]
        if here.to_next is None:
            return None
        trusted = as_alpha(here.to_next.consistency)
        return Link(here.to_next.flow, trusted, trusted, steps[index + 1].number - here.number)

    sides = traced_back([step.picked for step in steps], claims, link_of)
    return {
        step.number: as_levels((side + np.float32(1)) / np.float32(2))
        for step, side in zip(steps, sides, strict=True)
        if step.number not in chosen and is_separate(step.picked, side)
    }
