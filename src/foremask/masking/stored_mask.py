"""Reads a stored mask of a clip, to use instead of the network."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foremask.errors import FieldInvalid
from foremask.facts import Clip
from foremask.media.frames import Frame, Orientation
from foremask.media.reader import VideoReader
from foremask.options import Matte
from foremask.types import Image, Levels
from foremask.vision.matting.matte import adjusted

_SUBJECT: Final = 6  # least level (0 to 255) of the subject, for `subject_crop`

type Crop = tuple[slice, slice]
"""Rows and columns of a coded picture."""


def stored_masks(masks: Iterable[Frame], images: Iterable[Image]) -> Iterator[Levels]:
    """Yield the upright mask of each image. Raises FieldInvalid if sizes or numbers differ."""
    for image, found in zip_longest(images, masks):
        if image is None:
            raise _do_not_belong("The mask goes on after the last frame of the clip")
        if found is None:
            raise _do_not_belong("The clip goes on after the last frame of the mask")
        if (found.width, found.height) != (image.width, image.height):
            raise _do_not_belong(
                f"The mask is {found.width}x{found.height} and the clip"
                f" {image.width}x{image.height}"
            )
        yield np.array(found.orientation.to_upright(found.luma()))  # a copy, to free the frame


def _do_not_belong(why: str) -> FieldInvalid:
    return FieldInvalid(f"{why}: they do not belong together.", param="video")


def coded_masks(pairs: Iterable[tuple[Frame, Levels]]) -> Iterator[tuple[Frame, Levels]]:
    for frame, levels in pairs:
        yield frame, np.ascontiguousarray(frame.orientation.to_coded(levels))


def subject_crop(mask: Path, clip: Clip, matte: Matte) -> Crop | None:
    """Return the smallest crop that contains the subject in all frames; None if there is none."""
    rows = np.zeros(0, np.intp)
    columns = np.zeros(0, np.intp)
    turn = Orientation.from_matrix(clip.matrix)
    with VideoReader(mask) as masks:
        for found in masks:
            upright = found.orientation.to_upright(found.luma())
            levels = np.ascontiguousarray(turn.to_coded(upright))
            is_subject = adjusted(levels, matte) >= _SUBJECT
            rows = np.union1d(rows, np.flatnonzero(is_subject.any(axis=1)))
            columns = np.union1d(columns, np.flatnonzero(is_subject.any(axis=0)))
    if not rows.size:
        return None
    return _even(rows, clip.height), _even(columns, clip.width)


def _even(pixels: NDArray[np.intp], length: int) -> slice:
    first = int(pixels[0]) // 2 * 2
    return slice(first, min(length, first + -(-(int(pixels[-1]) + 1 - first) // 2) * 2))
