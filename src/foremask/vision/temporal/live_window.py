"""Masks the newest frames of a live stream from the network's masks of some of them."""

import numpy as np

from foremask.options import Quality
from foremask.types import Alpha, Image, Levels, Luma
from foremask.vision.resample import as_alpha, as_levels, in_half, resized
from foremask.vision.temporal.flow import FlowEstimator, luma
from foremask.vision.temporal.grids import grid_of
from foremask.vision.temporal.propagation import FrameFlow, propagate, propagate_to
from foremask.vision.temporal.tier import TIERS

MASK_AREA_PX = TIERS[Quality.FAST].mask_area_px
# Half of the time of `fast`'s flow, for 0.4 J&F: the network gets it, and is asked more often.
FLOW_AREA_PX = 288 * 162
DESCENT_STEPS = 12


class LiveWindow:
    """Consecutive frames of one size, from the last one whose mask is known."""

    def __init__(self) -> None:
        self._flow = FlowEstimator(descent_steps=DESCENT_STEPS)
        self._steps: dict[int, FrameFlow] = {}
        self._known: dict[int, Levels] = {}  # one frame's mask, once there is one
        self._grey: Luma | None = None

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def knows_any(self) -> bool:
        return bool(self._known)

    def add(self, number: int, image: Image) -> None:
        """Append a frame, whose ``number`` follows the last one's."""
        small = image.rgb(*grid_of(image, FLOW_AREA_PX))
        grey = luma(small)
        before = self._grey
        self._grey = grey
        if before is None:
            self._steps[number] = FrameFlow(small, None, None)
            return
        there = in_half(self._flow(grey, before))
        back = in_half(self._flow(before, grey))
        self._steps[number] = FrameFlow(small, there, back)

    def extrapolated(self, last: int) -> list[Alpha]:
        """The masks of the frames after the known one, to ``last``, which becomes the known one."""
        (known,) = self._known
        masks = self._propagated(known, last, self._known)[1:]
        self._known = {last: as_levels(masks[-1])}
        return masks

    def learn(self, number: int, alpha: Alpha) -> list[Alpha]:
        """Take the network's mask of a frame; return the masks of the frames from the known one on.

        These are the means of both masks, warped to each frame. If the known frame is this one or a
        later one, the network's mask is warped to it, and no mask is returned. Earlier frames are
        forgotten.
        """
        masks: list[Alpha] = []
        known = min(self._known, default=None)
        if known is None:
            mask = alpha
            masks = [mask]
        elif known < number:
            before = propagate_to(number, self._steps, known, self._known[known])
            mask = _surer(alpha, before)
            both = self._known | {number: as_levels(mask)}
            masks = [*self._propagated(known, number, both)[1:], mask]
        else:
            now = propagate_to(known, self._steps, number, as_levels(alpha))
            mask = _surer(now, as_alpha(self._known[known]))
        self._known = {max(number, known or 0): as_levels(mask)}
        (first,) = self._known
        self._steps = {each: step for each, step in self._steps.items() if each >= first}
        return masks

    def _propagated(self, first: int, last: int, known: dict[int, Levels]) -> list[Alpha]:
        """The masks from the frame ``first`` to ``last``, or to the frame before another known."""
        steps = {number: self._steps[number] for number in range(first, last + 1)}
        return propagate(first, steps, known, 1)


def _surer(new: Alpha, old: Alpha) -> Alpha:
    """The new mask where it is as certain as the old one; else the old one counts, too."""
    share = np.maximum(_certainty(old) - _certainty(new), np.float32(0))
    return np.asarray(new + (old - new) * share, np.float32)


def _certainty(mask: Alpha) -> Alpha:
    return np.abs(2 * mask - 1)


def live_mask(alpha: Alpha, image: Image) -> Alpha:
    """Resample the network's mask to the grid of masks."""
    return resized(alpha, *grid_of(image, MASK_AREA_PX))
