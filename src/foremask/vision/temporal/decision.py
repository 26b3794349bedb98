"""Decides the masks of a window's anchors, all of them together."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from foremask.types import Alpha
from foremask.vision.image import ArrayImage
from foremask.vision.network.network_cache import NetworkCache, check_planes
from foremask.vision.network.opinions import CropBox, View, cropped_box
from foremask.vision.resample import as_alpha, as_levels
from foremask.vision.stopping import stoppable
from foremask.vision.temporal.anchors import Window, links_between
from foremask.vision.temporal.appearance import GRID
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.grids import Grid, MaskLevels, RegionPlane, size_of
from foremask.vision.temporal.propagation import flow_between, motion_of, propagate
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.verdict import Judge, compose


@dataclass(frozen=True, slots=True)
class Decision:
    """The mask of an anchor, and what decided it."""

    mask: MaskLevels
    opinions: Sequence[MaskLevels]  # the network's, or the mean propagated from other anchors
    logit: RegionPlane  # by `appearance`
    log_odds: RegionPlane  # by `verdict`


def decide(
    window: Window,
    judge: Judge,
    cache: NetworkCache,
    workers: ThreadPoolExecutor,
    per_side: int,
    *,
    learns_appearance: bool = True,
) -> dict[int, Decision]:
    """Decide the anchors that have opinions, and propagate their masks to the other anchors.

    ``per_side`` is `Tier.anchors_per_side`. Without ``learns_appearance``, all logits are 0.
    """
    frames = window.asked()
    subjects = [as_alpha(window.anchors[frame].mean()) for frame in frames]
    moving = workers.map(partial(motion_of, window.steps), frames, subjects)
    motions = list(stoppable(moving))
    logits = [np.zeros((GRID, GRID), np.float32)] * len(frames)
    if learns_appearance:
        logits = _logits(window, frames, motions, cache)
    links = links_between(window, frames, workers)
    scenes = [
        _scene(window, frame, motion, logit, links_of_frame)
        for frame, motion, logit, links_of_frame in stoppable(
            zip(frames, motions, logits, links, strict=True)
        )
    ]
    log_odds = judge(scenes)
    opinions = [list(window.anchors[frame].opinions.values()) for frame in frames]
    masks = list(stoppable(workers.map(compose, opinions, log_odds)))
    decided = {
        frame: Decision(masks[k], opinions[k], scenes[k].logit, log_odds[k])
        for k, frame in enumerate(frames)
    }
    further = [frame for frame in window.anchors if frame not in decided]
    propagated = {
        frame: _propagated(window, frame, decided, per_side) for frame in stoppable(further)
    }
    return {frame: decided.get(frame) or propagated[frame] for frame in window.anchors}


def logits_name(window_name: str) -> str:
    return f"{window_name}/logits"


def is_decided(window_name: str, cache: NetworkCache) -> bool:
    """Whether an earlier run, or this one, has decided the window's anchors."""
    return cache.is_complete or logits_name(window_name) in cache


def _logits(
    window: Window, frames: Sequence[int], motions: Sequence[Alpha], cache: NetworkCache
) -> list[Alpha]:
    """What the window's classifier says of each anchor, on the classifier's grid."""
    name = logits_name(window.name)
    if is_decided(window.name, cache):
        kept = cache.kept(name)
        check_planes(name, kept, (len(frames), GRID, GRID), np.float32)
        return list(kept)
    means = {frame: window.anchors[frame].mean() for frame in frames}
    smalls = [window.anchors[frame].small for frame in frames]
    logits = window.appearance.logits(means, smalls, motions)
    cache.put(name, np.stack(logits))
    return logits


def _scene(
    window: Window, frame: int, motion: Alpha, logit: Alpha, links: Mapping[int, Link]
) -> Scene:
    anchor = window.anchors[frame]
    grid = window.grids.region
    box = cropped_box(anchor.opinions)
    if box is not None:
        box = _on_grid(box, size_of(anchor.opinions[View.STRETCHED]), grid)
    return Scene(
        rgb=grid.rgb(ArrayImage(anchor.small)),
        opinions={view: grid.alpha(mask) for view, mask in anchor.opinions.items()},
        box=box,
        motion=grid.resized(motion),
        logit=grid.resized(logit),
        links=links,
    )


def _on_grid(box: CropBox, old: Grid, new: Grid) -> CropBox:
    down, across = box
    y_scale = new.rows / old.rows
    x_scale = new.columns / old.columns
    return (
        slice(round(down.start * y_scale), round(down.stop * y_scale)),
        slice(round(across.start * x_scale), round(across.stop * x_scale)),
    )


def _propagated(
    window: Window, frame: int, decided: Mapping[int, Decision], per_side: int
) -> Decision:
    """The decision on an anchor that the network was not asked about, from the anchors around."""
    gap = [each for each in decided if each < frame][-1]
    near = min(decided, key=lambda each: abs(each - frame))

    def moved(masks: Mapping[int, MaskLevels]) -> MaskLevels:
        between = propagate(gap, window.steps, masks, per_side)
        return as_levels(between[frame - gap])

    mask = moved({each: decision.mask for each, decision in decided.items()})
    mean = moved({each: window.anchors[each].mean() for each in decided})
    flow = window.grids.region.flow(flow_between(window.steps, frame, near))
    logit = warp(decided[near].logit, flow)
    log_odds = warp(decided[near].log_odds, flow)
    return Decision(mask, [mean], logit, log_odds)
