"""Finds the background that the subject hides, by searching nearby frames."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import stage
from foremask.types import Alpha, Image, Luma, Rgb

# Only frames at these distances, before and after, are searched for the background.
NEIGHBOUR_OFFSETS: Final = (1, 2, 4, 8, 16)
BACKDROP_REACH_FRAMES: Final = NEIGHBOUR_OFFSETS[-1]
# Numbers without a reason were set by eye; docs/adr/0050 has what the backdrop gains with them.
MIN_NEW_SHARE: Final = 0.01  # A frame that adds background to a smaller share of cells is skipped.
MAYBE_SUBJECT: Final = 0.05  # Cells of higher alpha count as subject.
MARGIN_CELLS: Final = 3  # Cells within this distance of the subject count as subject.
CORNERS: Final = 200
MIN_CORNERS: Final = 12  # with fewer inliers, the camera's motion is unknown
CORNER_GAP_CELLS: Final = 8
TRACKING_WINDOW_CELLS: Final = 15  # side of the square that is matched around a corner
OUTLIER_CELLS: Final = 1.0
SAMPLE_CELLS: Final = 5  # The residual is measured on every fifth row and column.
MAX_RESIDUAL: Final = 0.02  # Frames whose background differs more (a mean square) are not used.
REMAP_MAX_COLUMNS: Final = 32_000  # OpenCV's remap fails on longer rows.

type Cells = tuple[NDArray[np.intp], ...]
"""Row and column indices of grid cells."""
type Homography = NDArray[np.float64]
"""A 3 by 3 matrix that maps (column, row, 1) of one frame to another frame."""


def cells_of(place: NDArray[Any]) -> Cells:
    """The cells where ``place`` is not 0: `numpy.nonzero` in a fifth of its time."""
    return np.unravel_index(np.flatnonzero(place), place.shape)


@dataclass(frozen=True, slots=True)
class FoundBackground:
    """The background of some cells: colours in [0, 1] and variance, valid where ``known``."""

    colour: NDArray[np.float32]
    variance: NDArray[np.float32]
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Neighbour:
    rgb: Rgb
    grey: Luma
    hidden: NDArray[np.uint8]  # 1 on and near the subject.
    few_colours: Rgb  # ``rgb`` on every `SAMPLE_CELLS`th row and column.
    few_hidden: NDArray[np.uint8]  # ``hidden`` there.
    to_previous: Homography | None  # None if the camera's motion is unknown.


@dataclass(frozen=True, slots=True)
class Backdrop:
    views: Sequence[_Neighbour]
    here: int

    @property
    def rgb(self) -> Rgb:
        return self.views[self.here].rgb

    @stage("backdrop")
    def background(self, cells: Cells) -> FoundBackground:
        """Return each cell's background from the nearest usable frame where it is visible."""
        count = len(cells[0])
        colour = np.zeros((count, 3), np.float32)
        variance = np.zeros(count, np.float32)
        known = np.zeros(count, np.bool_)
        wanted = np.arange(count)
        for view, homography in self._neighbours():
            if not wanted.size:
                break
            rows, columns = (each[wanted] for each in cells)
            x, y, shown = _visible_in(view, homography, columns, rows)
            if np.count_nonzero(shown) <= MIN_NEW_SHARE * count:
                continue
            residual = _residual(self.views[self.here], view, homography)
            if residual > MAX_RESIDUAL:
                continue
            found = wanted[shown]
            colour[found] = sampled(view.rgb, x[shown], y[shown]) * np.float32(1 / 255)
            variance[found] = residual
            known[found] = True
            wanted = wanted[~shown]
        return FoundBackground(colour, variance, known)

    def _neighbours(self) -> Iterator[tuple[_Neighbour, Homography]]:
        """The frames to which the camera's motion is known, with it: earlier, later, by turns.

        Nearer frames come first.
        """
        earlier = self._earlier()
        later = self._later()
        for _ in NEIGHBOUR_OFFSETS:
            for found in (next(earlier, None), next(later, None)):
                if found is not None:
                    yield found

    def _earlier(self) -> Iterator[tuple[_Neighbour, Homography]]:
        motion = np.eye(3)
        for distance in range(1, 1 + BACKDROP_REACH_FRAMES):
            at = self.here - distance
            if at < 0:
                return
            step = self.views[at + 1].to_previous
            if step is None:
                return
            motion = step @ motion
            if distance in NEIGHBOUR_OFFSETS:
                yield self.views[at], motion

    def _later(self) -> Iterator[tuple[_Neighbour, Homography]]:
        motion = np.eye(3)
        for distance in range(1, 1 + BACKDROP_REACH_FRAMES):
            at = self.here + distance
            if at >= len(self.views):
                return
            step = self.views[at].to_previous
            if step is None:
                return
            motion = np.linalg.inv(step) @ motion
            if distance in NEIGHBOUR_OFFSETS:
                yield self.views[at], motion


def with_backdrops[P: Image](
    pairs: Iterable[tuple[P, Alpha]], ahead_frames: int = BACKDROP_REACH_FRAMES
) -> Iterator[tuple[P, Alpha, Backdrop]]:
    """Yield each picture, its upright mask and its backdrop, in order; read ``ahead_frames`` ahead.

    The camera's motion is a homography. This is exact for rotation and zoom, and for a flat
    background. RANSAC (Fischler and Bolles, 1981) fits the homography to corners that optical flow
    tracks in the background (Lucas and Kanade, IJCAI 1981). Frames beyond a frame with unknown
    motion, such as the first frame of a shot, are not used.
    """
    views: deque[_Neighbour] = deque(maxlen=BACKDROP_REACH_FRAMES + 1 + ahead_frames)
    waiting: deque[tuple[P, Alpha]] = deque()
    for image, alpha in pairs:
        before = None
        if views:
            before = views[-1]
        views.append(_view_of(image, alpha, before))
        waiting.append((image, alpha))
        if len(waiting) > ahead_frames:
            yield _with_backdrop(waiting, views)
    while waiting:
        yield _with_backdrop(waiting, views)


def _with_backdrop[P: Image](
    waiting: deque[tuple[P, Alpha]], views: Sequence[_Neighbour]
) -> tuple[P, Alpha, Backdrop]:
    here = len(views) - len(waiting)
    image, alpha = waiting.popleft()
    return image, alpha, Backdrop(tuple(views), here)


@stage("backdrop")
def _view_of(image: Image, alpha: Alpha, before: _Neighbour | None) -> _Neighbour:
    rows, columns = alpha.shape
    rgb = image.rgb(columns, rows)
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    size = 2 * MARGIN_CELLS + 1
    maybe = (alpha > MAYBE_SUBJECT).astype(np.uint8)
    hidden = np.asarray(cv2.dilate(maybe, np.ones((size, size), np.uint8)), np.uint8)
    homography: Homography | None = None
    if before is not None:
        homography = _background_homography(grey, hidden, before.grey)
    few = np.s_[::SAMPLE_CELLS, ::SAMPLE_CELLS]
    return _Neighbour(
        rgb=rgb,
        grey=grey,
        hidden=hidden,
        few_colours=np.ascontiguousarray(rgb[few]),
        few_hidden=np.ascontiguousarray(hidden[few]),
        to_previous=homography,
    )


def _background_homography(here: Luma, hidden: NDArray[np.uint8], there: Luma) -> Homography | None:
    if min(here.shape) < TRACKING_WINDOW_CELLS:
        return None
    half = cv2.resize(here, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    allowed = 1 - cv2.resize(hidden, half.shape[::-1], interpolation=cv2.INTER_NEAREST)
    found: Any = cv2.goodFeaturesToTrack(half, CORNERS, 0.01, CORNER_GAP_CELLS / 2, mask=allowed)
    if found is None:  # possible, although OpenCV's type annotations exclude it
        return None
    corners = 2 * found + np.float32(0.5)
    nothing: Any = None
    window = TRACKING_WINDOW_CELLS, TRACKING_WINDOW_CELLS
    tracked, status, _ = cv2.calcOpticalFlowPyrLK(
        here, there, corners, nothing, winSize=window, maxLevel=4
    )
    followed = np.ravel(status) == 1
    if np.count_nonzero(followed) < MIN_CORNERS:
        return None
    ends = np.asarray(tracked)[followed]
    homography, inliers = cv2.findHomography(corners[followed], ends, cv2.RANSAC, OUTLIER_CELLS)
    if homography is None or np.sum(inliers) < MIN_CORNERS or abs(np.linalg.det(homography)) < 1e-6:
        return None
    return np.asarray(homography, np.float64)


def _visible_in(
    view: _Neighbour, homography: Homography, columns: NDArray[np.intp], rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return x and y of each cell in ``view``, and whether ``view`` shows background there."""
    moved = homography @ np.stack([columns, rows, np.ones_like(rows)])
    x, y = (moved[axis] / moved[2] for axis in (0, 1))
    height, width = view.grey.shape
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = (np.where(inside, each, 0).astype(np.float32) for each in (x, y))
    is_background = view.hidden[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)] == 0
    return x, y, inside & is_background


def _residual(here: _Neighbour, there: _Neighbour, homography: Homography) -> float:
    """Return the mean squared colour difference of the background in both frames, or infinity."""
    step = np.diag([SAMPLE_CELLS, SAMPLE_CELLS, 1.0])
    size = here.few_colours.shape[1::-1]
    linear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    colours_there = cv2.warpPerspective(there.rgb, homography @ step, size, flags=linear)
    hidden = cv2.warpPerspective(
        there.hidden, homography @ step, size, flags=nearest, borderValue=1
    )
    both = (np.asarray(hidden, np.uint8) | here.few_hidden) == 0
    if not both.any():
        return np.inf
    difference = cv2.absdiff(here.few_colours, colours_there)
    squares = cv2.multiply(difference, difference, dtype=cv2.CV_32F)
    return float(cv2.transform(squares, np.ones((1, 3)))[both].mean()) / 255**2


def sampled(plane: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float32]:
    """Interpolate ``plane`` linearly at x, y; outside, take the nearest border pixel."""
    at_x = x.astype(np.float32)
    at_y = y.astype(np.float32)
    border = cv2.BORDER_REPLICATE
    found = np.empty((len(x), plane.shape[2]), np.float32)
    for start in range(0, len(x), REMAP_MAX_COLUMNS):
        some = slice(start, start + REMAP_MAX_COLUMNS)
        row_x = at_x[some][None]
        row_y = at_y[some][None]
        found[some] = cv2.remap(plane, row_x, row_y, cv2.INTER_LINEAR, borderMode=border)[0]
    return found
