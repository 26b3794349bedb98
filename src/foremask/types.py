"""The array shapes and value ranges of frames and masks inside the pipeline."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

type Rgb = NDArray[np.uint8]
"""(H, W, 3) uint8, red first, full range, BT.709 or sRGB primaries."""

type Rgba = NDArray[np.uint8]
"""(H, W, 4) uint8: as `Rgb`, then straight alpha, 255 is opaque."""

type DeepRgb = NDArray[np.uint16]
"""As `Rgb`, with 16 bits: 65535 is white."""

type Luma = NDArray[np.uint8]
"""(H, W) uint8, full range: 0 is black and 255 is white."""

type Alpha = NDArray[np.float32]
"""(H, W) float32 in [0, 1]; 1 is foreground."""

type Levels = NDArray[np.uint8]
"""(H, W) uint8, a mask as it is written: 0 is background and 255 is foreground."""

type Flow = NDArray[np.float32]
"""(H, W, 2) float32, x then y: the displacement of each pixel to the other frame, in pixels."""


class Image(Protocol):
    """An upright picture that can be resampled to any size, however it is stored."""

    @property
    def width(self) -> int:
        """Columns of the upright picture."""
        ...

    @property
    def height(self) -> int:
        """Rows of the upright picture."""
        ...

    def rgb(self, width: int, height: int) -> Rgb:
        """The whole image resampled to ``width`` by ``height``, whatever its aspect."""
        ...
