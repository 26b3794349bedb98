"""Returns the planes of a decoded frame as arrays, and resizes planes."""

from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

type Plane = NDArray[Any]
"""(H, W) or (H, W, channels), uint8 or uint16."""


def plane_of(frame: av.VideoFrame, index: int) -> Plane:
    """A view of one plane, without the padding of its rows; writing to it changes the frame."""
    plane = frame.planes[index]
    samples = np.frombuffer(plane, np.uint8).reshape(plane.height, abs(plane.line_size))
    if plane.line_size < 0:
        samples = samples[::-1]
    component = frame.format.components[0]
    if component.bits > 8:
        return samples.view(np.uint16)[:, : plane.width]
    return samples[:, : plane.width]


def resize(plane: Plane, width: int, height: int) -> Plane:
    """Shrink ``plane`` without aliasing, or enlarge it by linear interpolation."""
    # To shrink, scale linearly to a power of two times the target size, then average blocks. This
    # is ten times as fast as OpenCV's INTER_AREA at a fractional ratio.
    rows, columns = plane.shape[:2]
    if (columns, rows) == (width, height):
        return plane
    ratio = min(columns / width, rows / height)
    block = 1
    while ratio >= 2 * block:
        block *= 2
    resized: NDArray[Any] = plane
    if (columns, rows) != (width * block, height * block):
        resized = cv2.resize(plane, (width * block, height * block), interpolation=cv2.INTER_LINEAR)
    if block > 1:
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_AREA)
    return resized
