"""Progress of a masking while it runs, and its report when it is done."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from foremask.facts import Clip, Report, Span, Written
from foremask.media.frames import Frame
from foremask.types import Alpha


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a masking is; ``frames_total`` may be an estimate, or None.

    ``frames_done`` counts work: inference is four fifths of a frame, writing its mask is the rest
    and may follow a window of frames later. ``newest`` is the network's mask of the newest frame
    that it was asked of, upright and small, before the clip is decided; do not change it.
    """

    frames_done: int
    frames_total: int | None
    stage: str = "masking"
    newest: Alpha | None = field(default=None, repr=False, compare=False)


OnFrame = Callable[[Progress], object]


@dataclass(slots=True)
class ProgressCounter:
    """Counts frames that enter and leave the stages, and reports when the share has grown."""

    clip: Clip
    span: Span | None
    on_frame: OnFrame
    newest: Callable[[], Alpha | None]
    inferred: int = 0
    written: int = 0
    last: int = 0

    def counting(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass ``frames`` on; those of the span count as inferred."""
        for frame in frames:
            self.inferred += self.span is None or self.span.holds(frame.pts)
            yield frame

    def wrote(self) -> None:
        """Count a frame whose mask is written, and report."""
        self.written += 1
        self.report()

    def report(self) -> None:
        """Call ``on_frame`` if work has been done since the last time."""
        done = (4 * self.inferred + self.written) // 5
        if done > self.last:
            self.last = done
            self.on_frame(Progress(done, self.clip.expected_frames, newest=self.newest()))


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
