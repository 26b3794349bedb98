"""What is known of clips, spans and masks."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import msgspec


@dataclass(frozen=True, slots=True)
class AudioTrack:
    codec: str
    channels: int
    sample_rate_hz: int
    language: str | None
    title: str | None
    start_s: float
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Clip:
    """The properties of a clip, from its header.

    ``width`` and ``height`` are those of the coded picture. To show a coded picture upright, flip
    it horizontally (if ``mirrored``), then rotate it clockwise by ``rotation`` degrees. ``frames``
    and ``duration_s`` are None if the header does not have them.
    """

    container: str
    codec: str
    pixel_format: str | None
    width: int
    height: int
    rotation: int
    mirrored: bool
    matrix: tuple[int, ...] | None
    sample_aspect_ratio: tuple[int, int]
    fps: float
    vfr: bool
    frames: int | None
    start_s: float
    duration_s: float | None
    time_base: tuple[int, int]
    hdr: str | None
    full_range: bool
    interlaced: bool
    alpha: bool
    audio: tuple[AudioTrack, ...]
    size_bytes: int
    warnings: tuple[str, ...]

    @property
    def tick_s(self) -> Fraction:
        """Seconds of a tick of ``time_base``."""
        numerator, denominator = self.time_base
        return Fraction(numerator, denominator)

    @property
    def pixel_aspect(self) -> Fraction:
        """The width of a pixel divided by its height."""
        width, height = self.sample_aspect_ratio
        return Fraction(width, height)

    @property
    def expected_frames(self) -> int | None:
        """``frames`` if known, else an estimate from ``duration_s`` and ``fps``."""
        if self.frames is not None or self.duration_s is None or not self.fps:
            return self.frames
        return max(1, round(self.duration_s * self.fps))

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Span:
    """The frames from ``first_pts`` up to, not including, ``end_pts``, in the source's time base.

    If ``end_pts`` is None, the span ends with the clip. The masker also reads context frames around
    the span: from ``shown_from_pts`` (None: the clip's start) up to, not including,
    ``shown_until_pts`` (None: the clip's end).
    """

    first_pts: int
    end_pts: int | None
    shown_from_pts: int | None = None
    shown_until_pts: int | None = None

    def holds(self, pts: int) -> bool:
        return pts >= self.first_pts and (self.end_pts is None or pts < self.end_pts)

    def shows(self, pts: int) -> bool:
        begun = self.shown_from_pts is None or pts >= self.shown_from_pts
        return begun and (self.shown_until_pts is None or pts < self.shown_until_pts)


@dataclass(frozen=True, slots=True)
class SegmentGrid:
    window_frames: int  # a segment starts at a multiple of this number
    context_frames: int  # frames read on each side of a segment
    least_frames: int  # frames of the shortest segment
    frames_per_cut: int = 1  # a clip has at most 1 + frames // frames_per_cut segments


# docs/adr/0157
SEGMENT_GRID: Final = SegmentGrid(
    window_frames=144, context_frames=27, least_frames=432, frames_per_cut=720
)


@dataclass(frozen=True, slots=True)
class SegmentPlan(Span):
    """A span, and the packets of its segment file.

    The packets start at the keyframe at ``copy_from_pts`` and end before the keyframe at
    ``copy_until_pts`` (None: at the clip's end). If ``copy_from_pts`` is None, the segment file is
    a copy of the source.
    """

    copy_from_pts: int | None = None
    copy_until_pts: int | None = None


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """A sound track of the source; ``action`` is ``kept``, ``transcoded`` or ``dropped``."""

    codec: str
    written_as: str | None
    action: str
    why: str
    language: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """A written file; ``duration_drift_ms`` is the end of its last frame minus the source's."""

    frames_out: int
    duration_s: float
    duration_drift_ms: float
    audio: tuple[SoundTrack, ...]
    sound_warnings: tuple[str, ...]
    sha256: str
    bytes: int


class StageCost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stage of a pipeline took in a run.

    ``cpu_s`` is the processor time of its threads, without those of libraries. If a queue is in
    front of it, ``waiting`` is how many values were in it on the average, of ``room`` at most.
    """

    stage: str
    cpu_s: float
    waiting: float | None = None
    room: int | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The statistics of a finished mask, cut-out or composite.

    ``stage_cpu_s`` is the processor time of each stage; ``libraries`` is that of threads that the
    network and the codecs start. Together they are that of the process while it masked.
    ``pipeline`` has the stages in their order, if one process made the masks.
    ``coverage`` is the mean alpha of all frames. ``flicker`` is the mean change of alpha from frame
    to frame. ``strip`` has a tuple for each frame: time in seconds, mean alpha, change of alpha.

    The service sets the other fields: the number of segments, if the clip was cut; the size of the
    mask that is stored with a cut-out or composite; and that of the stored network results.
    """

    frames_in: int
    frames_out: int
    duration_s: float
    fps: float
    duration_drift_ms: float
    audio: tuple[SoundTrack, ...]
    warnings: tuple[str, ...]
    coverage: float
    flicker: float
    strip: tuple[tuple[float, float, float], ...] = ()
    runtime: str
    stage_cpu_s: dict[str, float]
    sha256: str
    bytes: int
    kind: str  # mask, cutout or composite
    pipeline: tuple[StageCost, ...] = ()
    segments: int | None = None
    mask_bytes: int | None = None
    network_bytes: int | None = None
