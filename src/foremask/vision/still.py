"""Pictures that are no frames of a clip: an array, and another picture in the mirror."""

from dataclasses import dataclass

import cv2
import numpy as np

from foremask.pictures import Picture, Rgb


@dataclass(frozen=True, slots=True)
class Still:
    """Pixels with the face of a `Picture`."""

    pixels: Rgb

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    def rgb(self, width: int, height: int) -> Rgb:
        """Resampled by area when it shrinks and linearly when it grows."""
        if (width, height) == (self.width, self.height):
            return self.pixels
        shrinks = width <= self.width and height <= self.height
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(self.pixels, (width, height), interpolation=how), np.uint8)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Another picture with left and right exchanged."""

    picture: Picture

    @property
    def width(self) -> int:
        """Columns."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Rows."""
        return self.picture.height

    def rgb(self, width: int, height: int) -> Rgb:
        """As the other one resamples."""
        return np.ascontiguousarray(self.picture.rgb(width, height)[:, ::-1])
