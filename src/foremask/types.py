"""The array shapes and value ranges of frames and masks inside the pipeline."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

type Rgb = NDArray[np.uint8]
"""(H, W, 3) uint8, red first, in full range; the primaries are those of BT.709 and sRGB."""

type Rgba = NDArray[np.uint8]
"""(H, W, 4) uint8: `Rgb`, then straight alpha; 255 is opaque."""

type DeepRgb = NDArray[np.uint16]
"""(H, W, 3) uint16: as `Rgb`, but 65535 is white."""

type Luma = NDArray[np.uint8]
"""(H, W) uint8, full range: 0 is black and 255 is white."""

type Alpha = NDArray[np.float32]
"""(H, W) float32 in [0, 1]; 1 is foreground."""

type Levels = NDArray[np.uint8]
"""(H, W) uint8: a mask in 256 levels; 0 is background, 255 is foreground."""

type Flow = NDArray[np.float32]
"""(H, W, 2) float32: each pixel's displacement to another frame, in pixels, x then y."""


class Image(Protocol):
    """An upright picture of any pixel format; ``width`` and ``height`` are in pixels."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def rgb(self, width: int, height: int) -> Rgb:
        """The whole picture, stretched to ``width`` by ``height``."""
        ...
