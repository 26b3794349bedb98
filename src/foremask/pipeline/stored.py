"""Takes a stored mask of a clip instead of asking the network."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Final

import numpy as np

from foremask.errors import FieldInvalid
from foremask.media.frames import Frame
from foremask.types import Image, Levels

STORED_MASK: Final = "stored mask"  # the `Report.runtime` of a result without a network


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
