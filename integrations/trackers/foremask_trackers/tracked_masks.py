"""Masks a stream of images by a tracker: track the anchors, and propagate along the flow.

The tracker sees only each `Tier.stride`-th frame, the first of each shot and the frames with marks.
A thing that a mark begins is also tracked back, against time, to the start of its shot but at most
over `BACK_FRAMES` frames: so many frames wait for their masks.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from foremask.pipeline.stage_list import Pipeline, Queue
from foremask.pipeline.stages.ask import WINDOW_FRAMES
from foremask.pipeline.stages.shots import Shots
from foremask.pipeline.threads import Workers
from foremask.types import Image, Levels
from foremask.vision.image import ArrayImage
from foremask.vision.resample import as_levels, resized
from foremask.vision.stopping import raise_if_stopped
from foremask.vision.temporal.cuts import IncomingFrame
from foremask.vision.temporal.frame_hints import Mark
from foremask.vision.temporal.grids import Grid, MaskAlpha, MaskLevels, grid_of
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.propagation import FrameFlow, propagate
from foremask.vision.temporal.tier import BLOCK_FRAMES, Tier
from foremask.vision.temporal.verdict import hardened
from foremask_trackers.prompts import known_thing, painted, prompts_of
from foremask_trackers.tracker import Masks, Prompt, PromptBox, Tracker

BACK_FRAMES: Final = WINDOW_FRAMES
FIND_FRAMES: Final = 48  # words are looked for on each frame of this distance
MOST_THINGS: Final = 16  # words begin no further things: each costs time on every anchor
_KEPT_SIDE_PX: Final = 1024  # the input size of SAM 2
_KEPT_QUALITY: Final = 95

type Finder = Callable[[Image], Sequence[PromptBox]]
"""Returns the boxes of what a person's words name on an image."""


type OnBegun = Callable[[int, int], object]
"""Gets the first frame with a thing, and the frame to which that was followed back."""


def no_matter(_begun_on: int, _masked_from: int) -> None: ...


def track_images(
    images: Iterable[Image],
    tracker: Tracker,
    tier: Tier,
    marks_on: Callable[[Image], Sequence[Mark]],
    find: Finder | None = None,
    on_begun: OnBegun = no_matter,
    observer: Observer | None = None,
    flows_ahead: int = BLOCK_FRAMES,
) -> Iterator[MaskAlpha]:
    """Yield one mask for each image, in order, on the grid of `Tier.mask_area_px`.

    ``marks_on`` returns the marks on an image. ``find`` is asked about the first image of each shot
    and each `FIND_FRAMES`-th image. A mask comes at most `LAG_FRAMES` of `windows` images after its
    own image. Masks before the first thing, and before what was tracked back, are empty.
    """
    with (
        Workers() as workers,
        Pipeline(
            images, [Shots(tier, lambda _: True, workers), Queue(flows_ahead)]
        ).running() as arriving,
    ):
        clip = _TrackedClip(tracker, tier, marks_on, find, on_begun, observer)
        for incoming in arriving:
            yield from clip.add(incoming)
        yield from clip.end_shot()


@dataclass(slots=True)
class _Anchor:
    """A frame that the tracker has seen; ``jpeg`` is its picture."""

    number: int
    jpeg: bytes
    mask: MaskLevels


@dataclass(slots=True)
class _Shot:
    """The frames that wait for masks; the anchors before ``first_waiting`` are for propagation."""

    first_waiting: int
    anchors: deque[_Anchor] = field(default_factory=deque)
    flows: dict[int, FrameFlow] = field(default_factory=dict)


class _TrackedClip:
    def __init__(
        self,
        tracker: Tracker,
        tier: Tier,
        marks_on: Callable[[Image], Sequence[Mark]],
        find: Finder | None,
        on_begun: OnBegun,
        observer: Observer | None,
    ) -> None:
        self._tracker = tracker
        self._tier = tier
        self._marks_on = marks_on
        self._find = find
        self._on_begun = on_begun
        self._has_begun = False
        self._observer = observer or Observer()
        self._track = tracker.begin()
        self._shot: _Shot | None = None

    def add(self, incoming: IncomingFrame) -> Iterator[MaskAlpha]:
        number = incoming.number
        starts = incoming.frame_flow.to_previous is None
        if starts:
            yield from self.end_shot()
        if self._shot is None:
            self._shot = _Shot(number)
        self._shot.flows[number] = incoming.frame_flow
        marks = self._marks_on(incoming.image)
        if not (starts or marks or number % self._tier.stride == 0):
            return
        raise_if_stopped()
        searches = starts or number % FIND_FRAMES == 0
        self._add_anchor(self._shot, incoming, marks, searches=searches)
        yield from self._masks_before(self._shot, number - BACK_FRAMES)

    def end_shot(self) -> Iterator[MaskAlpha]:
        """Yield the masks of all frames that wait."""
        shot = self._shot
        self._shot = None
        if shot is not None:
            yield from self._masks_before(shot, max(shot.flows) + 1)

    def _add_anchor(
        self, shot: _Shot, incoming: IncomingFrame, marks: Sequence[Mark], *, searches: bool
    ) -> None:
        image = incoming.image
        grid = grid_of(image, self._tier.mask_area_px)
        masks = self._track.advance(image)
        prompts = prompts_of(marks, masks)
        if searches and self._find is not None:
            prompts += _of_new_things(self._find(image), masks, prompts)
        begun = [each for each in prompts if each.thing not in masks and _is_positive(each)]
        prompts = [each for each in prompts if each.thing in masks or each in begun]
        if prompts:
            masks = self._track.prompt(prompts)
        mask = painted(_together(masks, grid), marks)
        if begun:
            self._track_back(shot, image, begun)
        shot.anchors.append(_Anchor(incoming.number, _as_jpeg(image), mask))
        if begun and not self._has_begun:
            self._has_begun = True
            self._on_begun(incoming.number, shot.first_waiting)
        self._observer.add_anchor(mask)

    def _track_back(self, shot: _Shot, image: Image, begun: Sequence[Prompt]) -> None:
        """Add the things that begin here to the masks of the earlier frames that still wait."""
        waiting = [each for each in shot.anchors if each.number >= shot.first_waiting]
        if not waiting:
            return
        track = self._tracker.begin()
        track.advance(image)
        track.prompt(begun)
        for anchor in reversed(waiting):
            raise_if_stopped()
            rows, columns = anchor.mask.shape
            masks = track.advance(_of_jpeg(anchor.jpeg))
            anchor.mask = np.maximum(anchor.mask, _together(masks, Grid(columns, rows)))
            self._observer.add_anchor(anchor.mask)

    def _masks_before(self, shot: _Shot, end: int) -> Iterator[MaskAlpha]:
        """Yield the masks of the gaps between anchors that end before frame ``end``."""
        is_rest = end > max(shot.flows)
        numbers = [each.number for each in shot.anchors]
        ends = [*numbers[1:], max(shot.flows) + 1] if is_rest else numbers[1:]
        masks = {each.number: each.mask for each in shot.anchors}
        per_side = self._tier.anchors_per_side
        for first, after in zip(numbers, ends, strict=False):
            if first < shot.first_waiting:
                continue
            if after > end:
                break
            for alpha in propagate(first, shot.flows, masks, per_side):
                yield hardened(alpha)
            shot.first_waiting = after
        earlier = sum(number < shot.first_waiting for number in numbers)
        for _ in range(earlier - per_side):
            del shot.anchors[0]
        for number in [each for each in shot.flows if each < shot.anchors[0].number]:
            del shot.flows[number]


def _of_new_things(
    boxes: Sequence[PromptBox], masks: Masks, prompts: Sequence[Prompt]
) -> list[Prompt]:
    """Prompts for the found boxes that are not those of known things."""
    known = {*masks, *(each.thing for each in prompts)}
    result: list[Prompt] = []
    for box in boxes:
        marked = [each.box for each in (*prompts, *result) if each.box is not None]
        is_marked = any(box.overlap(each) > 0.5 for each in marked)
        if is_marked or known_thing(box, masks) is not None or len(known) >= MOST_THINGS:
            continue
        thing = max(known, default=-1) + 1
        known.add(thing)
        result.append(Prompt(thing, box=box))
    return result


def _is_positive(prompt: Prompt) -> bool:
    return prompt.box is not None or any(point.inside for point in prompt.points)


def _together(masks: Masks, grid: Grid) -> MaskLevels:
    total: Levels = np.zeros(grid.shape, np.uint8)
    for mask in masks.values():
        grown = resized(mask, grid.columns, grid.rows) * np.float32(1 / 255)
        total = np.maximum(total, as_levels(grown))
    return total


def _as_jpeg(image: Image) -> bytes:
    scale = min(1.0, _KEPT_SIDE_PX / max(image.width, image.height))
    rgb = image.rgb(max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = [cv2.IMWRITE_JPEG_QUALITY, _KEPT_QUALITY]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), how)
    return encoded.tobytes()


def _of_jpeg(jpeg: bytes) -> ArrayImage:
    bgr = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
    return ArrayImage(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
