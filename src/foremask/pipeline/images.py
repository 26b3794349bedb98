"""Frames as the network sees them."""

from dataclasses import dataclass
from typing import Final

from foremask.media.frames import Frame
from foremask.media.presets import HUGE_PIXELS
from foremask.types import Image, Rgb
from foremask.vision.image import ArrayImage

_SMALL_PX: Final = 2048


@dataclass(frozen=True, slots=True)
class ReducedImage:
    width: int
    height: int
    pts: int
    pixels: Rgb

    def rgb(self, width: int, height: int) -> Rgb:
        return ArrayImage(self.pixels).rgb(width, height)


def shown(frame: Frame) -> Image:
    """Reduce a frame above `HUGE_PIXELS` to 2048 pixels on its longer side, for the network."""
    if frame.width * frame.height <= HUGE_PIXELS:
        return frame
    scale = _SMALL_PX / max(frame.width, frame.height)
    pixels = frame.rgb(max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    return ReducedImage(frame.width, frame.height, frame.pts, pixels)


def pts_of(image: object) -> int:
    return getattr(image, "pts", 0)
