"""Opinions: the network's answers to several versions of one image, each with other mistakes."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from foremask.types import Alpha, Image, Levels
from foremask.vision.image import MirroredImage
from foremask.vision.network.session import Features, Network
from foremask.vision.resample import as_levels, resized

NEVER = 1.0  # above every uncertainty


class View(StrEnum):
    """A version of the picture that the network gets."""

    STRETCHED = "stretched"  # to a square
    MIRRORED = "mirrored"  # left and right exchanged, stretched


@dataclass(frozen=True, slots=True)
class Opinions:
    """A mask on the tier's grid for each view of one image, and the features of the first."""

    masks: dict[View, Levels]
    features: Features


def ask(network: Network, image: Image, grid: tuple[int, int], mirrored_above: float) -> Opinions:
    """Infer the image, and its mirror image where the `uncertainty` is above ``mirrored_above``.

    Masks are on ``grid``: columns, rows.
    """
    output = network.infer(image)
    masks = {View.STRETCHED: resized(output.alpha, *grid)}
    if uncertainty(output.alpha) > mirrored_above:
        alpha = network.infer(MirroredImage(image)).alpha
        masks[View.MIRRORED] = resized(np.ascontiguousarray(alpha[:, ::-1]), *grid)
    return Opinions({view: as_levels(mask) for view, mask in masks.items()}, output.features)


def uncertainty(alpha: Alpha) -> float:
    """How undecided a mask is, relative to its area: 0 for a binary mask, 1 at most."""
    undecided = np.minimum(alpha, 1 - alpha).sum()
    return float(undecided / (alpha.sum() + 0.001 * alpha.size))
