"""Implementations of `Image`: an array, a mirrored image and a crop."""

from dataclasses import dataclass

import cv2
import numpy as np

from foremask.types import Image, Rgb

type UnitBox = tuple[float, float, float, float]
"""Left, top, right and bottom, as fractions (0 to 1) of an image's width and height."""


@dataclass(frozen=True, slots=True)
class ArrayImage:
    pixels: Rgb

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def rgb(self, width: int, height: int) -> Rgb:
        if (width, height) == (self.width, self.height):
            return self.pixels
        shrinks = width <= self.width and height <= self.height
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(self.pixels, (width, height), interpolation=how), np.uint8)


@dataclass(frozen=True, slots=True)
class MirroredImage:
    image: Image

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def rgb(self, width: int, height: int) -> Rgb:
        return np.ascontiguousarray(self.image.rgb(width, height)[:, ::-1])


@dataclass(frozen=True, slots=True)
class Cropped:
    image: Image
    box: UnitBox

    @property
    def width(self) -> int:
        left, _, right, _ = self.box
        return max(1, round(self.image.width * (right - left)))

    @property
    def height(self) -> int:
        _, top, _, bottom = self.box
        return max(1, round(self.image.height * (bottom - top)))

    def rgb(self, width: int, height: int) -> Rgb:
        # Shrink the whole image before the crop, but enlarge only the crop.
        scale = min(1.0, max(width / self.width, height / self.height))
        columns = max(1, round(self.image.width * scale))
        rows = max(1, round(self.image.height * scale))
        left = int(self.box[0] * columns)
        top = int(self.box[1] * rows)
        right = max(left + 1, round(self.box[2] * columns))
        bottom = max(top + 1, round(self.box[3] * rows))
        part = self.image.rgb(columns, rows)[top:bottom, left:right]
        return ArrayImage(np.ascontiguousarray(part)).rgb(width, height)
