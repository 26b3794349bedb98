"""Decoded frames and their orientation."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from foremask.machine.stopwatch import DECODE, stage
from foremask.media import colour
from foremask.types import DeepRgb, Luma, Rgb


@dataclass(frozen=True, slots=True)
class Orientation:
    """The steps that make a coded picture upright: transpose it, flip it in x, flip it in y."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: tuple[int, ...] | None) -> "Orientation":
        """Read FFmpeg's display matrix; round its angle to a multiple of 90 degrees."""
        if matrix is None:
            return cls()
        a, b, _, c, d = matrix[:5]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def mirrored(self) -> bool:
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def rotation(self) -> int:
        """Clockwise rotation in degrees; if `mirrored`, a flip in x precedes it."""
        match self.transposed, self.flipped_x, self.flipped_y:
            case True, True, _:
                return 90
            case True, False, _:
                return 270
            case _, _, True:
                return 180
            case _:
                return 0

    def to_upright(self, coded: NDArray[Any]) -> NDArray[Any]:
        if self.transposed:
            coded = coded.swapaxes(0, 1)
        return self._flipped(coded)

    def to_coded(self, upright: NDArray[Any]) -> NDArray[Any]:
        coded = self._flipped(upright)
        if self.transposed:
            coded = coded.swapaxes(0, 1)
        return coded

    def _flipped(self, picture: NDArray[Any]) -> NDArray[Any]:
        if self.flipped_y:
            picture = picture[::-1]
        if self.flipped_x:
            picture = picture[:, ::-1]
        return picture


@dataclass(slots=True, eq=False)
class Frame:
    """A decoded frame as an upright `Image`; ``index`` counts from 0.

    ``moved`` is how many ticks ``pts`` is later than the file's timestamp, which does not rise.
    """

    decoded: av.VideoFrame
    index: int
    pts: int
    duration: int | None
    time_base: Fraction
    orientation: Orientation
    moved: int = 0

    @property
    def time_s(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def unmoved_s(self) -> float:
        """The time that the file has, which may not rise."""
        return float((self.pts - self.moved) * self.time_base)

    @property
    def width(self) -> int:
        if self.orientation.transposed:
            return self.decoded.height
        return self.decoded.width

    @property
    def height(self) -> int:
        if self.orientation.transposed:
            return self.decoded.width
        return self.decoded.height

    @stage(DECODE)
    def rgb(self, width: int, height: int) -> Rgb:
        if self.orientation.transposed:
            picture = colour.to_rgb(self.decoded, height, width)
        else:
            picture = colour.to_rgb(self.decoded, width, height)
        return np.ascontiguousarray(self.orientation.to_upright(picture))

    @property
    def is_deep(self) -> bool:
        return colour.bits_of(self.decoded) > 8

    def deep_rgb(self) -> DeepRgb:
        picture = colour.to_deep_rgb(self.decoded)
        return np.ascontiguousarray(self.orientation.to_upright(picture))

    @stage(DECODE)
    def luma(self) -> Luma:
        """Return full-size luma in coded orientation; it may be a view of the decoder's memory."""
        return colour.to_luma(self.decoded)


def frame_of(pixels: Rgb, index: int, *, exact: bool = False) -> Frame:
    """Convert an RGB array to a frame whose pts is ``index``.

    The frame is full-range 4:2:0. With ``exact``, it is RGB, which takes twice the memory.
    """
    drawn = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
    if exact:
        return Frame(drawn, index, index, 1, Fraction(1), Orientation())
    full = colour.FULL_RANGE
    decoded = drawn.reformat(
        format="yuv420p", dst_colorspace=colour.BT709, src_color_range=full, dst_color_range=full
    )
    decoded.color_range = full
    decoded.colorspace = colour.BT709
    return Frame(decoded, index, index, 1, Fraction(1), Orientation())
