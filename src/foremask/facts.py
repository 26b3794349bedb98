"""Facts of a clip, a span and a mask: plain values that cross process borders."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """One sound track, as the header declares it."""

    codec: str
    channels: int
    sample_rate_hz: int
    language: str | None
    title: str | None
    start_s: float
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Clip:
    """What a clip is.

    ``width`` and ``height`` are those of the coded picture; ``rotation`` degrees clockwise (after
    mirroring in x, where ``mirrored``) make it stand upright. ``frames`` and ``duration_s`` are
    what the header declares, None where it is silent.
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
    def expected_frames(self) -> int | None:
        """The declared number of frames, or else a guess from duration and rate."""
        if self.frames is not None or self.duration_s is None or not self.fps:
            return self.frames
        return max(1, round(self.duration_s * self.fps))

    @property
    def pixels(self) -> int:
        """Of one frame."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Span:
    """The frames from ``first_pts`` up to but without ``end_pts``, in the source's time base.

    ``end_pts`` None is the end of the clip.
    """

    first_pts: int
    end_pts: int | None

    def holds(self, pts: int) -> bool:
        """Whether a frame at ``pts`` belongs to it."""
        return self.is_near(pts, 0)

    def is_near(self, pts: int, roll_pts: int) -> bool:
        """Whether a frame at ``pts`` is in the span, or at most ``roll_pts`` away from it."""
        begun = pts >= self.first_pts - roll_pts
        return begun and (self.end_pts is None or pts < self.end_pts + roll_pts)


@dataclass(frozen=True, slots=True)
class SegmentPlan(Span):
    """A span, and which packets its segment file needs.

    They are those from the keyframe at ``copy_from_pts`` up to but without the keyframe at
    ``copy_until_pts``. Without the first, the file is the whole clip; without the second, the copy
    goes on to the end.
    """

    copy_from_pts: int | None = None
    copy_until_pts: int | None = None


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """What became of one sound track: ``kept``, ``transcoded`` or ``dropped``, and why."""

    codec: str
    written_as: str | None
    action: str
    why: str
    language: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    ``duration_drift_ms`` is how much later than that of the source the last frame ends.
    """

    frames_out: int
    duration_s: float
    duration_drift_ms: float
    audio: tuple[SoundTrack, ...]
    sound_warnings: tuple[str, ...]
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a masking did.

    ``stage_cpu_s`` has the processor time of each stage's own thread; decoders and encoders have
    more threads, whose time is not in it. ``flicker`` is the mean change of the masks from frame to
    frame. ``strip`` has of each frame its time in seconds, its coverage, and its change since the
    previous frame.
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
    strip: tuple[tuple[float, float, float], ...]
    runtime: str
    stage_cpu_s: dict[str, float]
    sha256: str
    bytes: int
    kind: str = "mask"  # or cutout, or composite
