"""Estimates the foreground's colours in pixels that mix foreground and background."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Levels, Rgb
from foremask.vision.matting.backdrop import Backdrop, cells_of, sampled

type Colours = NDArray[np.float32]
"""(H, W, 3) float32, 0 to 255."""

SMALL: Final = 4  # Colours are first solved at 1/4 of the width and height.
# docs/adr/0113 has the errors with these numbers; the single numbers were set by eye.
SURENESS: Final = 16  # Pixels weigh alpha**16 as foreground, (1 - alpha)**16 as background.
PRIOR_WEIGHT: Final = 0.03  # Weight of the coarser grid's colour, where a sure pixel weighs 1.
SWEEPS: Final = 4
SOFT_ALPHA: Final = 0.004
MIN_KNOWN: Final = 230  # The least interpolated `Behind.known` that counts as known.
DAMPING: Final = 0.2  # Used with a known background, since background and alpha have errors.
AT_ONCE: Final = 16384  # Pixels that are solved at once, to fit in a core's cache.
_PIXEL: Final = np.dtype("V3")  # An RGB pixel as one element: NumPy assigns these faster.
ALIGN_PX: Final = 32
MARGIN_PX: Final = 64  # Colours are estimated up to this distance from the mask's bounding box.


@cache
def _weights(surest: int) -> Levels:
    share = np.minimum(np.arange(256) / max(1, surest), 1)
    return np.rint(255 * share**SURENESS).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Behind:
    """The background at soft edges, at the mask's size; ``known`` is 255 where it was found."""

    colours: Rgb
    known: Levels


def behind_edges(alpha: Alpha, backdrop: Backdrop) -> Behind:
    """Take the background at soft cells of ``alpha``, and beside them, from other frames."""
    soft = ((alpha > SOFT_ALPHA) & (alpha < 1 - SOFT_ALPHA)).astype(np.uint8)
    cells = cells_of(np.asarray(cv2.dilate(soft, np.ones((3, 3), np.uint8))))
    found = backdrop.background(cells)
    colours = np.zeros((*alpha.shape, 3), np.uint8)
    known = np.zeros(alpha.shape, np.uint8)
    colours[cells] = np.rint(255 * found.colour) * found.known[:, None]
    known[cells] = 255 * found.known
    return Behind(colours, known)


@stage("colours")
def foreground_colours(rgb: Rgb, levels: Levels, behind: Behind | None = None) -> Rgb:
    """Estimate the foreground's colours in ``rgb``, whose alpha is ``levels``.

    Where alpha is 1, the result is ``rgb``. Where alpha is between 0 and 1, the result and an
    estimated background mix to ``rgb``. Where alpha is 0, colours spread from the foreground.
    Beyond a margin round the mask's bounding box, the result is black.

    Method: Germer et al., "Fast Multi-Level Foreground Estimation" (ICPR 2020), with changes:
    docs/adr/0113. An image pyramid spreads colours from sure pixels. Foreground and background are
    solved together. A pixel's four neighbours have equal weights. At full size, only soft pixels
    are solved; where ``behind`` knows the background, the foreground is solved again with it.
    """
    colours = np.zeros_like(rgb)
    left, top, width, height = cv2.boundingRect(levels)
    if width:
        box = (
            _with_margin(top, height, levels.shape[0]),
            _with_margin(left, width, levels.shape[1]),
        )
        _solve_box(np.ascontiguousarray(rgb[box]), np.ascontiguousarray(levels[box]), colours[box])
        if behind is not None:
            _solve_before(behind, rgb, levels, box, colours)
    return colours


def _solve_before(
    behind: Behind, rgb: Rgb, levels: Levels, box: tuple[slice, slice], target: Rgb
) -> None:
    height, width = levels.shape
    rows, columns = np.nonzero(cv2.inRange(np.ascontiguousarray(levels[box]), 1, 254))
    rows = rows + box[0].start
    columns = columns + box[1].start
    grid_height, grid_width = behind.known.shape
    x = (columns + 0.5) / width * grid_width - 0.5
    y = (rows + 0.5) / height * grid_height - 0.5
    there = sampled(np.dstack([behind.colours, behind.known]), x, y)
    known = there[:, 3] >= MIN_KNOWN
    colours = there[known, :3] * (255 / there[known, 3:])  # remove the black of unknown cells
    band = (rows * width + columns)[known]
    _solve_band(target, rgb, levels, band, colours, DAMPING)


def _with_margin(start: int, length: int, whole: int) -> slice:
    """Add a margin, and align to `ALIGN_PX`, since OpenCV shrinks aligned sizes faster."""
    first = max(0, start - MARGIN_PX) // ALIGN_PX * ALIGN_PX
    last = min(whole, -(-(start + length + MARGIN_PX) // ALIGN_PX) * ALIGN_PX)
    return slice(first, last)


def _solve_box(rgb: Rgb, levels: Levels, target: Rgb) -> None:
    height, width = levels.shape
    foreground, background = _small_sides(rgb, levels)
    band = _band(levels)
    behind = np.asarray(cv2.resize(_as_rgb(background), (width, height)), np.uint8)
    behind = behind.view(_PIXEL).ravel().take(band).view(np.uint8).reshape(-1, 3)
    filled = np.asarray(cv2.resize(_as_rgb(foreground), (width, height)), np.uint8)
    cv2.copyTo(rgb, cv2.inRange(levels, 255, 255), filled)
    _solve_band(filled, rgb, levels, band, behind)
    target[:] = filled


def _band(levels: NDArray[Any]) -> NDArray[np.intp]:
    return np.flatnonzero(levels - np.uint8(1) < 254)  # in uint8, 0 - 1 is 255


def _solve_band(
    target: Rgb,
    picture: Rgb,
    levels: Levels,
    band: NDArray[np.intp],
    background: NDArray[Any],
    damping: float | None = None,
) -> None:
    """Change ``target`` at indices ``band`` so that it mixes with ``background`` to ``picture``."""
    pixels, wanted = (each.view(_PIXEL).ravel() for each in (target, picture))
    for start in range(0, band.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        some = band[part]
        alpha = levels.ravel().take(some) * np.float32(1 / 255)
        beyond = 1 - alpha
        spare: NDArray[Any] | np.float32 = beyond * beyond
        if damping is not None:
            spare = np.float32(damping)
        gain = alpha / (alpha * alpha + spare)
        solved = pixels.take(some).view(np.uint8).astype(np.float32)
        residual = wanted.take(some).view(np.uint8) - _thrice(alpha) * solved
        residual -= _thrice(beyond) * background[part].ravel()
        residual *= _thrice(gain)
        solved += residual
        rounded = cv2.convertScaleAbs(np.maximum(solved, 0, out=solved))  # also clips to 255
        pixels[some] = np.asarray(rounded).ravel().view(_PIXEL)


def _thrice(values: NDArray[Any]) -> NDArray[Any]:
    """Each value once for each channel of its pixel."""
    return cv2.merge([values] * 3).ravel()


def _small_sides(rgb: Rgb, levels: Levels) -> tuple[Colours, Colours]:
    height, width = levels.shape
    half = (-(-width // 2), -(-height // 2))
    size = (-(-width // SMALL), -(-height // SMALL))
    picture = _shrunk(rgb, half)
    alpha = _shrunk(levels, half)
    lowest, highest, _, _ = cv2.minMaxLoc(alpha)
    foreground = _spread(picture, cv2.LUT(alpha, _weights(int(highest))), size)
    background = _spread(picture, cv2.LUT(alpha, _weights(255 - int(lowest))[::-1].copy()), size)
    _solve(foreground, background, _shrunk(picture, size), _shrunk(levels, size))
    return foreground, background


def _shrunk(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Shrink by area averaging; restore axes of length 1, which OpenCV drops."""
    shrunk = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return shrunk.reshape(size[1], size[0], *plane.shape[2:])


def _spread(picture: NDArray[Any], weight: NDArray[Any], size: tuple[int, int]) -> Colours:
    """Average colours by weight; a cell of small weight gets the mean of a larger region."""
    sums = cv2.multiply(picture, cv2.merge([weight] * 3), dtype=cv2.CV_16U)
    pyramid = [tuple(_shrunk(each, size).astype(np.float32) for each in (sums, weight))]
    while max(size) > 1:
        size = (-(-size[0] // 2), -(-size[1] // 2))
        pyramid.append(tuple(_shrunk(each, size) for each in pyramid[-1]))
    top, weights = pyramid.pop()
    colours = top / (weights[..., None] + np.float32(1e-6))
    prior_weight = np.float32(255 * PRIOR_WEIGHT)
    for level, weights in reversed(pyramid):
        prior: Any = cv2.resize(colours, weights.shape[::-1]).reshape(level.shape)
        prior *= prior_weight
        prior += level
        scale = cv2.merge([1 / (weights + prior_weight)] * 3)
        colours = cv2.multiply(prior, scale).reshape(level.shape)
    return np.asarray(colours, np.float32)


def _solve(
    foreground: Colours, background: Colours, picture: NDArray[Any], levels: NDArray[Any]
) -> None:
    height, width = levels.shape
    band = _band(levels)
    rows, columns = np.divmod(band, width)
    near = [
        np.clip(rows + down, 0, height - 1) * width + np.clip(columns + right, 0, width - 1)
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    front = levels.ravel()[band] * np.float32(1 / 255)
    back = 1 - front
    step = 1 / (front * front + back * back)
    # Channels come first, so that NumPy's inner loops run over the band and not over 3 channels.
    wanted = picture.reshape(-1, 3).take(band, axis=0).T.astype(np.float32)
    pairs = foreground.reshape(-1, 3), background.reshape(-1, 3)
    sides = np.ascontiguousarray(np.hstack(pairs).T)
    for _ in range(SWEEPS):
        means = sides.take(near[0], axis=1)
        for at in near[1:]:  # one neighbour at a time, to save memory
            means += sides.take(at, axis=1)
        means /= len(near)
        residual = (wanted - front * means[:3] - back * means[3:]) * step
        means[:3] += front * residual
        means[3:] += back * residual
        sides[:, band] = np.clip(means, 0, 255)
    for side, found in zip(pairs, (sides[:3], sides[3:]), strict=True):
        side[band] = found[:, band].T


def _as_rgb(colours: Colours) -> Rgb:
    return np.asarray(cv2.convertScaleAbs(colours), np.uint8)
