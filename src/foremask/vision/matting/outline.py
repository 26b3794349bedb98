"""Estimates the alpha of soft edges from the colours on both sides of the edge."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image, Rgb
from foremask.vision.matting.backdrop import Backdrop, FoundBackground, cells_of, with_backdrops
from foremask.vision.resample import resized

SURE: Final = 0.95  # Higher alpha is foreground, and alpha under 1 - SURE is background.
WINDOW_CELLS: Final = 14  # Side of the square in which colours are averaged; by eye.
# An estimate of alpha has the weight d / (d + MISFIT_WEIGHT * e). Here d is the squared distance
# between the mean colours of foreground and background, and e is the sum of their variances and of
# the squared distance between the cell's colour and the colour that the estimate gives.
# The weight is by eye. docs/adr/0050 has what the outline gains with it.
MISFIT_WEIGHT: Final = 12.0
COLOUR_WEIGHT: Final = 2.0  # Weight of chroma relative to luma: chroma separates both sides better.
_COLOUR_WEIGHTS: Final = (COLOUR_WEIGHT * np.eye(3) + (1 - COLOUR_WEIGHT) / 3).astype(np.float32)
# Edges of decoded pictures are too soft, since chroma is coded at half the resolution. This factor
# makes the estimated edges harder: docs/adr/0050.
HARDENING: Final = 1.1


def resolve_outlines[P: Image](
    pairs: Iterable[tuple[P, Alpha]], ahead_frames: int | None
) -> Iterator[tuple[P, Alpha, Backdrop | None]]:
    """Apply `resolve_outline` to each alpha, without backdrops if ``ahead_frames`` is None."""
    if ahead_frames is None:
        for image, alpha in pairs:
            yield image, resolve_outline(alpha, image), None
    else:
        for image, alpha, backdrop in with_backdrops(pairs, ahead_frames):
            yield image, resolve_outline(alpha, image, backdrop), backdrop


def resolve_outline(alpha: Alpha, image: Image, backdrop: Backdrop | None = None) -> Alpha:
    """Blend each undecided alpha with an estimate from the cell's colour.

    ``alpha`` is upright. For colour I, the estimate is (I - B)·(F - B) / |F - B|² (Wang and Cohen,
    CVPR 2007, section 3), hardened by `HARDENING` and clipped to 0 and 1. F and B are the mean
    colours of sure foreground and sure background around the cell. If ``backdrop`` knows the
    background behind the cell, B is the colour of that background. The estimate's weight grows with
    the distance of F and B, and falls with the estimate's error. Where F equals B, alpha is kept.
    """
    undecided = (alpha <= SURE) & (alpha >= 1 - SURE)
    if not undecided.any():
        return alpha
    rows, columns = alpha.shape
    box = _around(undecided)
    result = alpha.copy()
    if backdrop is None:
        rgb = image.rgb(columns, rows)
        background = None
    else:
        rgb = backdrop.rgb
        background = backdrop.background(cells_of(undecided))
    result[box] = _resolved(alpha[box], undecided[box], rgb[box], background)
    return result


def _around(cells: NDArray[np.bool_]) -> tuple[slice, slice]:
    left, top, width, height = cv2.boundingRect(cells.astype(np.uint8))

    def grown(start: int, length: int) -> slice:
        first = max(0, start - WINDOW_CELLS)
        return slice(first - first % 2, start + length + WINDOW_CELLS)

    return grown(top, height), grown(left, width)


def _resolved(
    alpha: Alpha, undecided: NDArray[np.bool_], rgb: Rgb, background: FoundBackground | None
) -> Alpha:
    """``background`` has an entry per undecided cell, in the order of `cells_of`."""
    cells = cells_of(undecided)
    rows, columns = (max(1, length // 2) for length in alpha.shape)
    small = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA)
    small = _weighted_colours(small * np.float32(1 / 255))
    inside = _side(alpha > SURE, small)
    outside = _side(alpha < 1 - SURE, small)
    near_row, near_column = (
        at * half // full
        for at, half, full in zip(cells, (rows, columns), alpha.shape, strict=True)
    )
    near = near_row * columns + near_column
    front = inside.at(near)
    back = outside.at(near)
    share = np.minimum(front.share, back.share)
    if background is not None:
        known = background.known
        back.mean[known] = _weighted_colours(background.colour[known])
        back.variance[known] = background.variance[known]
        share[known] = front.share[known]
    across = front.mean - back.mean
    distance = _dot(across, across)
    beyond = _weighted_colours(rgb[cells] * np.float32(1 / 255)) - back.mean
    estimate = _dot(beyond, across) / (distance + np.float32(1e-6))
    estimate = np.clip(0.5 + np.float32(HARDENING) * (estimate - 0.5), 0, 1)
    missed = beyond - estimate[:, None] * across
    off_line = _dot(missed, missed)
    spread = front.variance + back.variance
    misfit = np.float32(MISFIT_WEIGHT) * (spread + off_line)
    weight = distance / (distance + misfit + np.float32(1e-6))
    weight[share < 1e-6] = 0  # no sure foreground, or no sure background
    result = alpha.copy()
    result[cells] += weight * (estimate - alpha[cells])
    return result


def _weighted_colours(colours: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(colours @ _COLOUR_WEIGHTS, np.float32)


@dataclass(frozen=True, slots=True)
class _Side:
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    share: NDArray[np.float32]

    def at(self, cells: NDArray[np.intp]) -> "_Side":
        """The values of some cells, which are given by their flat indices."""
        return _Side(
            self.mean.reshape(-1, 3).take(cells, axis=0),
            self.variance.take(cells),
            self.share.take(cells),
        )


def _dot(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """The dot product of each row; NumPy's sum over an axis of three takes three times as long."""
    red, green, blue = (one * other).T
    return np.asarray(red + green + blue, np.float32)


def _side(sure: NDArray[np.bool_], small: NDArray[np.float32]) -> _Side:
    weight = resized(sure.astype(np.uint8), small.shape[1], small.shape[0])
    window = (WINDOW_CELLS // 2, WINDOW_CELLS // 2)
    share = np.asarray(cv2.blur(weight, window), np.float32)
    weighted = cv2.multiply(small, cv2.merge([weight] * 3))
    scale = 1 / (share + np.float32(1e-6))
    mean = cv2.multiply(cv2.blur(weighted, window), cv2.merge([scale] * 3))
    power = cv2.blur(_summed(cv2.multiply(weighted, small)), window) * scale
    variance = np.maximum(power - _summed(cv2.multiply(mean, mean)), 0)
    return _Side(np.asarray(mean, np.float32), np.asarray(variance, np.float32), share)


def _summed(colours: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(cv2.transform(colours, np.ones((1, 3))), np.float32)
