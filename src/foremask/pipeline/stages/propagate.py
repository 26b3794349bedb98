"""Moves the masks of anchors along the flow to all frames of a window."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from foremask.pipeline.threads import WORKERS, Workers
from foremask.pipeline.values import DecidedWindow
from foremask.types import Alpha
from foremask.vision.temporal.grids import MaskAlpha
from foremask.vision.temporal.propagation import propagate
from foremask.vision.temporal.tier import Tier
from foremask.vision.temporal.verdict import hardened, outline_px


@dataclass(frozen=True, slots=True)
class Propagate:
    """Yields one mask for each wanted image, in order, on the grid of `Tier.mask_area_px`."""

    tier: Tier
    workers: Workers
    name: str = "propagate"

    def __call__(self, windows: Iterator[DecidedWindow], /) -> Iterator[MaskAlpha]:
        # A loop would hold each window while the next one is asked about.
        return map(hardened, itertools.chain.from_iterable(map(self._propagated, windows)))

    def _propagated(self, decided: DecidedWindow) -> Iterator[Alpha]:
        window = decided.window
        first = window.own.start
        stop = window.own.stop
        ends = itertools.pairwise([*decided.masks, stop])
        gaps = [frame for frame, after in ends if frame < stop and after > first]
        between = partial(
            propagate,
            steps=window.steps,
            masks=decided.masks,
            per_side=self.tier.anchors_per_side,
            outline_px=outline_px(window.grids.mask.shape),
        )
        numbers = itertools.count(gaps[0])
        for batch in itertools.batched(gaps, 2 * WORKERS):
            for alpha in itertools.chain.from_iterable(self.workers.map(between, batch)):
                if first <= next(numbers) < stop:
                    yield alpha
