"""Opinions: the network's answers to several versions of one image, each with other mistakes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from foremask.types import Alpha, Image, Levels
from foremask.vision.image import Box, Cropped, MirroredImage
from foremask.vision.network.session import Features, InputSize, Network
from foremask.vision.resample import as_levels, resized

FULL_PX, CROP_PX = 1024, 512  # smaller inputs lose: docs/adr/0063
LETTERBOX_STEP_PX = 64  # the network halves its input five times, and its resizes want even sizes
CROP_MARGIN_SHARE = 0.2  # of the larger side of the subject's box, on each side
MIN_SUBJECT_SHARE = 0.0002  # of the picture: nothing smaller is cropped to


class View(StrEnum):
    """How a picture is shown to the network."""

    STRETCHED = "stretched"  # to a square
    MIRRORED = "mirrored"  # left and right exchanged, stretched
    LETTERBOX = "letterbox"  # aspect kept
    CROP = "crop"  # the subject and a margin, stretched


@dataclass(frozen=True, slots=True)
class Opinions:
    """A mask on the tier's grid for each view of one image, and the features of the first."""

    masks: dict[View, Levels]
    features: Features


def ask(
    network: Network,
    image: Image,
    grid: tuple[int, int],
    views: Sequence[View],
    if_uncertain: Sequence[View],
    uncertain: Callable[[Alpha], bool],
) -> Opinions:
    """Infer ``views``, and ``if_uncertain`` too where the first is; masks are on ``grid``.

    ``grid`` is columns, rows. The first view is always `View.STRETCHED`. A crop is left out where
    the mask is empty or fills the image, a letterbox where the network's input size is fixed.
    """
    output = network.infer(image)
    masks = {View.STRETCHED: resized(output.alpha, *grid)}
    wanted = [*views, *if_uncertain] if uncertain(output.alpha) else views
    for view in wanted:
        if view is View.MIRRORED:
            alpha = network.infer(MirroredImage(image)).alpha
            masks[view] = resized(np.ascontiguousarray(alpha[:, ::-1]), *grid)
        elif view is View.LETTERBOX and network.any_size:
            masks[view] = resized(network.infer(image, letterbox(image)).alpha, *grid)
        elif view is View.CROP:
            crop = _crop(network, image, masks)
            if crop is not None:
                masks[view] = crop
    return Opinions({view: as_levels(mask) for view, mask in masks.items()}, output.features)


def letterbox(image: Image) -> InputSize:
    """The input size nearest to the picture's aspect whose larger side is that of the square."""
    scale = FULL_PX / max(image.width, image.height)

    def side(length: int) -> int:
        return max(LETTERBOX_STEP_PX, LETTERBOX_STEP_PX * round(length * scale / LETTERBOX_STEP_PX))

    return side(image.width), side(image.height)


def _crop(network: Network, image: Image, masks: dict[View, Alpha]) -> Alpha | None:
    """The network on the box of what the views so far agree on; their mean outside it."""
    mean = np.mean(list(masks.values()), axis=0, dtype=np.float32)
    rows, columns = mean.shape
    picked = (mean > 0.5).astype(np.uint8)
    if picked.sum() < MIN_SUBJECT_SHARE * picked.size:
        return None
    left, top, width, height = cv2.boundingRect(picked)
    margin = round(CROP_MARGIN_SHARE * max(width, height)) + columns // 50
    box = Box(
        max(0, left - margin) / columns,
        max(0, top - margin) / rows,
        min(columns, left + width + margin) / columns,
        min(rows, top + height + margin) / rows,
    )
    alpha = network.infer(Cropped(image, box), (CROP_PX, CROP_PX)).alpha
    down = slice(round(box.top * rows), round(box.bottom * rows))
    across = slice(round(box.left * columns), round(box.right * columns))
    result = mean.copy()
    result[down, across] = resized(alpha, across.stop - across.start, down.stop - down.start)
    return result
