"""Measures the progress of a masking, and what its masks are like."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from foremask.facts import Clip
from foremask.types import Alpha, Levels
from foremask.vision.resample import as_alpha
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import BLOCK_FRAMES

# On six clips, inference took 0.75-0.82 of the time, decision 0.11-0.18 and writing 0.02-0.07.
ASKED_SHARE: Final = 0.8
DECIDED_SHARE: Final = 0.15
WRITTEN_SHARE: Final = 0.05
LEAST_SHARE: Final = 0.05  # The time left is estimated from this share of the frames on.
SIGN_OF_LIFE_S: Final = 30.0  # the service gives up a run that reports nothing for 300 s
EXPECTED_FRAMES: Final = 6  # The expected pace weighs as much as this many measured frames.


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    ``frames_done`` counts a frame in three parts: when it is inferred, decided and written. Each
    part weighs as much as its time. The number is 0 in the first report, which comes before the
    network is loaded. ``frames_total`` is None if unknown, and an estimate unless
    ``total_is_known``. ``left_s`` is the estimated time left in seconds, None while it cannot be
    estimated. ``newest`` is a small upright preview of the latest mask; do not change its pixels.
    """

    frames_done: int
    frames_total: int | None
    newest: Alpha | None = field(default=None, repr=False, compare=False)
    total_is_known: bool = True
    left_s: float | None = field(default=None, compare=False)


OnProgress = Callable[[Progress], object]


@dataclass(slots=True)
class StageProgress:
    frames: float = 0
    spent_s: float = 0.0

    @property
    def pace_s(self) -> float:
        return self.spent_s / self.frames if self.frames else 0.0

    def left_s(self, total: int, expected_s: float | None) -> float | None:
        """Seconds for the remaining frames; None if no pace is expected or measured."""
        if self.frames >= total:
            return 0.0
        pace_s = self.pace_s
        if expected_s is not None:
            pace_s = (EXPECTED_FRAMES * expected_s + self.spent_s) / (EXPECTED_FRAMES + self.frames)
        if not pace_s:
            return None
        return pace_s * (total - self.frames)


@dataclass(slots=True)
class Work(Observer):
    """The progress of inference, decision and writing, timed by one clock.

    The time between two calls of `_add` counts for the later call's stage. So the sum of all stages
    is the time since the first call, although stages overlap. ``anchors_per_frame`` is the least of
    the quality, None for a masker without anchors. ``asks`` is False if the cache has all results
    of the network, so that inference takes no time. ``anchors`` counts an anchor each time that its
    mask is made: a tracker that follows a thing back makes it once more.
    """

    anchors_per_frame: float | None = None
    asks: bool = True
    asked: StageProgress = field(default_factory=StageProgress)
    decided: StageProgress = field(default_factory=StageProgress)
    written: StageProgress = field(default_factory=StageProgress)
    newest: Levels | None = field(default=None, repr=False)
    anchors: int = 0
    on_picked: Callable[[list[PickedAnchor]], None] | None = None
    _in_block: int = 0
    _block_start: int = 0
    _at_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add_anchor(self, levels: Levels) -> None:
        """Count an anchor as 1 / ``anchors_per_frame`` frames, at most to the end of its block."""
        self.newest = levels
        self.anchors += 1
        self._in_block += 1
        frames = min(self._in_block / (self.anchors_per_frame or 1), BLOCK_FRAMES)
        self._add(self.asked, self._block_start + frames)

    def ask_to(self, frame: int) -> None:
        if frame > self._block_start:
            self._block_start = frame
            self._in_block = 0
            self.asked.frames = max(self.asked.frames, frame)

    def decide_to(self, frame: int, find: Callable[[], list[PickedAnchor]]) -> None:
        self._add(self.decided, frame)
        if self.on_picked is not None:
            self.on_picked(find())

    def write(self) -> None:
        self._add(self.written, self.written.frames + 1)

    def _add(self, stage: StageProgress, frames: float) -> None:
        with self._lock:
            now_s = time.monotonic()
            stage.frames = max(stage.frames, frames)
            if self._at_s is not None:
                stage.spent_s += now_s - self._at_s
            self._at_s = now_s

    def done(self, read: int) -> float:
        if self.anchors_per_frame is None:
            return (1 - WRITTEN_SHARE) * read + WRITTEN_SHARE * self.written.frames
        stages = self.asked, self.decided, self.written
        shares = [ASKED_SHARE, DECIDED_SHARE, WRITTEN_SHARE]
        if all(each.pace_s for each in stages):
            shares = [each.pace_s / sum(one.pace_s for one in stages) for each in stages]
        # an earlier stage has done at least as many frames as a later stage
        counts = [max(min(read, each.frames) for each in stages[at:]) for at in range(3)]
        return sum(share * count for share, count in zip(shares, counts, strict=True))

    def left_s(self, total: int) -> float | None:
        if self.anchors_per_frame is None:
            return self.written.left_s(total, None)
        if not self.asked.spent_s:
            return None
        a_frame_s = None
        if self.asks:
            a_frame_s = self.asked.pace_s / ASKED_SHARE
        left_s = self.asked.left_s(total, None) or 0.0
        for stage, share in (self.decided, DECIDED_SHARE), (self.written, WRITTEN_SHARE):
            stage_s = stage.left_s(total, a_frame_s and share * a_frame_s)
            if stage_s is None:
                return None
            left_s += stage_s
        return left_s


class Reading(Protocol):
    """How many frames of the clip's span are read, and whether these are all."""

    read: int
    ended: bool


@dataclass(slots=True)
class ProgressCounter:
    """Reports progress whenever more frames are done.

    A tracker can take minutes to follow a thing back, and no further frame is done in that time.
    So a report is also due after `SIGN_OF_LIFE_S` if anchors were made since the last one.
    """

    clip: Clip
    on_progress: OnProgress
    work: Work
    decode: Reading
    statistics: "Statistics"
    last: int = 0
    _anchors: int = 0  # at the last report
    _reported_s: float = field(default_factory=lambda: time.monotonic())

    def wrote(self) -> None:
        self.work.write()
        self.report()

    def report(self) -> None:
        total = self.clip.expected_frames
        if self.decode.ended:
            total = self.decode.read
        is_known = self.decode.ended or self.clip.frames is not None
        done = int(self.work.done(self.decode.read) + 1e-6)
        if done > self.last or self._is_at_work():
            self.last = max(self.last, done)
            self._anchors = self.work.anchors
            self._reported_s = time.monotonic()
            left_s = None
            if total is not None and done >= LEAST_SHARE * total:
                left_s = self.work.left_s(total)
            self.on_progress(Progress(self.last, total, self._newest(), is_known, left_s))

    def _newest(self) -> Alpha | None:
        newest = self.work.newest
        if newest is not None:
            return as_alpha(newest)
        last = self.statistics.last
        if last is None or last.dtype == np.float32:
            return last
        return as_alpha(last[::8, ::8])

    def _is_at_work(self) -> bool:
        is_silent = time.monotonic() - self._reported_s >= SIGN_OF_LIFE_S
        return is_silent and self.work.anchors > self._anchors


@dataclass(slots=True)
class Statistics:
    strip: list[tuple[float, float, float]] = field(default_factory=list)  # as `Report.strip`
    last: NDArray[Any] | None = field(default=None, repr=False)

    def note(self, mask: NDArray[Any], time_s: float) -> None:
        """``mask`` is an `Alpha` or `Levels`; all masks of a clip are of one type."""
        white = 1
        of_difference: type[np.number[Any]] = np.float32
        if mask.dtype == np.uint8:
            white = 255
            of_difference = np.int16
        coverage = float(mask.mean()) / white
        change = 0.0
        if self.last is not None and self.last.shape == mask.shape:
            difference = np.subtract(mask, self.last, dtype=of_difference)
            change = float(np.abs(difference, out=difference).mean()) / white
        self.strip.append((time_s, coverage, change))
        self.last = mask
