"""Turns the marks on a frame into prompts: decides which thing each mark begins or corrects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Levels
from foremask.vision.network.finder import Click
from foremask.vision.temporal.frame_hints import DARK, LIGHT, Mark
from foremask_trackers.tracker import Masks, Prompt, PromptBox

SAME_BOX: Final = 0.5  # a box that overlaps a thing's box by more is of that thing
PAINT_POINTS: Final = 6  # most points that stand for the light, or the dark, pixels of a paint
_INSIDE: Final = 127  # a mask's higher levels are in the thing
_PAINT_SIDE_PX: Final = 256  # the longer side of the reduced paint that points are taken from


@dataclass(slots=True)
class _Marked:
    box: PromptBox | None = None
    points: list[Click] = field(default_factory=list)


def prompts_of(marks: Sequence[Mark], masks: Masks) -> list[Prompt]:
    """Return a prompt for each thing that the marks begin or correct.

    ``masks`` has the things that have begun, on this frame. A box begins a thing, unless it is the
    box of a known thing. A point or paint belongs to the things whose box or mask it is in. All
    other positive points and paints of the frame together begin one more thing. A negative one
    also counts for all things that are marked on this frame.
    """
    fresh = max(masks, default=-1) + 1
    marked: dict[int, _Marked] = {}
    for mark in marks:
        if mark.is_box and mark.positive:
            box = box_of(mark)
            thing = known_thing(box, masks)
            if thing is None:
                thing = fresh
                fresh += 1
            marked.setdefault(thing, _Marked()).box = box
    against: list[Click] = []
    loose: list[Click] = []
    for point in _points(marks):
        owners = [thing for thing, each in marked.items() if each.box and _holds(each.box, point)]
        if not owners:
            owners = [thing for thing, mask in masks.items() if _is_in(mask, point)]
        for thing in owners:
            marked.setdefault(thing, _Marked()).points.append(point)
        if not owners and point.inside:
            loose.append(point)
        elif not owners:
            against.append(point)
    if loose:
        marked[fresh] = _Marked(points=loose)
    return [Prompt(thing, (*each.points, *against), each.box) for thing, each in marked.items()]


def box_of(mark: Mark) -> PromptBox:
    return PromptBox(mark.x, mark.y, mark.x + mark.width, mark.y + mark.height)


def known_thing(box: PromptBox, masks: Masks) -> int | None:
    """The thing whose mask has nearly this box; None if there is none."""
    overlaps = {thing: box.overlap(_around(mask)) for thing, mask in masks.items()}
    best = max(overlaps, key=overlaps.__getitem__, default=None)
    if best is None or overlaps[best] <= SAME_BOX:
        return None
    return best


def painted(levels: Levels, marks: Iterable[Mark]) -> Levels:
    """Add the light pixels of paints to a mask, and remove the dark ones and negative boxes."""
    rows, columns = levels.shape
    result = levels.copy()
    for mark in marks:
        if mark.levels is not None:
            paint = cv2.resize(mark.levels, (columns, rows), interpolation=cv2.INTER_AREA)
            if mark.positive:
                result[paint > LIGHT] = 255
            else:
                result[paint < DARK] = 0
        elif mark.is_box and not mark.positive:
            box = box_of(mark)
            across = slice(round(box.left * columns), round(box.right * columns))
            result[round(box.top * rows) : round(box.bottom * rows), across] = 0
    return result


def _points(marks: Sequence[Mark]) -> list[Click]:
    points: list[Click] = []
    for mark in marks:
        if mark.levels is not None:
            points += _points_of_paint(mark.levels, positive=mark.positive)
        elif not mark.is_box:
            points.append(Click(mark.x, mark.y, mark.positive))
        elif not mark.positive:
            middle = mark.x + mark.width / 2
            points.append(Click(middle, mark.y + mark.height / 2, inside=False))
    return points


def _points_of_paint(paint: Levels, *, positive: bool) -> list[Click]:
    """The deepest points of the painted pixels, which cover them in discs, the largest first."""
    height, width = paint.shape
    scale = min(1.0, _PAINT_SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(paint, size, interpolation=cv2.INTER_AREA)
    inside = (small > LIGHT) if positive else (small < DARK)
    left = np.pad(inside.astype(np.uint8), 1)
    points = []
    for _ in range(PAINT_POINTS):
        depth = cv2.distanceTransform(left, cv2.DIST_L2, 5)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if not depth[row, column]:
            break
        x = float(column - 0.5) / size[0]
        y = float(row - 0.5) / size[1]
        points.append(Click(x, y, inside=positive))
        cv2.circle(left, (int(column), int(row)), int(2 * depth[row, column]) + 1, 0, -1)
    return points


def _holds(box: PromptBox, point: Click) -> bool:
    return box.holds(point.x, point.y)


def _is_in(mask: Levels, point: Click) -> bool:
    rows, columns = mask.shape
    row = min(rows - 1, int(point.y * rows))
    column = min(columns - 1, int(point.x * columns))
    return bool(mask[row, column] > _INSIDE)


def _around(mask: Levels) -> PromptBox:
    rows, columns = mask.shape
    inside: NDArray[np.bool_] = mask > _INSIDE
    down = np.flatnonzero(inside.any(axis=1))
    across = np.flatnonzero(inside.any(axis=0))
    if not down.size:
        return PromptBox(0, 0, 0, 0)
    return PromptBox(
        float(across[0] / columns),
        float(down[0] / rows),
        float((across[-1] + 1) / columns),
        float((down[-1] + 1) / rows),
    )
