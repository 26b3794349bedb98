"""Propagates the masks of anchors to every frame, along the optical flow."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Flow, Levels, Rgb
from foremask.vision.resample import in_single, resized
from foremask.vision.temporal.flow import (
    LEAST_WEIGHT,
    STILL_SHARE,
    Part,
    chained,
    residual,
    resize_flow,
    trust,
    warp,
)
from foremask.vision.temporal.places import SMALL_SHARE, gaps_of, has_holes
from foremask.vision.temporal.reach import on_grid, part_around, reach

type PackedFlow = NDArray[np.float16]
"""A `Flow` in half the memory: a window keeps two for each frame."""


@dataclass(frozen=True, slots=True)
class FrameFlow:
    """A frame's picture, and the flows to and from the previous frame, on the flow grid."""

    small: Rgb
    to_previous: PackedFlow | None  # None, like ``from_previous``, on a shot's first frame
    from_previous: PackedFlow | None


type Steps = Mapping[int, FrameFlow]
"""The flows of consecutive frames, by frame number."""

type HolesOf = Callable[[int], Levels | None]
"""1 in the holes of the mask of the anchor with this number; None if it has none."""


def step_from(steps: Steps, frame: int, direction: int) -> Flow | None:
    """The flow from a frame to the one before (-1) or after (1); None across a cut or an end."""
    other = steps.get(frame + direction)
    if other is None:
        return None
    packed = other.from_previous
    if direction < 0:
        packed = steps[frame].to_previous
    if packed is None:
        return None
    return in_single(packed)


@stage("propagation")
def propagate(
    first: int,
    steps: Steps,
    masks: Mapping[int, Levels],
    per_side: int,
    outline_px: int | None = None,
) -> list[Alpha]:
    """The masks of the anchor ``first`` and of the frames up to the next anchor, or to the end.

    Each mask is a weighted mean of the masks of the ``per_side`` nearest anchors on each side,
    warped to the frame. The weight is `trust`; on an anchor, its own mask has the weight 1. On the
    other frames, small holes are filled that none of these anchors has.
    ``masks`` has the anchors' masks by frame. No mask crosses a cut. If ``outline_px`` is given,
    alpha may be 0 where no foreground (above 0.5) is within this distance.
    """
    anchors = sorted(masks)
    gap = anchors.index(first)
    end = anchors[gap + 1] if gap + 1 < len(anchors) else max(steps) + 1
    earlier = _paths(steps, anchors, range(anchors[max(0, gap - per_side)], end), per_side)
    beyond = anchors[min(len(anchors) - 1, gap + per_side)]
    later = _paths(steps, anchors, range(max(end - 1, beyond), first - 1, -1), per_side)
    holes_of = cache(lambda anchor: _holes_of(masks[anchor]))
    return [
        _mean(each, masks, earlier[each] | later[each], steps, outline_px, holes_of)
        for each in range(first, end)
    ]


@stage("propagation")
def propagate_to(frame: int, steps: Steps, source: int, mask: Levels) -> Alpha:
    """The mask of one frame: that of ``source``, warped to it; 0 if there is a cut between them."""
    direction = 1
    if frame < source:
        direction = -1
    paths = _paths(steps, [source], range(source, frame + direction, direction), 1)
    masks = {source: mask}
    return _mean(frame, masks, paths[frame], steps, None, lambda _: _holes_of(mask))


def _paths(
    steps: Steps, anchors: Sequence[int], frames: range, per_side: int
) -> dict[int, dict[int, Flow]]:
    """The flows from each of ``frames`` to the last ``per_side`` anchors before it in ``frames``.

    Each flow extends a flow of the previous frame by one step.
    """
    result = {}
    passed: Mapping[int, Flow | None] = {}  # by anchor; None if the previous frame is the anchor
    for frame in frames:
        step = step_from(steps, frame, -frames.step)
        paths: dict[int, Flow] = {}
        if frame != frames.start and step is not None:
            paths = {k: step if rest is None else chained(step, rest) for k, rest in passed.items()}
        result[frame] = passed = paths
        if frame in anchors:
            passed = {frame: None} | dict(itertools.islice(paths.items(), per_side - 1))
    return result


def _mean(
    frame: int,
    masks: Mapping[int, Levels],
    paths: Mapping[int, Flow],
    steps: Steps,
    outline_px: int | None,
    holes_of: HolesOf,
) -> Alpha:
    height, width = next(iter(masks.values())).shape
    mean = np.zeros((height, width), np.float32)
    part: Part | None = slice(0, height), slice(0, width)
    if outline_px is not None:
        here = [(masks[frame], None)] if frame in masks else []
        moved = [(masks[source], flow) for source, flow in paths.items()]
        part = reach([*here, *moved], outline_px)
    if part is None:
        return mean
    total = np.zeros_like(mean[part])
    weight = np.full_like(total, 1e-6)
    if frame in masks:
        total += masks[frame][part]
        weight += 1
    enlarged: dict[int, Flow] = {}
    for source, flow in paths.items():
        enlarged[source] = resize_flow(flow, width, height)
        cells = on_grid(part, mean.shape, flow.shape)
        trusted = np.zeros(flow.shape[:2], np.float32)
        trusted[cells] = trust(steps[frame].small, steps[source].small, flow, cells)
        # where no anchor is trusted, all count equally
        trusted_here = resized(trusted, width, height)[part] + np.float32(LEAST_WEIGHT)
        total += trusted_here * warp(masks[source], enlarged[source], part=part)
        weight += trusted_here
    alpha = total / (255 * weight)
    if frame not in masks:
        sources = ((holes_of(source), flow) for source, flow in enlarged.items())
        moved_holes = [(holes, flow) for holes, flow in sources if holes is not None]
        _fill_torn(alpha, moved_holes, part)
    mean[part] = alpha
    return mean


def _holes_of(mask: Levels) -> Levels | None:
    """1 in the holes of an anchor's mask, 0 elsewhere; None if it has none."""
    place = mask > 127
    if not has_holes(place):
        return None
    labels, _, is_hole = gaps_of(place)
    return is_hole[labels].astype(np.uint8)


def _fill_torn(alpha: Alpha, moved_holes: Sequence[tuple[Levels, Flow]], part: Part) -> None:
    """Fill the small holes of a frame that no anchor has: the flow has torn them open.

    ``alpha`` is the given part of the frame. ``moved_holes`` has the holes of each anchor that has
    any, and the flow, on their grid, that moves them to the frame.
    """
    found = alpha > 0.5
    if not has_holes(found):
        return
    gaps, areas, is_hole = gaps_of(found)
    torn = is_hole & (areas < SMALL_SHARE * found.sum())
    for holes, flow in moved_holes:
        box = part_around(torn[gaps], 0)
        if box is None:
            return
        here = warp(holes, flow, part=_within(part, box)) > 0
        torn[gaps[box][here]] = False
    alpha[torn[gaps]] = 1


def _within(part: Part, inner: Part) -> Part:
    """The part of a plane that is ``inner`` in ``part`` of it."""
    rows, columns = (
        slice(outer.start + each.start, outer.start + each.stop)
        for outer, each in zip(part, inner, strict=True)
    )
    return rows, columns


def flow_between(steps: Steps, here: int, there: int) -> Flow:
    """The flow from one frame to another; all zero if there is a cut between them."""
    nothing = np.zeros((*steps[here].small.shape[:2], 2), np.float32)
    flow: Flow | None = None
    direction = -1 if there < here else 1
    for at in range(here, there, direction):
        step = step_from(steps, at, direction)
        if step is None:
            return nothing
        flow = step if flow is None else chained(flow, step)
    if flow is None:
        return nothing
    return flow


@stage("flow")
def motion_of(steps: Steps, frame: int, subject: Alpha) -> Alpha:
    """Each cell's motion relative to the camera, to the frame before or after: the smaller one.

    The camera's motion is that of what is not ``subject``.
    """
    flows = [_moved(steps, frame, direction) for direction in (-1, 1)]
    nothing = np.zeros((*steps[frame].small.shape[:2], 2), np.float32)
    known = [flow for flow in flows if flow is not None] or [nothing]
    # occlusion disturbs one direction, and makes its motion larger
    return np.asarray(np.min([residual(flow, subject) for flow in known], axis=0), np.float32)


def _moved(steps: Steps, frame: int, direction: int) -> Flow | None:
    """The flow to the neighbour or, if it is a repeat (telecine), to the frame beyond it."""
    near = step_from(steps, frame, direction)
    beyond = step_from(steps, frame + direction, direction)
    if near is None or beyond is None:
        return near
    if _mean_length(near) >= STILL_SHARE * _mean_length(beyond):
        return near
    return flow_between(steps, frame, frame + 2 * direction)


def _mean_length(flow: Flow) -> float:
    x, y = cv2.split(flow)  # NumPy takes eight times as long along an axis of two
    return float(np.sqrt(x * x + y * y).mean())
