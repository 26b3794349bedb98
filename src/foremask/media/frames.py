"""One decoded frame, as the network and the edge refinement use it."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from foremask.media import colour
from foremask.media.orientation import Orientation
from foremask.types import DeepRgb, Luma, Rgb


@dataclass(slots=True, eq=False)
class Frame:
    """One frame of a clip, and an upright `Image` of it.

    ``index`` counts from 0; ``pts`` and ``duration`` are in ``time_base``. Nothing is converted
    before a method asks for it.
    """

    decoded: av.VideoFrame
    index: int
    pts: int
    duration: int | None
    time_base: Fraction
    orientation: Orientation

    @property
    def time_s(self) -> float:
        """The time of the frame in seconds, for messages."""
        return float(self.pts * self.time_base)

    @property
    def width(self) -> int:
        """Width of the upright picture, in pixels."""
        coded = self.decoded
        return coded.height if self.orientation.transposed else coded.width

    @property
    def height(self) -> int:
        """Height of the upright picture, in pixels."""
        coded = self.decoded
        return coded.width if self.orientation.transposed else coded.height

    def rgb(self, width: int, height: int) -> Rgb:
        """The upright picture at ``width`` by ``height``; HDR is tone-mapped to BT.709.

        Planes are resized before the colours are converted, so a large frame costs little.
        """
        coded = (height, width) if self.orientation.transposed else (width, height)
        picture = colour.to_rgb(self.decoded, *coded)
        return np.ascontiguousarray(self.orientation.to_upright(picture))

    @property
    def is_deep(self) -> bool:
        return colour.bits_of(self.decoded) > 8

    def deep_rgb(self) -> DeepRgb:
        """As `rgb`, at full size and with 16 bits per channel."""
        picture = colour.to_deep_rgb(self.decoded)
        return np.ascontiguousarray(self.orientation.to_upright(picture))

    def luma(self) -> Luma:
        """Full-size luma in the coded orientation; may be a view of the decoder's own memory."""
        return colour.to_luma(self.decoded)


def frame_of(pixels: Rgb, index: int, *, exact: bool = False) -> Frame:
    """Make a frame from an RGB array, converted to 4:2:0, as most decoded frames are.

    It is tagged full range, and its pts is ``index``. If ``exact``, it stays RGB, which takes
    twice the memory.
    """
    drawn = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
    if exact:
        return Frame(drawn, index, index, 1, Fraction(1), Orientation())
    full = colour.FULL_RANGE
    decoded = drawn.reformat(
        format="yuv420p", dst_colorspace=colour.BT709, src_color_range=full, dst_color_range=full
    )
    decoded.color_range, decoded.colorspace = full, colour.BT709
    return Frame(decoded, index, index, 1, Fraction(1), Orientation())
