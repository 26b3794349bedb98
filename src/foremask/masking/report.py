"""Progress of a masking while it runs, and its report when it is done."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from foremask.facts import Clip, Report, Span, Written
from foremask.media.frames import Frame
from foremask.options import Quality
from foremask.types import Alpha, Levels
from foremask.vision.temporal.tier import TIERS

INFERRED_SHARE: Final = {Quality.FAST: 0.63, Quality.BALANCED: 0.6, Quality.BEST: 0.6}
"""Of the work on a window: its anchors; deciding its masks is the rest but for `WRITTEN_SHARE`."""
WRITTEN_SHARE: Final = 0.05
READ_AHEAD_FRAMES: Final = 28  # of the network: two blocks and a queue
DECIDED_TOGETHER_FRAMES: Final = 144
LEAST_SHARE: Final = 0.05  # of the work: before, no time left is estimated


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a masking is.

    ``frames_done`` counts work: the anchors of a window, then its decisions, then the writing of
    its masks are parts of a frame each. ``frames_total`` is what the header declares, or an
    estimate until ``total_is_known``; None where there is neither. ``left_s`` is None where the
    time left is not known yet. ``newest`` is the network's mask of the newest frame that it was
    asked of, upright and small, before the clip is decided; do not change it.
    """

    frames_done: int
    frames_total: int | None
    stage: str = "masking"
    newest: Alpha | None = field(default=None, repr=False, compare=False)
    total_is_known: bool = True
    left_s: float | None = field(default=None, compare=False)


OnFrame = Callable[[Progress], object]


@dataclass(slots=True)
class AnchorCounter:
    """The anchors that the network was asked of; about ``per_frame`` of them are expected.

    ``share`` of the work is theirs; all but the writing, where nothing else is known.
    """

    per_frame: float | None = None
    share: float = 1 - WRITTEN_SHARE
    count: int = 0
    newest: Levels | None = field(default=None, repr=False)

    def expect(self, quality: Quality) -> None:
        self.per_frame, self.share = TIERS[quality].anchors_per_frame, INFERRED_SHARE[quality]

    def add(self, levels: Levels) -> None:
        self.count += 1
        self.newest = levels

    def frames(self, read: int) -> float:
        """How many of the ``read`` frames are inferred: they are read before."""
        if self.per_frame is None:
            return read
        if read > 3 * READ_AHEAD_FRAMES:
            self.per_frame = max(self.count, 1) / (read - READ_AHEAD_FRAMES)
        return min(read, self.count / self.per_frame)


@dataclass(slots=True)
class ProgressCounter:
    """Counts frames that enter and leave the stages, and reports when the share has grown."""

    clip: Clip
    span: Span | None
    on_frame: OnFrame
    newest: Callable[[], Alpha | None]
    anchors: AnchorCounter
    read: int = 0
    written: int = 0
    last: int = 0
    ended: bool = False
    started_s: float = field(default_factory=lambda: time.monotonic())

    def counting(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass ``frames`` on; those of the span are counted."""
        for frame in frames:
            self.read += self.span is None or self.span.holds(frame.pts)
            yield frame
        self.ended = True

    def wrote(self) -> None:
        """Count a frame whose mask is written, and report."""
        self.written += 1
        self.report()

    def report(self) -> None:
        """Call ``on_frame`` if work has been done since the last time."""
        total = self.read if self.ended else self.clip.expected_frames
        is_known = self.ended or self.clip.frames is not None
        windows = -(-self.written // DECIDED_TOGETHER_FRAMES)
        decided = min(self.read, windows * DECIDED_TOGETHER_FRAMES)
        if self.anchors.per_frame is None:  # each frame by itself
            decided = self.written
        inferred = max(self.anchors.frames(self.read), decided)
        parts = self.anchors.share, 1 - self.anchors.share - WRITTEN_SHARE, WRITTEN_SHARE
        work = parts[0] * inferred + parts[1] * decided + parts[2] * self.written
        if int(work + 1e-6) > self.last:
            self.last = int(work + 1e-6)
            left_s = self._left_s(work / total) if total else None
            newest = self.newest()
            self.on_frame(
                Progress(self.last, total, newest=newest, total_is_known=is_known, left_s=left_s)
            )

    def _left_s(self, share: float) -> float | None:
        if share < LEAST_SHARE:
            return None
        return (time.monotonic() - self.started_s) * max(0.0, 1 / share - 1)


@dataclass(slots=True)
class Statistics:
    """Running sums over the masks."""

    frames: int = 0
    coverage: float = 0.0
    flicker: float = 0.0
    strip: list[tuple[float, float, float]] = field(default_factory=list)
    last: Alpha | None = field(default=None, repr=False)

    def note(self, alpha: Alpha, time_s: float) -> None:
        coverage, change = float(alpha.mean()), 0.0
        if self.last is not None and self.last.shape == alpha.shape:
            change = float(np.abs(alpha - self.last).mean())
        self.frames += 1
        self.coverage += coverage
        self.flicker += change
        self.strip.append((round(time_s, 4), round(coverage, 4), round(change, 4)))
        self.last = alpha


def report_of(
    clip: Clip,
    runtime: str,
    statistics: Statistics,
    written: Written,
    warnings: Iterable[str],
    cpu_s: dict[str, float],
) -> Report:
    """The report of a finished masking; ``warnings`` are those of the reader."""
    all_warnings = (*clip.warnings, *warnings, *written.sound_warnings, *_hdr_warning(clip))
    return Report(
        frames_in=statistics.frames,
        frames_out=written.frames_out,
        duration_s=written.duration_s,
        fps=clip.fps,
        duration_drift_ms=written.duration_drift_ms,
        audio=written.audio,
        warnings=tuple(dict.fromkeys(all_warnings)),
        coverage=statistics.coverage / max(1, statistics.frames),
        flicker=statistics.flicker / max(1, statistics.frames - 1),
        strip=tuple(statistics.strip),
        runtime=runtime,
        stage_cpu_s={stage: round(cost, 3) for stage, cost in cpu_s.items()},
        sha256=written.sha256,
        bytes=written.bytes,
    )


def _hdr_warning(clip: Clip) -> Iterator[str]:
    if clip.hdr:
        yield f"the source is HDR ({clip.hdr}); it was tone-mapped for the network only"
