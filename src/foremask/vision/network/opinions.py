"""Runs the network on an image, its mirror image and a crop of it (docs/adr/0050)."""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum

import cv2
import numpy as np

from foremask.types import Alpha, Image, Levels
from foremask.vision.image import Cropped, MirroredImage
from foremask.vision.network.network_protocol import Features, Network
from foremask.vision.resample import as_levels, resized

CLOSER_PX = 768  # The network's input size for a crop. Masks are worse with 512: docs/adr/0050.
MARGIN_SHARE = 0.4  # Margin of a crop, relative to the larger of the subject's width and height.
MARGIN_OF_WIDTH = 0.02  # This share of the picture's width is added to the margin.
AGREED_SHARE = 0.4  # If less of the first mask is in the second, the crop is round one mask.
LEAST_SUBJECT_SHARE = 0.0003  # A subject with a smaller share of the picture gets no crop.

type CropBox = tuple[slice, slice]
"""Rows and columns of a mask's grid."""


def span_round(middle: float, length: float, most: int) -> slice:
    """The pixels of a side of a crop, round its middle; moved inside a picture of ``most`` pixels.

    A fractional length is rounded up.
    """
    length = min(length, most)
    first = min(max(0.0, middle - length / 2), most - length)
    return slice(int(first), min(most, math.ceil(first + length)))


class View(StrEnum):
    STRETCHED = "stretched"  # The image is stretched to the network's input.
    MIRRORED = "mirrored"  # The image is mirrored, then stretched.
    CROPPED = "cropped"  # Outside the crop, the mask is that of STRETCHED.


def ask(
    network: Network,
    image: Image,
    grid: tuple[int, int],
    mirrored_above: float,
    cropped_above: float,
    on_features: Callable[[Features], None] = lambda _: None,
) -> dict[View, Levels]:
    """Run the network on the image and, if the mask is uncertain, on its mirror image and a crop.

    ``mirrored_above`` and ``cropped_above`` are limits of `uncertainty`. ``grid`` is the size of
    the masks: columns, rows. `cropped_box` chooses the crop. ``on_features`` gets the encoder
    features of the image before the network runs again, to free their 27 MB early.
    """
    output = network.infer(image)
    undecided = uncertainty(output.alpha)
    stretched = as_levels(resized(output.alpha, *grid))
    on_features(output.features)
    del output
    masks = {View.STRETCHED: stretched}
    if undecided > mirrored_above:
        alpha = network.infer(MirroredImage(image)).alpha
        masks[View.MIRRORED] = as_levels(resized(np.ascontiguousarray(alpha[:, ::-1]), *grid))
    box = cropped_box(masks)
    if box is not None and undecided > cropped_above:
        masks[View.CROPPED] = _over(stretched, network, image, box)
    return masks


def cropped_box(opinions: Mapping[View, Levels]) -> CropBox | None:
    stretched = opinions[View.STRETCHED]
    return box_round_subject(stretched, opinions.get(View.MIRRORED, stretched))


def box_round_subject(stretched: Levels, second: Levels) -> CropBox | None:
    """Return the box, with a margin, of the masks' overlap or, if this is small, of one mask."""
    rows, columns = stretched.shape
    least = LEAST_SUBJECT_SHARE * stretched.size
    ours = stretched > 127
    theirs = second > 127
    both = ours & theirs
    if both.sum() > max(least, AGREED_SHARE * ours.sum()):
        picked = both
    else:
        picked = ours if ours.sum() > least else theirs
    if picked.sum() <= least:
        return None
    left, top, width, height = cv2.boundingRect(picked.astype(np.uint8))
    margin = MARGIN_SHARE * max(width, height) + MARGIN_OF_WIDTH * columns
    across = slice(max(0, round(left - margin)), min(columns, round(left + width + margin)))
    down = slice(max(0, round(top - margin)), min(rows, round(top + height + margin)))
    return down, across


def _over(mask: Levels, network: Network, image: Image, box: CropBox) -> Levels:
    joined = mask.copy()
    joined[box] = as_levels(infer_part(network, image, mask.shape, box, CLOSER_PX))
    return joined


def infer_part(
    network: Network, image: Image, grid: tuple[int, ...], box: CropBox, size_px: int
) -> Alpha:
    """Run the network on the crop ``box`` of ``image``; return a mask of the size of ``box``.

    ``grid`` is the image's size (rows, columns) in the unit of ``box``. The network's input is
    ``size_px`` by ``size_px``.
    """
    rows, columns = grid
    down, across = box
    part = across.start / columns, down.start / rows, across.stop / columns, down.stop / rows
    alpha = network.infer(Cropped(image, part), (size_px, size_px)).alpha
    return resized(alpha, across.stop - across.start, down.stop - down.start)


def uncertainty(alpha: Alpha) -> float:
    """Return how far ``alpha`` is from a binary mask, relative to its sum: 0 (binary) to 1."""
    undecided = np.minimum(alpha, 1 - alpha).sum()
    return float(undecided / (alpha.sum() + 0.001 * alpha.size))


def disagreement(one: Alpha, other: Alpha) -> float:
    """Return the difference of two masks relative to their union, from 0 (equal) to 1."""
    either = np.maximum(one, other).sum() + 0.001 * one.size
    return float(np.abs(one - other).sum() / either)
