"""Bring the masks of keyframes to every frame, and steady them on the way."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foremask.pictures import Alpha, Flow, Levels, Luma
from foremask.vision.grids import as_alpha, as_levels, resized
from foremask.vision.motion import agreement, compose, resize_flow, trust, warp

LEAST_TRUST = 1e-3  # where nobody is trusted, all are equally
PARTS_PER_PX = 32  # finer than any flow is right; 16 bits hold a thousand pixels of them
MOST_PARTS = 32767
NO_WAY_BACK = (
    0.3  # of the trust is left to a flow whose way back ends elsewhere: the picture may still agree
)


@dataclass(frozen=True, slots=True)
class Move:
    """The way from a frame to a neighbour, small enough to keep a window of them."""

    parts: NDArray[np.int16]  # the flow in 1 / PARTS_PER_PX of a pixel
    agreed: Levels

    @classmethod
    def of(cls, flow: Flow, back: Flow) -> "Move":
        """From the flow there, and the one back."""
        parts = np.clip(np.rint(flow * np.float32(PARTS_PER_PX)), -MOST_PARTS, MOST_PARTS)
        return cls(parts.astype(np.int16), as_levels(agreement(flow, back)))

    @property
    def flow(self) -> Flow:
        """In pixels."""
        return self.parts * np.float32(1 / PARTS_PER_PX)


@dataclass(frozen=True, slots=True)
class Step:
    """One frame of a window: its grey picture and the ways to its neighbours, on the flow grid."""

    grey: Luma
    back: Move | None  # to the frame before; None on a shot's first
    ahead: Move | None  # to the frame after; None on a shot's last


@dataclass(frozen=True, slots=True)
class _Path:
    """The way from one frame to a keyframe: where each pixel is there, and how far all its steps agree."""

    flow: Flow
    agreed: Alpha

    @classmethod
    def along(cls, move: Move, onward: "_Path | None") -> "_Path":
        """One step, and then the rest of the way."""
        flow, agreed = move.flow, as_alpha(move.agreed)
        if onward is None:
            return cls(flow, agreed)
        return cls(compose(flow, onward.flow), agreed * warp(onward.agreed, flow))


def carry(
    gap: int,
    steps: Sequence[Step],
    keyframes: Sequence[int],
    masks: Sequence[Levels],
    reach: int,
) -> list[Alpha]:
    """The masks from keyframe number ``gap`` up to the next one, or to the end of the window after the last.

    Each is the mean of the masks of the ``reach`` nearest keyframes on each side, moved here and weighted by
    trust; a keyframe's own mask counts with full trust. ``masks[k]`` is that of frame ``keyframes[k]``, on
    the mask grid. Nothing comes from beyond a cut, since no flow leads there.
    """
    first = keyframes[gap]
    end = keyframes[gap + 1] if gap + 1 < len(keyframes) else len(steps)
    earlier = _paths(steps, keyframes, range(keyframes[max(0, gap - reach)], end), reach)
    beyond = min(len(keyframes) - 1, gap + reach)
    later = _paths(steps, keyframes, range(max(end - 1, keyframes[beyond]), first - 1, -1), reach)
    before, after = dict(earlier), dict(later)
    held = dict(zip(keyframes, masks, strict=True))
    return [_mean(frame, held, before[frame] | after[frame], steps) for frame in range(first, end)]


def _paths(
    steps: Sequence[Step], keyframes: Sequence[int], frames: range, reach: int
) -> Iterator[tuple[int, dict[int, _Path]]]:
    """For each of ``frames``, the ways to the last ``reach`` keyframes that ``frames`` passed before it.

    Each follows from those of the frame before by one more step, so a long gap costs no more than a short one.
    """
    passed: dict[int, _Path | None] = {}  # None: this very frame
    for frame in frames:
        move = steps[frame].back if frames.step > 0 else steps[frame].ahead
        paths: dict[int, _Path] = {}
        if frame != frames.start and move is not None:
            paths = {k: _Path.along(move, onward) for k, onward in passed.items()}
        yield frame, paths
        passed = dict(paths)
        if frame in keyframes:
            passed = {frame: None} | dict(itertools.islice(paths.items(), reach - 1))


def _mean(
    frame: int, masks: dict[int, Levels], paths: dict[int, _Path], steps: Sequence[Step]
) -> Alpha:
    """The trusted mean of what the keyframes in ``paths`` say of ``frame``, and of its own mask if it has one."""
    height, width = next(iter(masks.values())).shape
    total = np.zeros((height, width), np.float32)
    weight = np.full((height, width), 1e-6, np.float32)
    if frame in masks:
        total += masks[frame]
        weight += 1
    for source, path in paths.items():
        trusted = trust(steps[frame].grey, steps[source].grey, path.flow)
        trusted *= NO_WAY_BACK + (1 - NO_WAY_BACK) * path.agreed
        said = resized(trusted, width, height) + np.float32(LEAST_TRUST)
        total += said * warp(masks[source], resize_flow(path.flow, width, height))
        weight += said
    return total / (255 * weight)


def flow_between(steps: Sequence[Step], here: int, there: int) -> Flow:
    """The flow from one frame to an earlier or later one of the same shot; none at all beyond a cut."""
    flow: Flow | None = None
    direction = -1 if there < here else 1
    for at in range(here, there, direction):
        move = steps[at].back if direction < 0 else steps[at].ahead
        if move is None:
            break
        onward = move.flow
        flow = onward if flow is None else compose(flow, onward)
    else:
        if flow is not None:
            return flow
    return np.zeros((*steps[here].grey.shape, 2), np.float32)
