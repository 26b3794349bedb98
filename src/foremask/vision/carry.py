"""Bring the masks of keyframes to every frame, and steady them on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foremask.pictures import Alpha, Flow, Luma
from foremask.vision.grids import resized
from foremask.vision.motion import compose, resize_flow, trust, warp

LEAST_TRUST = 1e-3  # where nobody is trusted, all are equally


@dataclass(frozen=True, slots=True)
class Step:
    """One frame of a window: its grey picture and the flow to its neighbours, on the flow grid."""

    grey: Luma
    back: NDArray[np.float16] | None  # to the frame before; None on a shot's first
    ahead: NDArray[np.float16] | None  # to the frame after; None on a shot's last


def carry(
    frame: int,
    steps: Sequence[Step],
    keyframes: Sequence[int],
    masks: Sequence[Alpha],
    reach: int = 2,
) -> Alpha:
    """The mask of one frame: the mean of near keyframes' masks, moved here and weighted by trust.

    ``reach`` keyframes on each side speak. A keyframe's own mask counts with full trust; ``masks[k]`` is that of frame ``keyframes[k]``, on the
    mask grid. Nothing comes from beyond a cut, since no flow leads there.
    """
    height, width = masks[0].shape
    total = np.zeros((height, width), np.float32)
    weight = np.full((height, width), 1e-6, np.float32)
    position = int(np.searchsorted(keyframes, frame))
    is_keyframe = position < len(keyframes) and keyframes[position] == frame
    if is_keyframe:
        total += masks[position]
        weight += 1
    earlier = range(position - 1, max(-1, position - 1 - reach), -1)
    after = position + is_keyframe
    later = range(after, min(len(keyframes), after + reach))
    for direction, sources in ((-1, earlier), (1, later)):
        flow: Flow | None = None
        at = frame
        for source in sources:
            flow, at = _onward(flow, at, keyframes[source], steps, direction)
            if flow is None:
                break
            trusted = trust(steps[frame].grey, steps[at].grey, flow)
            said = resized(trusted, width, height) + np.float32(LEAST_TRUST)
            total += said * warp(masks[source], resize_flow(flow, width, height))
            weight += said
    return total / weight


def _onward(
    flow: Flow | None, at: int, goal: int, steps: Sequence[Step], direction: int
) -> tuple[Flow | None, int]:
    """Go on composing from frame ``at`` to ``goal``; None where a cut lies between."""
    while at != goal:
        step = steps[at].back if direction < 0 else steps[at].ahead
        if step is None:
            return None, at
        onward = step.astype(np.float32)
        flow = onward if flow is None else compose(flow, onward)
        at += direction
    return flow, at


def flow_between(steps: Sequence[Step], here: int, there: int) -> Flow:
    """The flow from one frame to an earlier or later one of the same shot."""
    flow, _ = _onward(None, here, there, steps, -1 if there < here else 1)
    if flow is None:
        return np.zeros((*steps[here].grey.shape, 2), np.float32)
    return flow
