"""Optical flow between frames, its confidence, and motion other than the camera's."""

import math
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Flow, Luma, Rgb

PHOTOMETRIC_SCALE = 4.0  # difference of luma at which trust falls to 1/e: docs/adr/0050
PHOTOMETRIC_WINDOW_PX = 3
CHROMA_SCALE = 10.0  # summed difference of Lab's a and b at which continuity falls to 1/e
CONTINUITY_EXPONENT = 0.25  # of trust, which is too low (0.1) where texture moves by half a pixel
# Patches are `PATCH_STRIDE_PX` apart on pictures of `STRIDE_AREA_PX` or more (docs/adr/0050), and
# closer on smaller ones, where a subject has fewer pixels, but at least `LEAST_STRIDE_PX`.
PATCH_STRIDE_PX = 5
STRIDE_AREA_PX = 384 * 216
LEAST_STRIDE_PX = 2
DESCENT_STEPS = 25
RESIDUAL_SIZE = (80, 45)  # columns, rows for fitting the camera's motion, which is smooth
ROBUST_ITERATIONS = 8
LEAST_BACKGROUND = 0.1  # share of the picture from which the camera's motion can be fitted
LIKELY = 0.3  # likelihood of background above which a cell tells how well the camera's motion fits
LEAST_WEIGHT = 1e-3  # the smallest weight in a weighted mean
STILL_SHARE = 0.3  # a motion below this share of the usual motion counts as none
STILL_LEVELS = 2  # a picture of which no pixel differs more is still; coding changes it so much
LEAST_SIDE_PX = 16  # a picture with a shorter side gets zero flow

type Part = tuple[slice, slice]
"""Rows and columns of a part of a plane."""
WHOLE: Part = np.s_[:, :]

type Chroma = NDArray[np.uint8]
"""(H, W, 2) uint8: a and b of CIE Lab."""


class FlowEstimator:
    """Estimates dense flow between grey pictures of one size. Not thread-safe.

    The method is DIS (Kroeger et al., ECCV 2016) with OpenCV's preset ``medium``, except for the
    settings below (docs/adr/0050). If ``at_any_brightness``, patches are compared without their
    means: slower, and less accurate between pictures of one brightness. Patches on small pictures
    are at least ``least_stride_px`` apart, and each takes ``descent_steps`` to its place.
    """

    def __init__(
        self,
        *,
        at_any_brightness: bool = False,
        least_stride_px: int = LEAST_STRIDE_PX,
        descent_steps: int = DESCENT_STEPS,
    ) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)
        self._dis.setUseMeanNormalization(at_any_brightness)
        self._dis.setVariationalRefinementIterations(0)
        self._dis.setGradientDescentIterations(descent_steps)
        self._least_stride_px = least_stride_px

    @stage("flow")
    def __call__(self, here: Luma, there: Luma) -> Flow:
        """The displacement of each pixel of ``here`` to its position in ``there``, in pixels."""
        nothing = np.zeros((*here.shape, 2), np.float32)
        if min(here.shape) < LEAST_SIDE_PX or differ_by_at_most(STILL_LEVELS, here, there):
            return nothing
        stride_px = round(PATCH_STRIDE_PX * math.sqrt(here.size / STRIDE_AREA_PX))
        self._dis.setPatchStride(min(max(stride_px, self._least_stride_px), PATCH_STRIDE_PX))
        return np.asarray(self._dis.calc(here, there, nothing), np.float32)


def differ_by_at_most(levels: int, here: Luma | Rgb, there: Luma | Rgb) -> bool:
    return bool(cv2.absdiff(here, there).max() <= levels)


@lru_cache(maxsize=8)
def _pixel_coordinates(width: int, height: int) -> Flow:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], axis=-1)


def warp[Plane: NDArray[np.float32] | NDArray[np.uint8]](
    plane: Plane,
    flow: Flow,
    how: int = cv2.INTER_LINEAR,
    border: int = cv2.BORDER_REPLICATE,
    part: Part = WHOLE,
) -> Plane:
    """Sample ``plane`` at the ends of ``flow``; outside, by default, repeat the nearest pixel.

    The result has the cells of ``part``.
    """
    places = flow[part] + _pixel_coordinates(flow.shape[1], flow.shape[0])[part]
    return cv2.remap(plane, places, None, how, borderMode=border)  # type: ignore[call-overload, no-any-return]


def warp_labels(labels: NDArray[np.int32], flow: Flow) -> NDArray[np.int32]:
    """As `warp`, but by nearest neighbour, and with 0 outside of the picture."""
    moved = warp(labels.astype(np.float32), flow, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    return np.asarray(moved, np.int32)


def chained(first: Flow, then: Flow) -> Flow:
    """Flow a → c from a → b and b → c."""
    return first + warp(then, first)


def resize_flow(flow: Flow, width: int, height: int) -> Flow:
    """Resample a flow to another grid, and scale it to pixels of that grid."""
    scale = np.diag([width / flow.shape[1], height / flow.shape[0]])
    return np.asarray(cv2.resize(cv2.transform(flow, scale), (width, height)), np.float32)


def trust(here: Luma | Rgb, there: Luma | Rgb, flow: Flow, part: Part = WHOLE) -> Alpha:
    """The similarity of ``here`` and ``there`` warped along ``flow``: 1 where both are equal.

    The result has the cells of ``part``. Each is a mean with its neighbours, of which those outside
    of ``part`` are replaced by mirrored ones.
    """
    differ = _difference(here, there, flow, part).astype(np.float32)
    if differ.ndim == 3:
        differ = np.asarray(cv2.transform(differ, np.full((1, 3), 1 / 3)), np.float32)
    return np.exp(differ * np.float32(-1 / PHOTOMETRIC_SCALE))


def _difference(
    here: NDArray[np.uint8], there: NDArray[np.uint8], flow: Flow, part: Part = WHOLE
) -> NDArray[np.uint8]:
    window = (PHOTOMETRIC_WINDOW_PX, PHOTOMETRIC_WINDOW_PX)
    differ = cv2.absdiff(here[part], warp(there, flow, part=part))
    return np.asarray(cv2.blur(differ, window), np.uint8)


def continuity(here: Chroma, there: Chroma, flow: Flow, trusted: Alpha) -> Alpha:
    """The likelihood that ``there``, warped along ``flow``, shows the same thing as ``here``.

    ``trusted`` is `trust` of the same pictures. Colours count more than luma, which changes where
    texture moves by less than a pixel.
    """
    first, second = cv2.split(_difference(here, there, flow))
    differ = np.asarray(cv2.add(first, second, dtype=cv2.CV_32F), np.float32)
    return trusted**CONTINUITY_EXPONENT * np.exp(differ * np.float32(-1 / CHROMA_SCALE))


def luma(rgb: Rgb) -> Luma:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def chroma(rgb: Rgb) -> Chroma:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[..., 1:], np.uint8, order="C")


def residual(flow: Flow, subject: Alpha) -> Alpha:
    """The motion of each cell of a (45, 80) grid relative to the camera's, on a log1p scale.

    The camera's motion is a quadratic field, fitted by iterated reweighting with a Cauchy weight.
    ``subject`` (of any size) has little weight, so that the fit does not follow a subject that
    fills the picture; it is ignored if it leaves less than `LEAST_BACKGROUND` of the cells.
    """
    width, height = RESIDUAL_SIZE
    terms = _quadratic_terms()
    small = cv2.resize(flow, RESIDUAL_SIZE, interpolation=cv2.INTER_AREA).reshape(-1, 2)
    moved = small.T.astype(np.float64, order="C")
    background = _background(subject)
    is_likely = background > LIKELY
    weight = background
    for _ in range(ROBUST_ITERATIONS):
        weighted = terms * weight
        model = np.linalg.solve(
            weighted @ weighted.T + 1e-9 * np.eye(len(terms)), weighted @ (moved * weight).T
        )
        x, y = moved - model.T @ terms
        distance = np.sqrt(x * x + y * y)
        spread = float(np.median(distance[is_likely])) + 0.05
        weight = background / np.sqrt(1 + (distance / spread) ** 2)
    relative = np.log1p(distance / (1.5 * spread + 0.3))
    return np.asarray(relative.reshape(height, width), np.float32)


@cache
def _quadratic_terms() -> NDArray[np.float64]:
    """The terms of a quadratic field, in rows: NumPy weights these in half the time of columns."""
    width, height = RESIDUAL_SIZE
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    terms = [np.ones_like(x), x, y, x * y, x * x, y * y]
    return np.stack([term.ravel() for term in terms])


def _background(subject: Alpha) -> NDArray[np.float64]:
    """For each cell of `residual` the likelihood that it shows no subject."""
    small = cv2.resize(subject, RESIDUAL_SIZE, interpolation=cv2.INTER_AREA)
    background = 1 - small.ravel().astype(np.float64)
    if (background > LIKELY).mean() < LEAST_BACKGROUND:
        return np.ones_like(background)
    return background
