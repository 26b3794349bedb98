"""How steady and how decided masks are, without a truth to compare them with.

``python -m benchmarks.quality.steadiness SOURCE MASK [MASK ...]`` prints one JSON line for each
mask; both are videos, folders in DAVIS layout, or arrays (`benchmarks.clips`). Measured on at most
640 x 360. From one frame to the next:

- ``ghost``: 100 x area that is neither black nor white and far from the outline, over the white
  area;
- ``vanish``: 100 x subject of one frame that is background in the next, where optical flow there
  and back agrees and the colours match, over what could be followed; ``appear`` is the same
  backwards in time;
- ``jumps``: pairs of frames in which either is over 5;
- ``followed``: the share of the subject that can be followed, in percent; where it is low, a low
  number means little.

Over a longer time, on points of a grid that flow carries through the clip. A point ends where flow
there and back disagrees, where the colours differ, or at the border: so only what stays visible is
judged, and places near the outline are not.

- ``lost[d]``: 100 x followed subject of one frame that is background ``d`` frames later;
  ``gained[d]`` is the same backwards in time. A slow fade or a hole that opens slowly shows here;
- ``unsettled``: over the points that were followed for a second and were once subject,
  100 x (1 - |2 p - 1|), where p is the mean alpha over the point's life;
- ``flaps``: how often such a point enters or leaves the mask in ten seconds;
- ``lived``: the share of the subject whose points were followed for a second.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import frames_of, frames_per_second, masks_of
from foremask.types import Flow, Levels, Luma, Rgb

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]

MAX_PIXELS = 640 * 360
SUBJECT, BACKGROUND = 178, 77  # levels above which a place is subject, below which background
WHITE, BLACK = 243, 13  # a level from WHITE on, or under BLACK, is no ghost
GHOST_MARGIN = 0.008  # of the diagonal: nearer to the outline, soft alpha is right
OUTLINE_MARGIN = 0.004  # of the diagonal: nearer to the outline, a point is not judged
LEAST_SUBJECT = 0.002  # of the picture: a smaller subject is counted as large as this
WAY_BACK_PX = 1.5  # largest distance between a place and its image after flow there and back
SAME_LUMA = 20  # largest difference of luma, or of a colour, between a place and its image
JUMP_PERCENT = 5.0
CUT_FOLLOWED = 0.15  # of the picture: when less can be followed on, nothing is judged there

DISTANCES = (1, 4, 16, 32)  # frames
STRIDE_PX = 8  # of the grid on which points start
CROWD = 3  # points in a cell of the grid, at most
PATCH_PX = 5  # the side of the patch whose mean colour a point must keep ...
COLOUR_FRAMES = (4, 16)  # ... over so many frames
CHECK_FRAMES = 16  # points are followed back over so many frames ...
CHECK_EVERY = 4  # ... this often
CHECK_PX = 3.0  # and end when they do not come back to within this
LIFE_S = 1.0  # points that were followed for a shorter time have no say in `unsettled` and `flaps`


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The measures of one mask; all but ``frames``, ``jumps`` and ``flaps`` are in percent."""

    frames: int
    ghost: float
    vanish: float
    appear: float
    jumps: int
    lost: dict[int, float]
    gained: dict[int, float]
    unsettled: float
    flaps: float
    followed: float
    lived: float


@dataclass(frozen=True, slots=True)
class _Step:
    """From the frame before to this one: flow both ways, and where each can be believed."""

    ahead: Flow
    back: Flow
    believed_ahead: Flags
    believed_back: Flags


def sampled(grid: Floats | Flow | Luma, x: Floats, y: Floats) -> Floats:
    """The values of a grid at places between its pixels; outside, those of its border."""
    if not len(x):  # OpenCV refuses to sample nothing
        return np.zeros((0, *grid.shape[2:]), np.float32)
    border = cv2.BORDER_REPLICATE
    flat = cv2.remap(grid, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(flat, np.float32)[:, 0]


def _moved(flow: Flow) -> tuple[Floats, Floats]:
    rows, columns = flow.shape[:2]
    x = flow[..., 0] + np.arange(columns, dtype=np.float32)
    y = flow[..., 1] + np.arange(rows, dtype=np.float32)[:, None]
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


def _believed(flow: Flow, back: Flow, here: Luma, there: Luma) -> Flags:
    x, y = _moved(flow)
    seen = np.asarray(cv2.remap(there, x, y, cv2.INTER_LINEAR), np.float32)
    miss = flow + cv2.remap(back, x, y, cv2.INTER_LINEAR)
    near = miss[..., 0] ** 2 + miss[..., 1] ** 2 < WAY_BACK_PX**2
    inside = (x >= 0) & (x < here.shape[1]) & (y >= 0) & (y < here.shape[0])
    return np.asarray((np.abs(seen - here) < SAME_LUMA) & near & inside, np.bool_)


class _Flows:
    """Optical flow from frame to frame."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setPatchStride(5)
        self._dis.setGradientDescentIterations(10)
        self._dis.setVariationalRefinementIterations(2)

    def __call__(self, before: Luma, now: Luma) -> _Step | None:
        """The step, or None at a cut."""
        no_flow = np.zeros((*now.shape, 2), np.float32)
        ahead = np.asarray(self._dis.calc(before, now, no_flow.copy()), np.float32)
        back = np.asarray(self._dis.calc(now, before, no_flow), np.float32)
        believed_ahead = _believed(ahead, back, before, now)
        if believed_ahead.mean() < CUT_FOLLOWED:
            return None
        return _Step(ahead, back, believed_ahead, _believed(back, ahead, now, before))


class _Points:
    """Points on the source that are followed from frame to frame, whatever the masks say.

    ``x``, ``y``: where they are now; ``age``: for how many frames they have been followed;
    ``weight``: the share of a cell of the grid that each stands for; ``checked``: they have just
    been followed back.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._width, self._height = size
        self.columns = max(1, self._width // STRIDE_PX)
        self.rows = max(1, self._height // STRIDE_PX)
        self._backs: list[Flow] = []
        self.x = self.y = np.zeros(0, np.float32)
        self.age = np.zeros(0, np.int64)
        self.weight = np.zeros(0, np.float32)
        self._history = np.zeros((0, CHECK_FRAMES + 1, 5), np.float32)  # x, y, red, green, blue
        self._number = -1
        self.checked = False

    @property
    def least_weight(self) -> float:
        """Of a subject that is counted as large as `LEAST_SUBJECT`."""
        return LEAST_SUBJECT * self.rows * self.columns

    @property
    def _cell(self) -> Whole:
        column = (self.x * self.columns / self._width).astype(np.int64)
        row = (self.y * self.rows / self._height).astype(np.int64)
        column, row = np.clip(column, 0, self.columns - 1), np.clip(row, 0, self.rows - 1)
        return np.asarray(row * self.columns + column, np.int64)

    def follow(self, step: _Step | None, rgb: Rgb) -> Whole:
        """Move on by one frame; None where nothing can be followed.

        Returns which of the points before are still followed; those that begin come after them.
        """
        self._number += 1
        patches = np.asarray(cv2.blur(rgb, (PATCH_PX, PATCH_PX)), np.float32)
        kept = np.zeros(0, np.int64)
        self.checked = False
        if step is None:
            self._backs.clear()
        else:
            kept = self._move(step, patches)
        self.x, self.y, self.age = self.x[kept], self.y[kept], self.age[kept]
        self._history = self._history[kept]
        self._begin()
        self.weight = (1 / np.bincount(self._cell, minlength=1)[self._cell]).astype(np.float32)
        slot = self._number % self._history.shape[1]
        self._history[:, slot, 0], self._history[:, slot, 1] = self.x, self.y
        self._history[:, slot, 2:] = sampled(patches, self.x, self.y)
        return kept

    def _move(self, step: _Step, patches: Floats) -> Whole:
        self._backs = [*self._backs, step.back][-CHECK_FRAMES:]
        rows, columns = step.believed_ahead.shape
        row = np.clip(np.rint(self.y), 0, rows - 1).astype(np.int64)
        column = np.clip(np.rint(self.x), 0, columns - 1).astype(np.int64)
        alive = step.believed_ahead[row, column]
        flow = sampled(step.ahead, self.x, self.y)
        self.x, self.y = self.x + flow[:, 0], self.y + flow[:, 1]
        alive &= (self.x >= 0) & (self.x <= columns - 1) & (self.y >= 0) & (self.y <= rows - 1)
        self.age = self.age + 1
        alive[alive] = self._same_colours(np.flatnonzero(alive), patches)
        if self._number % CHECK_EVERY == 0 and len(self._backs) == CHECK_FRAMES:
            old = np.flatnonzero(alive & (self.age >= CHECK_FRAMES))
            alive[old] = self._comes_back(old)
            self.checked = True
        # The oldest points of a cell stay.
        order = np.lexsort((-self.age, self._cell))
        order = order[alive[order]]
        cells = self._cell[order]
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]]) if len(cells) else cells
        rank = np.arange(len(cells)) - np.repeat(starts, np.diff(np.r_[starts, len(cells)]))
        return np.sort(order[rank < CROWD])

    def _same_colours(self, which: Whole, patches: Floats) -> Flags:
        now = sampled(patches, self.x[which], self.y[which])
        same = np.ones(len(which), np.bool_)
        for frames in COLOUR_FRAMES:
            back = np.minimum(self.age[which], frames)
            was = self._history[which, (self._number - back) % self._history.shape[1], 2:]
            same &= np.abs(now - was).max(axis=1) < SAME_LUMA
        return same

    def _comes_back(self, which: Whole) -> Flags:
        """Whether flow back over `CHECK_FRAMES` ends where the points were."""
        x, y = self.x[which], self.y[which]
        for back in reversed(self._backs):
            flow = sampled(back, x, y)
            x, y = x + flow[:, 0], y + flow[:, 1]
        slot = (self._number - CHECK_FRAMES) % self._history.shape[1]
        was_x, was_y = self._history[which, slot, :2].T
        return np.asarray(np.hypot(x - was_x, y - was_y) < CHECK_PX, np.bool_)

    def _begin(self) -> None:
        """A point in each cell that has none."""
        free = np.ones(self.rows * self.columns, bool)
        free[self._cell] = False
        cells = np.flatnonzero(free)
        row, column = np.divmod(cells, self.columns)
        self.x = np.r_[self.x, (column + 0.5) * self._width / self.columns].astype(np.float32)
        self.y = np.r_[self.y, (row + 0.5) * self._height / self.rows].astype(np.float32)
        self.age = np.r_[self.age, np.zeros(len(cells), np.int64)]
        empty = np.zeros((len(cells), *self._history.shape[1:]), np.float32)
        self._history = np.concatenate([self._history, empty])


class _Judge:
    """What one mask says of the points."""

    def __init__(self, size: tuple[int, int], fps: float) -> None:
        self._size, self._fps = size, fps
        self._life_frames = max(1, round(LIFE_S * fps))
        # Of each point: its last states (1 subject, -1 background, 0 not judged), the last of them
        # that was not 0, and of its life: weight, weight x alpha, weight when changing, greatest
        # level, judged frames, frames.
        self._states = np.zeros((0, max(DISTANCES) + 1), np.int8)
        self._side = np.zeros(0, np.int8)
        self._life = np.zeros((0, 6), np.float32)
        self._before: Levels | None = None
        self._number = -1
        self._rates: dict[str, list[float]] = {
            name: [] for name in ("ghost", "vanish", "appear", "followed")
        }
        self._lost: dict[int, list[float]] = {each: [] for each in DISTANCES}
        self._gained: dict[int, list[float]] = {each: [] for each in DISTANCES}
        self._totals = np.zeros(4)  # weight, unsettled weight, changes, seconds
        self._subject_weight, self._lived_weight = 0.0, 0.0

    def add(self, mask: Levels, step: _Step | None, points: _Points, kept: Whole) -> None:
        """The next mask, with the points that are left and those that began after them."""
        self._number += 1
        if mask.shape != self._size[::-1]:
            mask = np.asarray(cv2.resize(mask, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        white = (mask > 127).astype(np.uint8)
        kernel = np.ones((3, 3), np.uint8)
        edge = np.asarray(cv2.morphologyEx(white, cv2.MORPH_GRADIENT, kernel), np.uint8)
        far = self._near(edge, GHOST_MARGIN) == 0
        soft = np.count_nonzero((mask >= BLACK) & (mask < WHITE) & far)
        least = LEAST_SUBJECT * mask.size
        self._rates["ghost"].append(100 * soft / max(float(np.count_nonzero(white)), least))
        if step is not None and self._before is not None:
            self._compare(self._before, mask, step)
        self._before = mask
        self._pass_on(kept, len(points.x))
        self._read(mask, self._near(edge, OUTLINE_MARGIN) == 0, points)
        self._look_back(points)

    def _near(self, edge: Levels, share: float) -> Levels:
        radius = max(2, round(share * float(np.hypot(*self._size))))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return np.asarray(cv2.dilate(edge, disc), np.uint8)

    def _compare(self, before: Levels, mask: Levels, step: _Step) -> None:
        for name, flow, believed, here, there in (
            ("vanish", step.ahead, step.believed_ahead, before, mask),
            ("appear", step.back, step.believed_back, mask, before),
        ):
            x, y = _moved(flow)
            subject = believed & (here > SUBJECT)
            gone = subject & (cv2.remap(there, x, y, cv2.INTER_LINEAR) < BACKGROUND)
            least = LEAST_SUBJECT * mask.size
            all_here = max(float(np.count_nonzero(subject)), least)
            self._rates[name].append(100 * np.count_nonzero(gone) / all_here)
        subject = before > SUBJECT
        if subject.any():
            followed = np.count_nonzero(step.believed_ahead & subject)
            self._rates["followed"].append(100 * followed / np.count_nonzero(subject))

    def _pass_on(self, kept: Whole, count: int) -> None:
        """Settle the accounts of the points that ended, and make room for those that begin."""
        ended = np.ones(len(self._side), bool)
        ended[kept] = False
        self._settle(self._life[ended])
        begun = count - len(kept)
        self._side = np.r_[self._side[kept], np.zeros(begun, np.int8)]
        self._states = np.r_[self._states[kept], np.zeros((begun, self._states.shape[1]), np.int8)]
        self._life = np.r_[self._life[kept], np.zeros((begun, 6), np.float32)]

    def _settle(self, life: Floats) -> None:
        _, alpha, _, greatest, judged, frames = life.T
        lived = frames >= self._life_frames
        self._subject_weight += float(alpha.sum())
        self._lived_weight += float(alpha[lived].sum())
        counts = lived & (2 * judged >= frames) & (greatest > SUBJECT)
        weight, alpha, changes = life[counts, :3].astype(np.float64).T
        unsettled = weight - np.abs(2 * alpha - weight)
        self._totals += [
            weight.sum(),
            unsettled.sum(),
            changes.sum(),
            (weight / self._fps).sum(),
        ]

    def _read(self, mask: Levels, inner: Flags, points: _Points) -> None:
        row = np.minimum(np.rint(points.y).astype(np.int64), self._size[1] - 1)
        column = np.minimum(np.rint(points.x).astype(np.int64), self._size[0] - 1)
        level, judged = mask[row, column], inner[row, column]
        state = np.zeros(len(level), np.int8)
        state[judged & (level > SUBJECT)] = 1
        state[judged & (level < BACKGROUND)] = -1
        self._states[:, self._number % self._states.shape[1]] = state
        changed = (state != 0) & (self._side != 0) & (state != self._side)
        self._side = np.where(state != 0, state, self._side)
        weight = points.weight * judged
        self._life[:, 0] += weight
        self._life[:, 1] += weight * level / 255
        self._life[:, 2] += points.weight * changed
        self._life[:, 3] = np.maximum(self._life[:, 3], np.where(judged, level, 0))
        self._life[:, 4] += judged
        self._life[:, 5] += 1

    def _look_back(self, points: _Points) -> None:
        columns = self._states.shape[1]
        now = self._states[:, self._number % columns]
        for frames in DISTANCES:
            if self._number < frames or (frames > CHECK_EVERY and not points.checked):
                continue
            seen = points.age >= frames
            then = self._states[:, (self._number - frames) % columns]
            for first, last, rates in ((then, now, self._lost), (now, then, self._gained)):
                subject = seen & (first > 0)
                gone = float(points.weight[subject & (last < 0)].sum())
                all_of_it = max(float(points.weight[subject].sum()), points.least_weight)
                rates[frames].append(100 * gone / all_of_it)

    def result(self) -> Steadiness:
        """After the last mask."""
        self._settle(self._life)
        weight, unsettled, changes, seconds = self._totals
        both = zip(self._rates["vanish"], self._rates["appear"], strict=True)
        return Steadiness(
            frames=self._number + 1,
            ghost=_mean(self._rates["ghost"]),
            vanish=_mean(self._rates["vanish"]),
            appear=_mean(self._rates["appear"]),
            jumps=sum(max(pair) > JUMP_PERCENT for pair in both),
            lost={each: _mean(rates) for each, rates in self._lost.items()},
            gained={each: _mean(rates) for each, rates in self._gained.items()},
            unsettled=round(100 * unsettled / weight, 2) if weight else 0.0,
            flaps=round(10 * changes / seconds, 2) if seconds else 0.0,
            followed=_mean(self._rates["followed"]),
            lived=round(100 * self._lived_weight / max(self._subject_weight, 1e-6), 1),
        )


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 2) if values else 0.0


def measured_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a clip is measured."""
    scale = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))


def steadiness(
    source: Iterable[Rgb], *masks: Iterable[Levels], fps: float = 24.0
) -> list[Steadiness]:
    """Measure one or more masks of a clip in one pass; it ends with the shortest of them."""
    find, judges = _Flows(), list[_Judge]()
    points: _Points | None = None
    before: Luma | None = None
    for rgb, *planes in zip(source, *masks, strict=False):
        size = measured_size(rgb.shape[1], rgb.shape[0])
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        if points is None:
            points, judges = _Points(size), [_Judge(size, fps) for _ in masks]
        step = find(before, luma) if before is not None else None
        kept = points.follow(step, np.asarray(small, np.uint8))
        for judge, plane in zip(judges, planes, strict=True):
            judge.add(plane, step, points, kept)
        before = luma
    return [judge.result() for judge in judges]


def main() -> None:
    """Print one JSON line for each mask."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("masks", type=Path, nargs="+")
    parser.add_argument("--fps", type=float, help="of the source; the video's own without it")
    args = parser.parse_args()
    fps = args.fps or frames_per_second(args.source)
    masks = [masks_of(path) for path in args.masks]
    results = steadiness(frames_of(args.source), *masks, fps=fps)
    for path, result in zip(args.masks, results, strict=True):
        print(json.dumps({"mask": path.name, **asdict(result)}))


if __name__ == "__main__":
    main()
