"""Lists the things (objects) of a clip: their boxes, and whether they are in the mask."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from foremask.errors import ClipRefused, OutputFailed
from foremask.hints.kinds import MOST_HINTS, Point, upright_size
from foremask.masking.outputs import check_output, write_whole
from foremask.masking.runner import run
from foremask.media.reader import VideoReader
from foremask.options import Files, JobSpec, Quality, Resources
from foremask.pipeline.build import checked_clip, opened_masking
from foremask.pipeline.stages.decode import Decode
from foremask.types import Rgb
from foremask.vision.drawing import as_png, draw_box, stacked
from foremask.vision.temporal.places import box_of, grown, middle_of
from foremask.vision.temporal.things import Follower, PickedAnchor

LEAST_ANCHORS: Final = 2  # A thing on fewer frames is left out.
IN_MASK_SHARE: Final = 0.5  # A thing is `in_mask` if a larger share of its area is in the mask.
APART_PX: Final = 4  # on the region grid: nearer things count as touching
CELL_PX: Final = 640
MOST_ROWS: Final = 6


class ThingBox(msgspec.Struct, frozen=True, kw_only=True):
    frame: int
    x: int
    y: int
    width: int
    height: int


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """``coverage`` is the thing's mean share of the picture; ``hint`` is a point on the thing."""

    number: int
    first_frame: int
    last_frame: int
    coverage: float
    in_mask: bool
    boxes: list[ThingBox]
    hint: Point


@dataclass(slots=True)
class _ThingTrack:
    boxes: list[ThingBox] = field(default_factory=list)
    cells: int = 0
    cells_in_mask: int = 0
    # on the frame of ``hint``: whether the thing's middle is in the mask, whether the thing is
    # apart from others, and its area
    best: tuple[bool, bool, int] = (False, False, 0)
    hint: Point | None = None


@dataclass(slots=True)
class _Found:
    size: tuple[int, int]  # width and height of the upright picture
    follower: Follower = field(default_factory=Follower)
    tracks: dict[int, _ThingTrack] = field(default_factory=dict)
    last_frame: int = -1
    grid_px: int = 0
    frames: int = 0

    def add(self, window: list[PickedAnchor]) -> None:
        for anchor, placed in zip(window, self.follower.follow(window), strict=True):
            if anchor.frame > self.last_frame:  # windows overlap: skip anchors that are counted
                self._count(anchor.frame, placed, anchor.inside)
                self.last_frame = anchor.frame

    def _count(self, frame: int, placed: NDArray[np.int32], inside: NDArray[np.bool_]) -> None:
        rows, columns = placed.shape
        self.grid_px = placed.size
        self.frames += 1
        across = self.size[0] / columns
        down = self.size[1] / rows
        for number in np.unique(placed[placed > 0]):
            here = placed == number
            track = self.tracks.setdefault(int(number), _ThingTrack())
            area = int(here.sum())
            track.cells += area
            track.cells_in_mask += int((here & inside).sum())
            x, y, width, height = box_of(here)
            track.boxes.append(
                ThingBox(
                    frame=frame,
                    x=round(x * across),
                    y=round(y * down),
                    width=round(width * across),
                    height=round(height * down),
                )
            )
            near = grown(here, APART_PX) & ~here
            is_apart = not (placed[near] > 0).any()
            found = bool(inside[middle_of(here)]), is_apart, area
            if found > track.best:
                track.best = found
                row, column = middle_of(here)
                track.hint = Point(
                    x=round((column + 0.5) * across - 0.5, 1),
                    y=round((row + 0.5) * down - 0.5, 1),
                    frame=frame,
                )


def things_of(
    source: Path, quality: Quality, resources: Resources, cache: Path | None = None
) -> list[Thing]:
    """List the things, the largest first; mask the clip, but write no mask."""
    spec = JobSpec(quality=quality)
    clip = checked_clip(source, spec, resources.limits)
    found = _Found(upright_size(clip))
    with opened_masking(spec, source, clip, resources, cache=cache, on_picked=found.add) as masking:
        # Without frames that wait for their masks, there is nothing to pair.
        unpaired = masking.pipeline.instead_of("decode", Decode()).without("pair", "edges")
        with unpaired.running() as masks:
            for _ in masks:
                pass
    if not found.frames:
        raise ClipRefused(f"{source.name} has no frames", reason="no_frames")
    return _listed(found)


def masks_of_things(
    source: Path,
    things: list[Thing],
    folder: Path,
    spec: JobSpec,
    resources: Resources,
    *,
    cache: Path | None = None,
    replace: bool = False,
) -> list[Path]:
    """Write a mask video for each thing, as ``thing-3.mp4``; all share the network's results."""
    targets = [folder / f"thing-{thing.number}{spec.form.suffix}" for thing in things]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{folder} cannot be made: {error.strerror}") from None
    for target in targets:
        check_output(target, source, replace=replace)
    with TemporaryDirectory() as kept:
        cache = cache or Path(kept) / "network"
        for thing, target in zip(things, targets, strict=True):
            others = [
                msgspec.structs.replace(each.hint, negative=True)
                for each in things
                if each is not thing
            ]
            hints = (thing.hint, *others[: MOST_HINTS - 1])
            # Beside the mask a point corrects, and no point after it bans: so it comes last.
            if not thing.in_mask:
                hints = (*others[: MOST_HINTS - 1], thing.hint)
            alone = msgspec.structs.replace(spec, hints=hints)
            files = Files(source=source, target=target, cache=cache, replace=replace)
            run(alone, files, resources=resources)
    return targets


def things_picture(
    source: Path, things: list[Thing], target: Path, *, replace: bool = False
) -> None:
    """Draw the things' boxes on the first frame and the frames of their first `MOST_ROWS` hints.

    A number in brackets marks a thing that is not in the mask.
    """
    check_output(target, source, replace=replace)
    wanted = {thing.hint.frame or 0 for thing in things[:MOST_ROWS]}
    rows: list[Rgb] = []
    with VideoReader(source) as reader:
        for frame in reader:
            if frame.index in wanted or not rows:
                scale = CELL_PX / max(frame.width, frame.height)
                width = max(1, round(frame.width * scale))
                height = max(1, round(frame.height * scale))
                rows.append(frame.rgb(width, height).copy())
                _draw_boxes(rows[-1], things, frame.index, scale)
            if frame.index >= max(wanted, default=0):
                break
    write_whole(target, as_png(stacked(rows)), replace=replace)


def _draw_boxes(picture: Rgb, things: list[Thing], frame: int, scale: float) -> None:
    for thing in things:
        label = f"{thing.number}" if thing.in_mask else f"({thing.number})"
        for box in thing.boxes:
            if box.frame == frame:
                corner = round(box.x * scale), round(box.y * scale)
                opposite = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
                draw_box(picture, corner, opposite, label, thing.number)


def _listed(found: _Found) -> list[Thing]:
    least = min(LEAST_ANCHORS, found.frames)
    lasting = [track for track in found.tracks.values() if len(track.boxes) >= least]
    order = sorted(lasting, key=lambda track: -track.cells)
    return [
        Thing(
            number=place,
            first_frame=track.boxes[0].frame,
            last_frame=track.boxes[-1].frame,
            coverage=round(track.cells / (len(track.boxes) * found.grid_px), 4),
            in_mask=track.cells_in_mask > IN_MASK_SHARE * track.cells,
            boxes=track.boxes,
            hint=track.hint,
        )
        for place, track in enumerate(order, start=1)
        if track.hint is not None
    ]
