"""How steady and how decided masks are, without a truth to compare them with.

``python -m benchmarks.quality.steadiness SOURCE MASK [MASK ...]`` prints one JSON line for each
mask. SOURCE is a video or a folder in DAVIS layout; MASK is a video, such a folder, or a (T, H, W)
array in a .npy file. ``--every N`` looks at every Nth frame only, and ``--sparse N`` says that the
masks exist for every Nth frame only; numbers compare only at the same step.

What one frame and the next show (as in the first version of this measure):

- ``ghost``: 100 x area that is neither black nor white and far from the outline, over the white
  area;
- ``vanish``: 100 x subject of one frame that is background in the next, where optical flow there
  and back agrees and the colours match, over what could be followed; ``appear`` is the same
  backwards in time;
- ``jumps``: pairs of frames in which either is over 5.

What shows only over a longer time. Points on a grid are followed through the clip by optical flow;
a point ends where the flow there and back disagrees, where the colours differ, or at the border: so
what is occluded or leaves is no longer followed, and only what stays visible is judged. Places near
the outline are not judged.

- ``lost[d]``: 100 x followed subject of one frame that is background ``d`` frames later;
  ``gained[d]`` is the same backwards in time. With a slow fade or a hole that opens slowly, they
  grow with ``d`` while ``vanish`` stays at nothing;
- ``unsettled``: over the points that were followed for a second and were once subject, 100 x (1 - |2 p - 1|), where p is the
  mean alpha over the point's life: 0 when a point is subject for its whole life;
- ``flaps``: how often such a point enters or leaves the mask in ten seconds;
- ``events``: connected parts that enter or leave the mask while they are visible, the largest
  first.

``followed`` is the share of the subject that can be followed from one frame to the next, in
percent: where it is low, the measures are blind, and a low number means little. ``lived`` is the
share of the subject whose points were followed for a second: what `unsettled` and `flaps` speak of,
and nothing where it is under 5. Measured on at most 640 x 360.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
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
SUBJECT, BACKGROUND = (
    178,
    77,
)  # levels over which a place is subject, and under which it is background
WHITE, BLACK = 243, 13  # a level from WHITE on, or under BLACK, is no ghost
GHOST_MARGIN = 0.008  # of the diagonal: nearer to the outline, soft alpha is right
OUTLINE_MARGIN = 0.004  # of the diagonal: nearer to the outline, a point is not judged
LEAST_SUBJECT = 0.002  # of the picture: a smaller subject is counted as large as this
WAY_BACK_PX = 1.5  # largest distance between a place and its image after flow there and back
SAME_LUMA = 20  # largest difference of luma, or of a colour, between a place and its image
JUMP_PERCENT = 5.0
CUT_FOLLOWED = (
    0.15  # of the picture: when less can be followed to the next frame, nothing is judged there
)

DISTANCES = (1, 4, 16, 32)  # frames
STRIDE_PX = 8  # of the grid on which points start
CROWD = 3  # points in a cell of the grid, at most
PATCH_PX = 5  # the side of the patch whose mean colour a point must keep ...
COLOUR_STEPS = 4  # ... over so many steps, and over CHECK_FRAMES
CHECK_FRAMES = 16  # points are followed back over so many frames ...
CHECK_EVERY = 4  # ... this often
CHECK_PX = 3.0  # and end when they do not come back to within this
LIFE_S = 1.0  # points that were followed for a shorter time have no say in `unsettled` and `flaps`
EVENT_FRAMES = 8  # changes of neighbours within so many frames are one event
EVENT_AREA = 0.001  # of the picture: smaller events are left out


@dataclass(frozen=True, slots=True)
class Event:
    """A connected part that entered or left the mask while it was visible.

    ``box`` is left, top, right, bottom as shares of the picture; ``area`` is in percent of the
    picture.
    """

    kind: str
    first_frame: int
    last_frame: int
    area: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The measures of one mask; all but ``frames``, ``jumps`` and ``flaps`` are in percent.

    ``badness`` has for each measured frame the sum of what is wrong with it, to find the worst
    ones.
    """

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
    events: tuple[Event, ...]
    badness: tuple[float, ...] = field(repr=False)

    def drift(self, frames: int = 32) -> float:
        """What is lost and gained over so many frames, together."""
        return self.lost.get(frames, 0.0) + self.gained.get(frames, 0.0)


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

    def __init__(self, fine: bool) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        if not fine:
            self._dis.setPatchStride(5)
            self._dis.setGradientDescentIterations(10)
            self._dis.setVariationalRefinementIterations(2)

    def __call__(self, before: Luma, now: Luma) -> _Step:
        no_flow = np.zeros((*now.shape, 2), np.float32)
        ahead = np.asarray(self._dis.calc(before, now, no_flow.copy()), np.float32)
        back = np.asarray(self._dis.calc(now, before, no_flow), np.float32)
        return _Step(
            ahead,
            back,
            _believed(ahead, back, before, now),
            _believed(back, ahead, now, before),
        )


class _Points:
    """Points on the source that are followed from frame to frame, whatever the masks say.

    ``x``, ``y``: where they are now; ``age``: for how many steps they have been followed;
    ``weight``: the share of a cell of the grid that each stands for; ``checked``: they have just
    been followed back.
    """

    def __init__(self, size: tuple[int, int], check_steps: int) -> None:
        self._width, self._height = size
        self.columns = max(1, self._width // STRIDE_PX)
        self.rows = max(1, self._height // STRIDE_PX)
        self._check_steps = check_steps
        self._backs: list[Flow] = []
        self.x = self.y = np.zeros(0, np.float32)
        self.age = np.zeros(0, np.int64)
        self.weight = np.zeros(0, np.float32)
        self._history = np.zeros((0, check_steps + 1, 5), np.float32)  # x, y, red, green, blue
        self._number = -1
        self.checked = False

    @property
    def cell(self) -> Whole:
        """The cell of the grid in which each point is."""
        column = np.clip(
            (self.x * self.columns / self._width).astype(np.int64), 0, self.columns - 1
        )
        row = np.clip((self.y * self.rows / self._height).astype(np.int64), 0, self.rows - 1)
        return np.asarray(row * self.columns + column, np.int64)

    def follow(self, step: _Step | None, rgb: Rgb) -> Whole:
        """Move on by one frame; None where nothing can be followed.

        Answers which of the points before are still followed; those that begin come after them.
        """
        self._number += 1
        patches = np.asarray(cv2.blur(rgb, (PATCH_PX, PATCH_PX)), np.float32)
        kept = np.zeros(0, np.int64)
        self.checked = False
        if step is None:
            self._backs.clear()
        else:
            kept = self._moved_on(step, patches)
        self._keep(kept)
        self._begin()
        self.weight = (1 / np.bincount(self.cell, minlength=1)[self.cell]).astype(np.float32)
        slot = self._number % self._history.shape[1]
        self._history[:, slot, 0], self._history[:, slot, 1] = self.x, self.y
        self._history[:, slot, 2:] = sampled(patches, self.x, self.y)
        return kept

    def _moved_on(self, step: _Step, patches: Floats) -> Whole:
        self._backs = [*self._backs, step.back][-self._check_steps :]
        rows, columns = step.believed_ahead.shape
        nearest = (
            np.clip(np.rint(self.y), 0, rows - 1).astype(np.int64),
            np.clip(np.rint(self.x), 0, columns - 1).astype(np.int64),
        )
        alive = step.believed_ahead[nearest]
        flow = sampled(step.ahead, self.x, self.y)
        self.x, self.y = self.x + flow[:, 0], self.y + flow[:, 1]
        alive &= (self.x >= 0) & (self.x <= columns - 1) & (self.y >= 0) & (self.y <= rows - 1)
        self.age = self.age + 1
        alive[alive] = self._looks_the_same(np.flatnonzero(alive), patches)
        if self._number % CHECK_EVERY == 0 and len(self._backs) == self._check_steps:
            old = np.flatnonzero(alive & (self.age >= self._check_steps))
            alive[old] = self._comes_back(old)
            self.checked = True
        # The oldest points of a cell stay.
        order = np.lexsort((-self.age, self.cell))
        order = order[alive[order]]
        cells = self.cell[order]
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]]) if len(cells) else cells
        rank = np.arange(len(cells)) - np.repeat(starts, np.diff(np.r_[starts, len(cells)]))
        return np.sort(order[rank < CROWD])

    def _looks_the_same(self, which: Whole, patches: Floats) -> Flags:
        """Whether the colours are still those of a short and of a longer time ago."""
        now = sampled(patches, self.x[which], self.y[which])
        same = np.ones(len(which), np.bool_)
        for steps in {min(COLOUR_STEPS, self._check_steps), self._check_steps}:
            back = np.minimum(self.age[which], steps)
            was = self._history[which, (self._number - back) % self._history.shape[1], 2:]
            same &= np.abs(now - was).max(axis=1) < SAME_LUMA
        return same

    def _comes_back(self, which: Whole) -> Flags:
        """Whether flow back over `CHECK_FRAMES` ends where the points were."""
        x, y = self.x[which], self.y[which]
        for back in reversed(self._backs):
            flow = sampled(back, x, y)
            x, y = x + flow[:, 0], y + flow[:, 1]
        slot = (self._number - self._check_steps) % self._history.shape[1]
        was_x, was_y = self._history[which, slot, :2].T
        return np.asarray(np.hypot(x - was_x, y - was_y) < CHECK_PX, np.bool_)

    def _keep(self, kept: Whole) -> None:
        self.x, self.y, self.age = self.x[kept], self.y[kept], self.age[kept]
        self._history = self._history[kept]

    def _begin(self) -> None:
        free = np.ones(self.rows * self.columns, bool)
        free[self.cell] = False
        cells = np.flatnonzero(free)
        row, column = np.divmod(cells, self.columns)
        self.x = np.r_[self.x, (column + 0.5) * self._width / self.columns].astype(np.float32)
        self.y = np.r_[self.y, (row + 0.5) * self._height / self.rows].astype(np.float32)
        self.age = np.r_[self.age, np.zeros(len(cells), np.int64)]
        empty = np.zeros((len(cells), *self._history.shape[1:]), np.float32)
        self._history = np.concatenate([self._history, empty])


class _Events:
    """Joins changes of neighbouring points within a short time to events of one kind."""

    def __init__(self, kind: str, shape: tuple[int, int], join_steps: int) -> None:
        self._kind, self._join_steps = kind, join_steps
        self._last = np.full(shape, -(10**6), np.int64)
        self._label = np.zeros(shape, np.int64)
        self._open: dict[int, tuple[int, int, Flags]] = {}
        self._count = 0

    def add(self, number: int, cells: Whole) -> None:
        """The points in these cells changed at this frame."""
        if not len(cells):
            return
        fresh = np.zeros(self._last.shape, bool)
        fresh.ravel()[cells] = True
        self._last[fresh] = number
        recent = number - self._last <= self._join_steps
        wide = cv2.dilate(recent.astype(np.uint8), np.ones((3, 3), np.uint8))
        parts = np.asarray(cv2.connectedComponents(wide)[1])
        for part in np.unique(parts[fresh]):
            here = (parts == part) & recent
            label = self._count = self._count + 1
            first, area = number, here & fresh
            for old in np.unique(self._label[here & ~fresh]):
                if old in self._open:
                    was_first, _, was_area = self._open.pop(int(old))
                    first, area = min(first, was_first), area | was_area
            for old in np.unique(self._label[here & fresh]):
                # A cell that changes again joins its own event while that is recent.
                if old in self._open and number - self._open[int(old)][1] <= self._join_steps:
                    was_first, _, was_area = self._open.pop(int(old))
                    first, area = min(first, was_first), area | was_area
            self._label[here] = label
            self._open[label] = (first, number, area)

    def all(self, every: int) -> Iterator[Event]:
        """The events that are large enough; frames are those of the source."""
        rows, columns = self._last.shape
        for first, last, area in self._open.values():
            if area.mean() < EVENT_AREA:
                continue
            y, x = np.nonzero(area)
            yield Event(
                self._kind,
                first * every,
                last * every,
                round(100 * float(area.mean()), 2),
                (
                    round(float(x.min()) / columns, 3),
                    round(float(y.min()) / rows, 3),
                    round(float(x.max() + 1) / columns, 3),
                    round(float(y.max() + 1) / rows, 3),
                ),
            )


class _Judge:
    """What one mask says of the points, and what is wrong with it."""

    def __init__(self, size: tuple[int, int], points: _Points, fps: float, every: int) -> None:
        self._size, self._every, self._fps = size, every, fps
        self._diagonal = float(np.hypot(*size))
        self._steps = {max(1, round(each / every)): each for each in reversed(DISTANCES)}
        self._columns = max(self._steps) + 1
        self._life_steps = max(1, round(LIFE_S * fps / every))
        self._states = np.zeros(
            (0, self._columns), np.int8
        )  # 1 subject, -1 background, 0 not judged
        self._side = np.zeros(0, np.int8)  # the last state that was not 0
        # Of each point: weight, weight x alpha, weight when changing, greatest level, judged steps,
        # steps
        self._life = np.zeros((0, 6), np.float32)
        shape = (points.rows, points.columns)
        join = max(1, round(EVENT_FRAMES / every))
        self._left, self._entered = (_Events(kind, shape, join) for kind in ("left", "entered"))
        self._before: Levels | None = None
        self._number = -1
        self._rates: dict[str, list[float]] = {name: [] for name in ("ghost", "vanish", "appear")}
        self._lost: dict[int, list[float]] = {each: [] for each in self._steps.values()}
        self._gained: dict[int, list[float]] = {each: [] for each in self._steps.values()}
        self._followed: list[float] = []
        self._jumps = 0
        self._badness: list[float] = []
        self._totals = np.zeros(4)  # weight, unsettled weight, changes, seconds
        self._subject_weight, self._lived_weight = 0.0, 0.0

    def infer(self, mask: Levels, step: _Step | None, points: _Points, kept: Whole) -> None:
        """The next mask, with the points that are left and those that began after them."""
        self._number += 1
        if mask.shape != self._size[::-1]:
            mask = np.asarray(cv2.resize(mask, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        white = (mask > 127).astype(np.uint8)
        kernel = np.ones((3, 3), np.uint8)
        edge = np.asarray(cv2.morphologyEx(white, cv2.MORPH_GRADIENT, kernel), np.uint8)
        bad = self._ghost(mask, white, edge)
        if step is not None and self._before is not None:
            bad += self._next_frame(self._before, mask, step)
        self._before = mask
        self._pass_on(kept, len(points.x))
        bad += self._read(mask, edge, points)
        bad += self._far(points)
        self._badness.append(round(bad, 3))

    def _near(self, edge: Levels, share: float, least_px: int) -> Levels:
        radius = max(least_px, round(share * self._diagonal))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return np.asarray(cv2.dilate(edge, disc), np.uint8)

    def _ghost(self, mask: Levels, white: Levels, edge: Levels) -> float:
        near = self._near(edge, GHOST_MARGIN, 2)
        soft = np.count_nonzero((mask >= BLACK) & (mask < WHITE) & (near == 0))
        ghost = 100 * soft / max(float(np.count_nonzero(white)), LEAST_SUBJECT * mask.size)
        self._rates["ghost"].append(ghost)
        return ghost

    def _next_frame(self, before: Levels, mask: Levels, step: _Step) -> float:
        rates = []
        for flow, believed, here, there in (
            (step.ahead, step.believed_ahead, before, mask),
            (step.back, step.believed_back, mask, before),
        ):
            x, y = _moved(flow)
            subject = believed & (here > SUBJECT)
            gone = subject & (cv2.remap(there, x, y, cv2.INTER_LINEAR) < BACKGROUND)
            least = LEAST_SUBJECT * mask.size
            all_here = max(float(np.count_nonzero(subject)), least)
            rates.append(100 * np.count_nonzero(gone) / all_here)
        all_subject = np.count_nonzero(before > SUBJECT)
        if all_subject:
            could = np.count_nonzero(step.believed_ahead & (before > SUBJECT))
            self._followed.append(100 * could / all_subject)
        self._rates["vanish"].append(rates[0])
        self._rates["appear"].append(rates[1])
        self._jumps += int(max(rates) > JUMP_PERCENT)
        return sum(rates)

    def _pass_on(self, kept: Whole, count: int) -> None:
        """Settle the accounts of the points that ended, and make room for those that begin."""
        ended = np.ones(len(self._side), bool)
        ended[kept] = False
        self._settle(self._life[ended])
        begun = count - len(kept)
        self._side = np.r_[self._side[kept], np.zeros(begun, np.int8)]
        for name in ("_states", "_life"):
            old = getattr(self, name)
            fresh = np.zeros((begun, old.shape[1]), old.dtype)
            setattr(self, name, np.concatenate([old[kept], fresh]))

    def _settle(self, life: Floats) -> None:
        weight, alpha, changes, greatest, judged, steps = life.T
        self._subject_weight += float(alpha.sum())
        self._lived_weight += float(alpha[steps >= self._life_steps].sum())
        counts = (steps >= self._life_steps) & (2 * judged >= steps) & (greatest > SUBJECT)
        weight, alpha, changes, judged = (
            each[counts].astype(np.float64) for each in (weight, alpha, changes, judged)
        )
        unsettled = weight - np.abs(2 * alpha - weight)
        seconds = weight * self._every / self._fps
        self._totals += [weight.sum(), unsettled.sum(), changes.sum(), seconds.sum()]

    def _read(self, mask: Levels, edge: Levels, points: _Points) -> float:
        near = self._near(edge, OUTLINE_MARGIN, 2)
        nearest = (np.rint(points.y).astype(np.int64), np.rint(points.x).astype(np.int64))
        nearest = (
            np.minimum(nearest[0], self._size[1] - 1),
            np.minimum(nearest[1], self._size[0] - 1),
        )
        level = mask[nearest]
        judged = near[nearest] == 0
        state = np.zeros(len(level), np.int8)
        state[judged & (level > SUBJECT)] = 1
        state[judged & (level < BACKGROUND)] = -1
        self._states[:, self._number % self._columns] = state
        changed = (state != 0) & (self._side != 0) & (state != self._side)
        self._side = np.where(state != 0, state, self._side)
        cell = points.cell
        self._left.add(self._number, cell[changed & (state < 0)])
        self._entered.add(self._number, cell[changed & (state > 0)])
        weight = points.weight * judged
        self._life[:, 0] += weight
        self._life[:, 1] += weight * level / 255
        self._life[:, 2] += points.weight * changed
        self._life[:, 3] = np.maximum(self._life[:, 3], np.where(judged, level, 0))
        self._life[:, 4] += judged
        self._life[:, 5] += 1
        subject = float(points.weight[changed | (state > 0)].sum())
        least = LEAST_SUBJECT * points.rows * points.columns
        return 100 * float(points.weight[changed].sum()) / max(subject, least)

    def _far(self, points: _Points) -> float:
        now = self._states[:, self._number % self._columns]
        least = LEAST_SUBJECT * points.rows * points.columns
        bad = 0.0
        for steps, frames in self._steps.items():
            far = frames > 4
            if self._number < steps or (far and not points.checked):
                continue
            seen = points.age >= steps
            then = self._states[:, (self._number - steps) % self._columns]
            for first, last, rates in ((then, now, self._lost), (now, then, self._gained)):
                subject = seen & (first > 0)
                gone = float(points.weight[subject & (last < 0)].sum())
                rate = 100 * gone / max(float(points.weight[subject].sum()), least)
                rates[frames].append(rate)
                bad += rate / CHECK_EVERY if far else 0.0
        return bad

    def result(self) -> Steadiness:
        """After the last mask."""
        self._settle(self._life)
        self._life = self._life[:0]
        weight, unsettled, changes, seconds = self._totals
        events = [*self._left.all(self._every), *self._entered.all(self._every)]
        return Steadiness(
            frames=self._number + 1,
            ghost=_mean(self._rates["ghost"]),
            vanish=_mean(self._rates["vanish"]),
            appear=_mean(self._rates["appear"]),
            jumps=int(self._jumps),
            lost={each: _mean(self._lost[each]) for each in sorted(self._lost)},
            gained={each: _mean(self._gained[each]) for each in sorted(self._gained)},
            unsettled=round(100 * unsettled / weight, 2) if weight else 0.0,
            flaps=round(10 * changes / seconds, 2) if seconds else 0.0,
            followed=_mean(self._followed),
            lived=round(100 * self._lived_weight / max(self._subject_weight, 1e-6), 1),
            events=tuple(sorted(events, key=lambda each: -each.area)),
            badness=tuple(self._badness),
        )


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 2) if values else 0.0


def measured_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a clip is measured."""
    scale = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))


def steadiness(
    source: Iterable[Rgb],
    *masks: Iterable[Levels],
    fps: float = 24.0,
    every: int = 1,
    fine_flow: bool = False,
) -> list[Steadiness]:
    """Measure one or more masks of a clip in one pass; it ends with the shortest of them.

    ``fps`` is the source's. Only frames 0, ``every``, 2 x ``every`` and so on are looked at: give
    all of them, as for ``every`` = 1. ``fine_flow`` takes twice the time and follows a little more.
    """
    find, judges = _Flows(fine_flow), list[_Judge]()
    points: _Points | None = None
    before: Luma | None = None
    for number, (rgb, *planes) in enumerate(zip(source, *masks, strict=False)):
        if number % every:
            continue
        size = measured_size(rgb.shape[1], rgb.shape[0])
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        if points is None:
            points = _Points(size, max(1, round(CHECK_FRAMES / every)))
            judges = [_Judge(size, points, fps, every) for _ in masks]
        step = find(before, luma) if before is not None else None
        if step is not None and step.believed_ahead.mean() < CUT_FOLLOWED:
            step = None
        kept = points.follow(step, np.asarray(small, np.uint8))
        for judge, plane in zip(judges, planes, strict=True):
            judge.infer(plane, step, points, kept)
        before = luma
    return [judge.result() for judge in judges]


def main() -> None:
    """Print one JSON line for each mask."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("masks", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="look at every Nth frame")
    parser.add_argument(
        "--sparse", type=int, default=1, help="masks exist for every Nth frame only"
    )
    parser.add_argument("--fps", type=float, help="of the source; the video's own without it")
    parser.add_argument("--events", type=int, default=5, help="how many to print")
    parser.add_argument("--fine-flow", action="store_true", help="twice the time, followed better")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    fps = (args.fps or frames_per_second(args.source)) / args.sparse
    source = itertools.islice(frames_of(args.source), 0, None, args.sparse)
    masks = [masks_of(path) for path in args.masks]
    results = steadiness(source, *masks, fps=fps, every=args.every, fine_flow=args.fine_flow)
    for path, result in zip(args.masks, results, strict=True):
        table = asdict(result)
        del table["badness"]
        table["events_in_all"] = len(result.events)
        table["events"] = table["events"][: args.events]
        print(json.dumps({"mask": path.name, **table}))


if __name__ == "__main__":
    main()
