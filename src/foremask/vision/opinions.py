"""Ask the network about one picture in several ways: each answer is an opinion that makes other mistakes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from foremask.pictures import Alpha, Levels, Picture
from foremask.vision.grids import as_levels, resized
from foremask.vision.session import Features, InputSize, Network
from foremask.vision.still import Box, Cropped, Mirrored

FULL_PX, CROP_PX = 1024, 512  # smaller inputs lose: docs/adr/0063
LETTERBOX_STEP_PX = 64  # the network halves its input five times, and its resizes want even sizes
CROP_MARGIN_SHARE = 0.2  # of the larger side of the subject's box, on each side
LEAST_SUBJECT_SHARE = 0.0002  # of the picture: nothing smaller is cropped to


class View(StrEnum):
    """How a picture is shown to the network."""

    STRETCHED = "stretched"  # to a square
    MIRRORED = "mirrored"  # left and right exchanged, stretched
    LETTERBOX = "letterbox"  # aspect kept
    CROP = "crop"  # the subject and a margin, stretched


@dataclass(frozen=True, slots=True)
class Opinions:
    """What the network said of one picture: a mask on the tier's grid for each view, and the features of the first."""

    masks: dict[View, Levels]
    features: Features


def ask(
    network: Network,
    picture: Picture,
    grid: tuple[int, int],
    views: Sequence[View],
    if_unsure: Sequence[View],
    unsure: Callable[[Alpha], bool],
) -> Opinions:
    """The opinions of ``views``, and of ``if_unsure`` too where the first is; all on ``grid`` (columns, rows).

    The first view is always `View.STRETCHED`. Left out are
    a crop where there is nothing to crop to, and a letterbox where the network's input cannot change.
    """
    seen = network.see(picture)
    features = tuple(each.copy() for each in seen.features)  # the next inference overwrites them
    masks = {View.STRETCHED: resized(seen.alpha, *grid)}
    wanted = [*views, *if_unsure] if unsure(seen.alpha) else views
    for view in wanted:
        if view is View.MIRRORED:
            alpha = network.see(Mirrored(picture)).alpha
            masks[view] = resized(np.ascontiguousarray(alpha[:, ::-1]), *grid)
        elif view is View.LETTERBOX and network.any_size:
            masks[view] = resized(network.see(picture, letterbox(picture)).alpha, *grid)
        elif view is View.CROP:
            crop = _crop(network, picture, masks)
            if crop is not None:
                masks[view] = crop
    return Opinions({view: as_levels(mask) for view, mask in masks.items()}, features)


def letterbox(picture: Picture) -> InputSize:
    """The input size nearest to the picture's aspect whose larger side is that of the square."""
    scale = FULL_PX / max(picture.width, picture.height)

    def side(length: int) -> int:
        return max(LETTERBOX_STEP_PX, LETTERBOX_STEP_PX * round(length * scale / LETTERBOX_STEP_PX))

    return side(picture.width), side(picture.height)


def _crop(network: Network, picture: Picture, masks: dict[View, Alpha]) -> Alpha | None:
    """The network on the box of what the views so far agree on; their mean outside it."""
    mean = np.mean(list(masks.values()), axis=0, dtype=np.float32)
    rows, columns = mean.shape
    picked = (mean > 0.5).astype(np.uint8)
    if picked.sum() < LEAST_SUBJECT_SHARE * picked.size:
        return None
    left, top, width, height = cv2.boundingRect(picked)
    margin = round(CROP_MARGIN_SHARE * max(width, height)) + columns // 50
    box = Box(
        max(0, left - margin) / columns,
        max(0, top - margin) / rows,
        min(columns, left + width + margin) / columns,
        min(rows, top + height + margin) / rows,
    )
    alpha = network.see(Cropped(picture, box), (CROP_PX, CROP_PX)).alpha
    down = slice(round(box.top * rows), round(box.bottom * rows))
    across = slice(round(box.left * columns), round(box.right * columns))
    result = mean.copy()
    result[down, across] = resized(alpha, across.stop - across.start, down.stop - down.start)
    return result
