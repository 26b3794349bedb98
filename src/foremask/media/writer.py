"""Encodes masks into a video that keeps every promise made about its source."""

from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import av
import cv2
import numpy as np

from foremask.errors import Internal
from foremask.facts import Clip, Written
from foremask.media.colour import BT709, FULL_RANGE, LIMITED_RANGE
from foremask.media.frames import Frame
from foremask.media.planes import plane_of
from foremask.media.presets import RECIPES
from foremask.media.video_writer import VideoWriter
from foremask.options import Excerpt, Preset
from foremask.types import Levels

_TO_LIMITED: Final = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_TO_LIMITED_10: Final = np.rint(64 + np.arange(256) * (876 / 255)).astype(np.uint16)


class MaskWriter:
    """Writes one mask video; as a context manager it leaves no half-written file behind.

    ``source`` is where the sound comes from, that of an ``excerpt`` from zero on. A ``part`` is
    silent, to be joined with others.
    Masks are handed over in the coded orientation, with the frames that they belong to.
    """

    def __init__(
        self,
        target: Path,
        preset: Preset,
        clip: Clip,
        source: Path | None,
        *,
        part: bool = False,
        excerpt: Excerpt | None = None,
    ) -> None:
        self._video = VideoWriter(target, RECIPES[preset], clip, source, part=part, excerpt=excerpt)
        self._canvas = _blank(*self._video.coded, self._video.format)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._video.close()

    def write(self, mask: Levels, frame: Frame) -> None:
        """Encode the mask of ``frame``, at the frame's time."""
        self._video.put(self._drawn(mask), frame)

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written:
        """Write the rest.

        ``end_pts``, in ``time_base``, is the end of the last frame (None: as usual).
        """
        return self._video.finish(end_pts, time_base)

    def _drawn(self, mask: Levels) -> av.VideoFrame:
        turned = np.ascontiguousarray(self._video.turn.to_upright(mask))
        height, width = turned.shape
        if (width, height) != self._video.size:
            raise Internal(f"a mask of {width}x{height} came for a video of {self._video.size}")
        right, bottom = self._video.coded[0] - width, self._video.coded[1] - height
        if right or bottom:
            border = cv2.BORDER_REPLICATE
            turned = np.asarray(cv2.copyMakeBorder(turned, 0, bottom, 0, right, border), np.uint8)
        picture = self._canvas
        picture.make_writable()  # a copy, where the encoder still looks at the last one
        luma = plane_of(picture, 0)
        if self._video.format == "gray":
            luma[:] = turned
        else:
            cv2.LUT(
                turned,
                _TO_LIMITED_10 if picture.format.components[0].bits > 8 else _TO_LIMITED,
                dst=luma,
            )
        return picture


def _blank(width: int, height: int, pixel_format: str) -> av.VideoFrame:
    """A picture without colour, whose brightness is yet to be drawn."""
    picture = av.VideoFrame(width, height, pixel_format)
    if pixel_format == "gray":
        picture.color_range = FULL_RANGE
        return picture
    for index in (1, 2):
        plane_of(picture, index).fill(512 if picture.format.components[0].bits > 8 else 128)
    picture.color_range = LIMITED_RANGE
    picture.colorspace = picture.color_trc = picture.color_primaries = BT709
    return picture
