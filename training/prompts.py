"""Prompts as channels at a quarter of the input's size."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

CHANNELS = 7
"""Marks in, marks out, nearness to each, an earlier mask, that there is one, a box."""
DISC_PX = 2.5
REACH = 0.1
"""The distance at which a mark's wide channel falls to 1/e, as a share of the side."""

Map = NDArray[np.float32]
"""(H, W) float32 in [0, 1]."""


@dataclass(frozen=True)
class Click:
    x: float
    """0 to 1 of the width."""
    y: float
    inside: bool
    """Whether the place belongs to what is meant."""


@dataclass
class Prompt:
    clicks: list[Click] = field(default_factory=list)
    stroke_in: Map | None = None
    stroke_out: Map | None = None
    earlier: Map | None = None
    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom in 0 to 1."""

    def is_single_click(self) -> bool:
        """Whether the prompt leaves open what is meant, and three answers are asked for."""
        more = (self.stroke_in, self.stroke_out, self.earlier, self.box)
        return len(self.clicks) == 1 and all(each is None for each in more)


def marks(prompt: Prompt, side: int, *, inside: bool) -> Map:
    """Discs at the clicks of one kind, and the strokes of that kind."""
    drawn = np.zeros((side, side), np.float32)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) + 0.5
    for click in prompt.clicks:
        if click.inside == inside:
            distance = np.hypot(columns - click.x * side, rows - click.y * side)
            drawn = np.maximum(drawn, np.clip(DISC_PX - distance, 0, 1))
    stroke = prompt.stroke_in if inside else prompt.stroke_out
    if stroke is not None:
        drawn = np.maximum(drawn, resized(stroke, side))
    return drawn


def nearness(drawn: Map) -> Map:
    """1 at marks, falling with the distance from them."""
    if not (drawn > 0.5).any():
        return np.zeros_like(drawn)
    distance = cv2.distanceTransform((drawn <= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(np.exp(-distance / (REACH * drawn.shape[0])), np.float32)


def resized(mask: Map, side: int) -> Map:
    """A map as a square; it is stretched, as the picture is."""
    if mask.shape == (side, side):
        return mask
    larger = min(mask.shape) > side
    method = cv2.INTER_AREA if larger else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask, (side, side), interpolation=method), np.float32)


def rendered(prompt: Prompt, side: int) -> NDArray[np.float32]:
    """(CHANNELS, side, side)."""
    channels = np.zeros((CHANNELS, side, side), np.float32)
    for offset, inside in ((0, True), (1, False)):
        drawn = marks(prompt, side, inside=inside)
        channels[offset] = drawn
        channels[offset + 2] = nearness(drawn)
    if prompt.earlier is not None:
        channels[4] = resized(prompt.earlier, side)
        channels[5] = 1
    if prompt.box is not None:
        left, top, right, bottom = (round(edge * side) for edge in prompt.box)
        channels[6, top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    return channels
