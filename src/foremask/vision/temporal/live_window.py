"""Masks the newest frames of a live stream from the network's masks of some of them."""

import numpy as np

from foremask.options import Quality
from foremask.types import Alpha, Image, Levels, Luma
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.flow import FlowEstimator, luma
from foremask.vision.temporal.grids import grid_of
from foremask.vision.temporal.propagation import FrameFlow, propagate
from foremask.vision.temporal.tier import TIERS

TIER = TIERS[Quality.FAST]


class LiveWindow:
    """Consecutive frames of one size, from the last one whose mask is known."""

    def __init__(self) -> None:
        self._flow = FlowEstimator()
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
        small = image.rgb(*grid_of(image, TIER.flow_area_px))
        grey = luma(small)
        before = self._grey
        self._grey = grey
        if before is None:
            self._steps[number] = FrameFlow(small, None, None)
            return
        there = self._flow(grey, before).astype(np.float16)
        back = self._flow(before, grey).astype(np.float16)
        self._steps[number] = FrameFlow(small, there, back)

    def extrapolated(self, last: int) -> list[Alpha]:
        """The masks of the frames after the known one, to ``last``, which becomes the known one."""
        (known,) = self._known
        masks = self._from(known, last)[1:]
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
        if known is None or known < number:
            self._known[number] = as_levels(alpha)
            masks = [alpha]
            if known is not None:
                masks = self._from(known, number)[1:]
            self._known = {number: as_levels(masks[-1])}
        else:
            before = as_alpha(self._known[known])
            self._known = {number: as_levels(alpha)}
            now = self._from(number, known)[-1]
            self._known = {known: as_levels((now + before) / np.float32(2))}
        (first,) = self._known
        self._steps = {each: step for each, step in self._steps.items() if each >= first}
        return masks

    def _from(self, first: int, last: int) -> list[Alpha]:
        steps = {number: self._steps[number] for number in range(first, last + 1)}
        masks = propagate(first, steps, self._known, 1)
        if last in self._known:
            masks += propagate(last, steps, self._known, 1)
        return masks


def live_mask(alpha: Alpha, image: Image) -> Alpha:
    """Resample the network's mask to the grid of masks."""
    return resized(alpha, *grid_of(image, TIER.mask_area_px))
