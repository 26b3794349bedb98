"""Follows chosen and banned things back to the start of their shot (docs/adr/0050).

Windows are decided in order: a window cannot use the hints of a later window. Therefore, a first
run masks the clip up to the window of the last hint, and follows the things backward.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.session import Network
from foremask.vision.resample import resized
from foremask.vision.temporal.flow import resize_flow
from foremask.vision.temporal.guidance import Guidance
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import PickedAnchor, followed, is_separate
from foremask.vision.temporal.tier import CONTEXT_FRAMES, Tier
from foremask.vision.temporal.windows import WINDOW_FRAMES, mask_images

REACH_FRAMES = WINDOW_FRAMES + CONTEXT_FRAMES + 1
"""A hint before this frame is in the clip's first window or its context, and needs no scout."""
MOST_ANCHORS = 2000  # of a shot, kept in memory (180 kB each); older anchors get no things
COARSE = 2  # the tracks' grid has this many times the columns and rows of the scout's grid


def brought_back(
    images: Iterable[Image],
    network: Network,
    tier: Tier,
    guidance: Guidance,
    claims: Mapping[int, Alpha],
    cache: NetworkCache | None = None,
) -> Guidance:
    """Return ``guidance``, with the chosen and banned things found on anchors without claims.

    ``claims`` has planes by frame number: 1 on chosen things, -1 on banned things. Masks are made
    up to the window of the last claim, by the network or from a complete ``cache``.
    """
    known = cache if cache is not None and cache.is_complete else None
    scout = Scout(claims)
    for _ in mask_images(
        images, network, tier, guidance=guidance, cache=known, on_picked=scout.add
    ):
        if scout.has(max(claims)):
            break
    scout.end_shot()
    return replace(guidance, brought=scout.found)


class Scout:
    def __init__(self, claims: Mapping[int, Alpha]) -> None:
        self._claims = claims
        self._shot: dict[int, PickedAnchor] = {}
        self.found: dict[int, NDArray[np.int8]] = {}

    def add(self, window: list[PickedAnchor]) -> None:
        if window[0].frame not in self._shot:
            self.end_shot()
        self._shot |= {anchor.frame: _coarse(anchor) for anchor in window}
        while len(self._shot) > MOST_ANCHORS:
            del self._shot[next(iter(self._shot))]

    def has(self, frame: int) -> bool:
        return max(self._shot, default=-1) >= frame

    def end_shot(self) -> None:
        """Follow the claimed things of the shot back to its earlier anchors."""
        anchors = list(self._shot.values())
        claims = [self._claim(each) for each in anchors]
        if any(claim is not None for claim in claims):
            for anchor, side in zip(anchors, followed(anchors, claims, 1), strict=True):
                if anchor.frame not in self._claims and is_separate(anchor.picked, side):
                    self.found[anchor.frame] = side.astype(np.int8)
        self._shot = {}

    def _claim(self, anchor: PickedAnchor) -> Alpha | None:
        claim = self._claims.get(anchor.frame)
        if claim is None:
            return None
        size = anchor.picked.shape[::-1]
        return np.asarray(cv2.resize(claim, size, interpolation=cv2.INTER_NEAREST), np.float32)


def _coarse(anchor: PickedAnchor) -> PickedAnchor:
    """Reduce an anchor to the scout's grid, with its link to the next anchor in half precision."""
    rows, columns = anchor.picked.shape
    grid = max(1, columns // COARSE), max(1, rows // COARSE)
    picked = np.asarray(resized(anchor.picked.astype(np.float32), *grid) > FOREGROUND)
    links = {}
    if 1 in anchor.links:
        link = anchor.links[1]
        planes = resize_flow(link.flow, *grid), resized(link.trust, *grid)
        flow, trust = (each.astype(np.float16) for each in planes)
        links = {1: Link(flow, trust, trust, link.frames)}  # type: ignore[arg-type]
    return PickedAnchor(anchor.frame, picked, picked, links)
