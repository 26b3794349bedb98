"""The shapes and ranges that frames and masks have between the steps."""

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rgb: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, red first, full range, BT.709 or sRGB primaries."""

Luma: TypeAlias = NDArray[np.uint8]
"""(H, W) uint8, full range: 0 is black and 255 is white."""

Alpha: TypeAlias = NDArray[np.float32]
"""(H, W) float32 in [0, 1]; 1 is foreground."""

Levels: TypeAlias = NDArray[np.uint8]
"""(H, W) uint8, a mask as it is written: 0 is background and 255 is foreground."""

Flow: TypeAlias = NDArray[np.float32]
"""(H, W, 2) float32 in pixels of its own grid: x, then y, of where each pixel is in the other frame."""


class Picture(Protocol):
    """A frame as the vision sees it: upright, at any size, however it is stored.

    ``width`` and ``height`` are those of the upright picture, in pixels.
    """

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...

    def rgb(self, width: int, height: int) -> Rgb:
        """The whole picture resampled to ``width`` by ``height``; the aspect is the caller's business."""
        ...
