"""What a caller may ask for: presets, quality, and the limits that a clip must keep."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from foremask.errors import FieldInvalid


class Preset(StrEnum):
    """Container and codec of the mask video; the nine names of the wire contract."""

    MP4_H264 = "mp4_h264"
    MP4_H265 = "mp4_h265"
    WEBM_VP9 = "webm_vp9"
    MOV_H265 = "mov_h265"
    MOV_PRORESKS = "mov_proresks"
    MKV_H264 = "mkv_h264"
    MKV_H265 = "mkv_h265"
    MKV_VP9 = "mkv_vp9"
    GIF = "gif"

    @property
    def suffix(self) -> str:
        """File name ending, with its dot."""
        return "." + self.value.split("_", maxsplit=1)[0]

    @property
    def media_type(self) -> str:
        """What a web server says of the file."""
        return MEDIA_TYPES[self.suffix]


MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".gif": "image/gif",
    ".avi": "video/x-msvideo",
}


PRESET_OF_SUFFIX = {
    ".mp4": Preset.MP4_H264,
    ".webm": Preset.WEBM_VP9,
    ".mov": Preset.MOV_H265,
    ".mkv": Preset.MKV_H264,
    ".gif": Preset.GIF,
}
"""The preset that a file name asks for by its ending."""


class Quality(StrEnum):
    """How much time a mask may take; docs/quality.md has what each gives."""

    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


REENCODE_ONLY: Final = "kept"
"""Stands in place of a quality in a job whose clip is a mask already: it is only encoded anew."""


class Device(StrEnum):
    """Where the network runs; ``auto`` takes a GPU when the runtime finds one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a clip may be. The defaults are the service's; ``UNLIMITED`` is for one's own files."""

    max_bytes: int = 1 << 30
    max_side_px: int = 16_000
    max_duration_s: float = 60.0  # and one frame, counted at the nominal rate: 30 for 29.97
    max_frames: int = 60 * 120  # and one frame: 60 s at 120 fps
    max_frame_pixels: int = 60 * 240 * 3840 * 2160  # frames x pixels: 60 s of 4K at 240 fps
    memory_bytes: int | None = None  # what one mask may take; None: what this machine has free


UNLIMITED = Limits(
    max_bytes=1 << 62,
    max_side_px=16_000,
    max_duration_s=float("inf"),
    max_frames=1 << 62,
    max_frame_pixels=1 << 62,
)


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """One masking, as asked for."""

    preset: Preset = Preset.MP4_H264
    quality: Quality = Quality.BALANCED
    device: Device = Device.AUTO
    limits: Limits = UNLIMITED
    model: Path | None = None  # an ONNX file; None is the pulled one in the user's cache


class Despill(StrEnum):
    """A colour that a screen threw onto the subject, and that is taken out of it."""

    NONE = "none"
    GREEN = "green"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Matte:
    """What is done to the alpha of a cut-out, in the order of the fields; then to its colours.

    ``black`` and ``white`` are the alphas that become 0 and 1, ``gamma`` over 1 makes what lies
    between them more opaque. Parts of fewer than ``min_part_px`` pixels go. ``grow_px`` moves the
    outline outwards, and inwards where it is negative, by parts of a pixel too. ``feather_px``
    softens it. Raises FieldInvalid, with the range, for a value outside of it.
    """

    invert: bool = False
    black: float = 0.0
    white: float = 1.0
    gamma: float = 1.0
    min_part_px: int = 0
    grow_px: float = 0.0
    feather_px: float = 0.0
    despill: Despill = Despill.NONE

    def __post_init__(self) -> None:
        for name, (low, high) in MATTE_RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # nan, too
                raise FieldInvalid(
                    f"{name} is {value}; it may be from {low:g} to {high:g}.",
                    param=name,
                    limit=high if value > high else low,
                    actual=value,
                )
        if self.black >= self.white:
            raise FieldInvalid(
                f"black is {self.black} and white is {self.white}; black must be the smaller one.",
                param="black",
                limit=self.white,
                actual=self.black,
            )


MATTE_RANGES: Final = {
    "black": (0.0, 0.99),
    "white": (0.01, 1.0),
    "gamma": (0.1, 10.0),
    "min_part_px": (0, 1_000_000_000),
    "grow_px": (-50.0, 50.0),
    "feather_px": (0.0, 100.0),
}
