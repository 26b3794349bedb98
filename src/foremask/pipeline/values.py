"""What passes between the stages of a pipeline, beside frames and images.

`foremask.vision.temporal` has the values of the algorithms: `IncomingFrame` and `Window`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from foremask.media.frames import Frame
from foremask.types import Image
from foremask.vision.temporal.anchors import Window
from foremask.vision.temporal.grids import MaskLevels

type RoughMask = NDArray[Any]
"""An upright mask of any size: `Alpha`, or `Levels` if it comes from a stored mask."""

type ImageMasker = Callable[[Iterable[Image]], Iterator[RoughMask]]
"""Yields a mask for each image, in order; it may read ahead."""


@dataclass(frozen=True, slots=True)
class DecidedWindow:
    """A window, with the masks of its anchors by frame, in order."""

    window: Window
    masks: Mapping[int, MaskLevels]


class MaskedFrame(NamedTuple):
    """A frame of the clip and its mask.

    Before the stage `edges`, the mask is a `RoughMask`. From there on it is `Levels` of the frame's
    own size and coded orientation: the picture as it is stored, before it is turned upright.
    """

    frame: Frame
    mask: NDArray[Any]
