"""The JSON of a job's rows: its clip, the arguments and results of its steps, its report.

Fields that a row lacks keep their defaults, and fields that it has besides are ignored, so rows of
other versions can be read.
"""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from foremask.facts import Clip, SoundTrack, Span
from foremask.hints.kinds import Hint
from foremask.options import ResultOptions


class JobClip(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Facts of a job's clip for its steps."""

    frames: int | None = None
    size_bytes: int = 0
    warnings: tuple[str, ...] = ()


type StoredClip = Clip | JobClip
"""What is written to a row; it is read as a `JobClip`."""


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a job, as its caller reads it.

    A field that nobody has set is absent from the JSON. ``strip`` is only in the reports of parts:
    of each frame its time in seconds, its coverage, and its change since the previous frame.
    ``mask_bytes`` is the size of the mask that is stored beside a cut-out or a composite,
    ``network_bytes`` that of the network's results, for as long as it is kept.
    """

    frames_out: int
    frames_in: int | UnsetType = UNSET
    duration_s: float | UnsetType = UNSET
    fps: float | UnsetType = UNSET
    duration_drift_ms: float | UnsetType = UNSET
    audio: tuple[SoundTrack, ...] | UnsetType = UNSET
    sound_warnings: tuple[str, ...] | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    coverage: float | UnsetType = UNSET
    flicker: float | UnsetType = UNSET
    strip: tuple[tuple[float, float, float], ...] | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    stage_cpu_s: dict[str, float] | UnsetType = UNSET
    segments: int | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    mask_bytes: int | UnsetType = UNSET
    network_bytes: int | UnsetType = UNSET


class JobResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job makes of its clip, and where the background comes from: a URL, or an upload.

    ``clip_key`` is the clip of a job that works on a stored mask, where it is an upload. ``hints``
    say what the subject is; the first ``key_points`` of them are key points. ``network_key`` is the
    network cache of an earlier job.
    """

    options: ResultOptions = ResultOptions()
    background_url: str | None = None
    background_key: str | None = None
    clip_key: str | None = None
    hints: tuple[Hint, ...] = ()
    key_points: int = 0
    network_key: str | None = None

    @property
    def has_background_file(self) -> bool:
        return self.background_url is not None or self.background_key is not None


PLAIN_MASK: Final = JobResult()


class StepArgs(msgspec.Struct, frozen=True, omit_defaults=True):
    """The arguments of a step.

    A segment step masks the whole source, or a span that was cut into its own file, of a clip that
    starts at ``clip_start_s``. ``background_key`` is the stored background. ``result`` is that of
    the job.
    """

    whole: bool = False
    span: Span | None = None
    source_key: str | None = None
    background_key: str | None = None
    clip_start_s: float | None = None
    result: JobResult = PLAIN_MASK


class IngestDone(msgspec.Struct, frozen=True):
    """Ingest's result: the stored clip, and the segments to mask.

    ``fetched_bytes`` are stored besides: a background, and the clip of a stored mask.
    """

    clip: StoredClip | None
    source_key: str | None
    segments: tuple[StepArgs, ...]
    fetched_bytes: int = 0


class PartDone(msgspec.Struct, frozen=True, omit_defaults=True):
    """A segment's result: the stored part, and that of a cut-out's mask."""

    key: str
    frames: int
    report: JobReport
    mask_key: str | None = None


class MaskDone(msgspec.Struct, frozen=True):
    """The whole mask is stored."""

    result_key: str
    frames: int
    report: JobReport


type StepDone = IngestDone | PartDone | MaskDone
