"""Follows chosen things back to the start of their shot.

Windows are decided in order, each from the hints on its own frames and the window before. So what a
later hint decides in earlier windows is found first, on a coarse grid, by the flow between anchors.
Source: docs/adr/0050.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID
from foremask.types import Alpha, Image, Levels
from foremask.vision.network.session import Network
from foremask.vision.prefetch import prefetch
from foremask.vision.resample import as_alpha, as_levels, resized
from foremask.vision.temporal.blocks import BLOCK_FRAMES, Block, Blocks, Tools
from foremask.vision.temporal.closer import judge_closer
from foremask.vision.temporal.flow import resize_flow, trust
from foremask.vision.temporal.incoming import IncomingFrame, placed_images, with_shots
from foremask.vision.temporal.lesson import Lesson
from foremask.vision.temporal.network_cache import NetworkCache
from foremask.vision.temporal.propagation import FIXED_POINT_PER_PX, flow_between
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import is_separate, traced_back
from foremask.vision.temporal.tier import Tier, tracks_grid
from foremask.vision.temporal.verdict import judge
from foremask.vision.temporal.windows import begins_budget

REACH_FRAMES = SEGMENT_GRID.window_frames + SEGMENT_GRID.context_frames
"""A hint on an earlier frame of the clip is in its first window, which needs nobody's help."""
MOST_BYTES = 256 << 20  # of what is known of anchors; things are not followed beyond it
COARSE = 2  # pixels of the tracks' grid for one of this grid, in each direction


@dataclass(frozen=True, slots=True)
class _Step:
    """An anchor, packed: what is found there, and the flow to the next one."""

    number: int
    picked: NDArray[np.bool_]
    flow: bytes = b""
    trusted: bytes = b""

    @property
    def bytes(self) -> int:
        return len(self.flow) + len(self.trusted) + self.picked.nbytes

    def link(self, to: "_Step | None") -> Mapping[int, Link]:
        """To the next anchor, ``to``; none from the last one of a shot."""
        if to is None or not self.flow:
            return {}
        rows, columns = self.picked.shape
        packed = np.frombuffer(zlib.decompress(self.flow), np.int16).reshape(rows, columns, 2)
        levels = np.frombuffer(zlib.decompress(self.trusted), np.uint8).reshape(rows, columns)
        trusted = as_alpha(levels)
        flow = packed * np.float32(1 / FIXED_POINT_PER_PX)
        return {1: Link(flow, trusted, trusted, to.number - self.number)}


class _Links(Sequence[Mapping[int, Link]]):
    """Unpacks one link at a time."""

    def __init__(self, steps: Sequence[_Step]) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Mapping[int, Link]:  # type: ignore[override]
        after = self._steps[index + 1] if index + 1 < len(self._steps) else None
        return self._steps[index].link(after)


class Scout:
    """Is fed the blocks of a clip up to the last frame on which a thing is chosen."""

    def __init__(self, lessons: Mapping[int, Lesson]) -> None:
        self._lessons = {
            number: lesson for number, lesson in lessons.items() if lesson.followed is not None
        }
        self._steps: list[_Step] = []
        self._bytes = 0
        self.found: dict[int, Levels] = {}  # by frame: 255 on what is chosen, 0 on what is out

    def add(self, block: Block) -> None:
        """Add the next block."""
        inside = [n for n in self._lessons if block.first <= n <= block.last]
        numbers = sorted({*block.anchors, *inside})
        for here, there in zip(numbers, [*numbers[1:], None], strict=True):
            if self._steps and self._steps[-1].number == here and not self._steps[-1].flow:
                self._steps.pop()
            self._keep(self._step(block, here, there))

    def cut(self) -> None:
        """The shot ends: follow what is chosen in it."""
        claims: list[Alpha | None] = [None] * len(self._steps)
        picked = [step.picked for step in self._steps]
        for index, step in enumerate(self._steps):
            lesson = self._lessons.get(step.number)
            if lesson is not None and lesson.followed is not None:
                followed = cv2.resize(
                    lesson.followed, step.picked.shape[::-1], interpolation=cv2.INTER_NEAREST
                )
                claims[index] = np.asarray(followed, np.float32)
        if any(claim is not None for claim in claims):
            sides = traced_back(picked, claims, _Links(self._steps))
            for step, side in zip(self._steps, sides, strict=True):
                if step.number not in self._lessons and is_separate(step.picked, side):
                    self.found[step.number] = as_levels((side + np.float32(1)) / np.float32(2))
        self._steps, self._bytes = [], 0

    def _step(self, block: Block, here: int, there: int | None) -> _Step:
        lesson = self._lessons.get(here)
        if lesson is None:
            levels = block.anchors[here].mean()
        else:
            levels = np.mean(list(lesson.opinions.values()), axis=0).astype(np.uint8)
        columns, rows = tracks_grid(*levels.shape[::-1])
        grid = max(1, columns // COARSE), max(1, rows // COARSE)
        picked = np.asarray(resized(levels, *grid) > 255 * FOREGROUND)
        if there is None:
            return _Step(here, picked)
        steps = block.frame_flows
        flow = flow_between(steps, here - block.first, there - block.first)
        grey_here, grey_there = (steps[each - block.first].grey for each in (here, there))
        small = np.rint(resize_flow(flow, *grid) * np.float32(FIXED_POINT_PER_PX))
        packed = np.clip(small, -32767, 32767).astype(np.int16)
        trusted = as_levels(resized(trust(grey_here, grey_there, flow), *grid))
        return _Step(
            here, picked, zlib.compress(packed.tobytes(), 1), zlib.compress(trusted.tobytes(), 1)
        )

    def _keep(self, step: _Step) -> None:
        self._steps.append(step)
        self._bytes += step.bytes
        while self._bytes > MOST_BYTES:
            self._bytes -= self._steps.pop(0).bytes


def scouted(
    images: Iterable[Image],
    network: Network,
    tier: Tier,
    lessons: Mapping[int, Lesson],
    cache: NetworkCache | None = None,
) -> dict[int, Levels]:
    """What ``lessons``, by the number of their frame, decide on earlier anchors of the same shots.

    Images are read up to the last such frame and a few more. Anchors that ``cache`` has not are
    inferred.
    """
    last = max(number for number, lesson in lessons.items() if lesson.followed is not None)
    scout = Scout(lessons)
    known = cache if cache is not None and cache.is_complete else None
    with (
        ThreadPoolExecutor(2) as threads,
        prefetch(
            with_shots(placed_images(images, lambda _: True), tier, threads), BLOCK_FRAMES, "flow"
        ) as arriving,
    ):
        tools = Tools(
            network, tier, threads, judge, judge_closer, None, known, on_anchor=lambda _: None
        )
        _read(arriving, tools, scout, last)
    scout.cut()
    return scout.found


def _read(arriving: Iterable[IncomingFrame], tools: Tools, scout: Scout, last: int) -> None:
    """Show ``scout`` the blocks up to the one with frame ``last``."""
    blocks: Blocks | None = None
    for incoming in arriving:
        if blocks is None or incoming.starts_shot:
            _end(blocks, scout)
            blocks = Blocks(tools, incoming)
            scout.add(blocks.start)
            continue
        block = blocks.add(incoming)
        if block is None:
            continue
        scout.add(block)
        if block.last >= last:
            return
        if begins_budget(block.last):
            blocks.restart_budget()
    _end(blocks, scout)


def _end(blocks: Blocks | None, scout: Scout) -> None:
    block = None if blocks is None else blocks.finish()
    if block is not None:
        scout.add(block)
    scout.cut()
