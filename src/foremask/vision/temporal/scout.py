"""Follows chosen things back to the start of their shot.

Windows are decided in order, each by the hints on its own frames and in earlier windows. What hints
decide in windows before theirs is therefore found in a run ahead, on a coarse grid, along the flow
between anchors. Source: docs/adr/0050.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image
from foremask.vision.network.session import Network
from foremask.vision.resample import resized
from foremask.vision.temporal.flow import resize_flow
from foremask.vision.temporal.guidance import Guidance
from foremask.vision.temporal.network_cache import NetworkCache
from foremask.vision.temporal.places import Place
from foremask.vision.temporal.propagation import PackedFlow
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import PickedAnchor, followed, is_separate
from foremask.vision.temporal.tier import Tier
from foremask.vision.temporal.windows import CONTEXT_FRAMES, WINDOW_FRAMES, mask_images

REACH_FRAMES = WINDOW_FRAMES + CONTEXT_FRAMES + 1
"""Hints on frames before this one are in the clip's first window, which needs no scout."""
MOST_ANCHORS = 2000  # kept of a shot, 180 kB each: things are followed no farther back
COARSE = 2  # pixels of the tracks' grid for one of this grid, in each direction


@dataclass(frozen=True, slots=True)
class _Step:
    """An anchor on the coarse grid: its picked pixels, and the flow to the next anchor."""

    picked: Place
    to_next: tuple[PackedFlow, NDArray[np.float16], int] | None  # flow, trust, frames

    @classmethod
    def of(cls, anchor: PickedAnchor) -> "_Step":
        rows, columns = anchor.picked.shape
        grid = max(1, columns // COARSE), max(1, rows // COARSE)
        picked = np.asarray(resized(anchor.picked.astype(np.float32), *grid) > FOREGROUND)
        link = anchor.links.get(1)
        if link is None:
            return cls(picked, None)
        flow, trust = resize_flow(link.flow, *grid), resized(link.trust, *grid)
        return cls(picked, (flow.astype(np.float16), trust.astype(np.float16), link.frames))

    def link(self) -> Link | None:
        if self.to_next is None:
            return None
        flow, trust = (each.astype(np.float32) for each in self.to_next[:2])
        return Link(flow, trust, trust, self.to_next[2])


class _Scout:
    """The anchors of the current shot, and what was found on those of earlier shots."""

    def __init__(self, claims: Mapping[int, Alpha]) -> None:
        self._claims = claims
        self._shot: dict[int, _Step] = {}
        self.found: dict[int, NDArray[np.int8]] = {}

    def add(self, window: list[PickedAnchor]) -> None:
        if window[0].frame not in self._shot:
            self.end_shot()
        self._shot |= {anchor.frame: _Step.of(anchor) for anchor in window}
        while len(self._shot) > MOST_ANCHORS:
            del self._shot[next(iter(self._shot))]

    def has(self, frame: int) -> bool:
        return max(self._shot, default=-1) >= frame

    def _claim(self, number: int, step: _Step) -> Alpha | None:
        claim = self._claims.get(number)
        if claim is None:
            return None
        size = step.picked.shape[::-1]
        return np.asarray(cv2.resize(claim, size, interpolation=cv2.INTER_NEAREST), np.float32)

    def end_shot(self) -> None:
        """Follow the claimed things of the shot back to its earlier anchors."""
        steps = list(self._shot.values())
        claims = [self._claim(number, step) for number, step in self._shot.items()]
        if any(claim is not None for claim in claims):
            picked = [step.picked for step in steps]
            order = range(len(steps))[::-1]
            sides = followed(picked, claims, lambda index: steps[index].link(), order)
            self.found |= {
                number: side.astype(np.int8)
                for number, step, side in zip(self._shot, steps, sides, strict=True)
                if number not in self._claims and is_separate(step.picked, side)
            }
        self._shot = {}


def brought_back(
    images: Iterable[Image],
    network: Network,
    tier: Tier,
    guidance: Guidance,
    claims: Mapping[int, Alpha],
    cache: NetworkCache | None = None,
) -> Guidance:
    """``guidance`` with what ``claims`` decide on earlier anchors of the same shots.

    ``claims`` has `FrameHints.followed` by frame number. The images are masked up to the window of
    the last claim; what a complete ``cache`` has is not inferred again.
    """
    known = cache if cache is not None and cache.is_complete else None
    scout = _Scout(claims)
    for _ in mask_images(
        images, network, tier, guidance=guidance, cache=known, on_picked=scout.add
    ):
        if scout.has(max(claims)):
            break
    scout.end_shot()
    return replace(guidance, brought=scout.found)
