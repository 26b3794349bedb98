"""Propagates the masks of anchors to every frame, as a mean that steadies them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow, Levels, Luma
from foremask.vision.resample import resized
from foremask.vision.temporal.flow import compose, resize_flow, trust, warp

MIN_TRUST = 1e-3  # where no anchor is trusted, all count equally
FIXED_POINT_PER_PX = 32  # finer than flow is accurate; 16 bits hold 1024 pixels of these
MAX_FIXED_POINT = 32767


@dataclass(frozen=True, slots=True)
class PackedFlow:
    """The flow from a frame to another, small enough to keep a window of them."""

    fixed_point: NDArray[np.int16]  # the flow in 1 / FIXED_POINT_PER_PX of a pixel

    @classmethod
    def of(cls, flow: Flow) -> "PackedFlow":
        limit = MAX_FIXED_POINT
        fixed_point = np.clip(np.rint(flow * np.float32(FIXED_POINT_PER_PX)), -limit, limit)
        return cls(fixed_point.astype(np.int16))

    @property
    def flow(self) -> Flow:
        """In pixels."""
        return self.fixed_point * np.float32(1 / FIXED_POINT_PER_PX)

    @property
    def length(self) -> float:
        """The mean length, in pixels."""
        return float(np.linalg.norm(self.flow, axis=2).mean())


@dataclass(frozen=True, slots=True)
class FrameFlow:
    """One frame of a window: its luma and the flows to its neighbours, on the flow grid."""

    grey: Luma
    to_previous: PackedFlow | None  # None on the first frame of a shot
    to_next: PackedFlow | None  # None on the last frame of a shot

    def towards(self, direction: int) -> PackedFlow | None:
        """The flow to the frame before (-1) or after (1)."""
        return self.to_previous if direction < 0 else self.to_next


def propagate(
    gap: int,
    steps: Sequence[FrameFlow],
    anchors: Sequence[int],
    masks: Sequence[Levels],
    per_side: int,
) -> list[Alpha]:
    """The masks from anchor number ``gap`` up to the next one, or to the end of the window.

    Each is the mean of the masks of the ``per_side`` nearest anchors on each side, warped here and
    weighted by trust; an anchor's own mask counts with full trust. ``masks[k]`` is that of frame
    ``anchors[k]``, on the mask grid. Masks never cross a cut: no flow does.
    """
    first = anchors[gap]
    end = anchors[gap + 1] if gap + 1 < len(anchors) else len(steps)
    earlier = _paths(steps, anchors, range(anchors[max(0, gap - per_side)], end), per_side)
    beyond = min(len(anchors) - 1, gap + per_side)
    later = _paths(steps, anchors, range(max(end - 1, anchors[beyond]), first - 1, -1), per_side)
    before, after = dict(earlier), dict(later)
    anchor_masks = dict(zip(anchors, masks, strict=True))
    return [
        _mean(frame, anchor_masks, before[frame] | after[frame], steps)
        for frame in range(first, end)
    ]


def _paths(
    steps: Sequence[FrameFlow], anchors: Sequence[int], frames: range, per_side: int
) -> Iterator[tuple[int, dict[int, Flow]]]:
    """For each of ``frames``, the flows to the ``per_side`` anchors passed last.

    Each extends one of the previous frame by one step, so long gaps cost no more a frame than
    short ones.
    """
    passed: dict[int, Flow | None] = {}  # None: this very frame
    for frame in frames:
        flow_step = steps[frame].towards(-frames.step)
        paths: dict[int, Flow] = {}
        if frame != frames.start and flow_step is not None:
            step = flow_step.flow
            paths = {k: step if rest is None else compose(step, rest) for k, rest in passed.items()}
        yield frame, paths
        passed = dict(paths)
        if frame in anchors:
            passed = {frame: None} | dict(itertools.islice(paths.items(), per_side - 1))


def _mean(
    frame: int, masks: dict[int, Levels], paths: dict[int, Flow], steps: Sequence[FrameFlow]
) -> Alpha:
    """The mean, by trust, of the masks propagated along ``paths`` and the frame's own mask."""
    height, width = next(iter(masks.values())).shape
    total = np.zeros((height, width), np.float32)
    weight = np.full((height, width), 1e-6, np.float32)
    if frame in masks:
        total += masks[frame]
        weight += 1
    for source, flow in paths.items():
        trusted = trust(steps[frame].grey, steps[source].grey, flow)
        trusted_here = resized(trusted, width, height) + np.float32(MIN_TRUST)
        total += trusted_here * warp(masks[source], resize_flow(flow, width, height))
        weight += trusted_here
    return total / (255 * weight)


def flow_between(steps: Sequence[FrameFlow], here: int, there: int) -> Flow:
    """The flow from one frame to another of the same shot; all zero across a cut."""
    flow: Flow | None = None
    direction = -1 if there < here else 1
    for at in range(here, there, direction):
        flow_step = steps[at].towards(direction)
        if flow_step is None:
            break
        rest = flow_step.flow
        flow = rest if flow is None else compose(flow, rest)
    else:
        if flow is not None:
            return flow
    return np.zeros((*steps[here].grey.shape, 2), np.float32)
