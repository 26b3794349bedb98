"""What a caller may ask for: presets, quality, and the limits that a clip must keep."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final


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
