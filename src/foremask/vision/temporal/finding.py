"""Finds again on an anchor what a mask shows, by a network that gets the mask; keeps answers."""

import hashlib
from collections.abc import Sequence

import numpy as np

from foremask.types import Image
from foremask.vision.network.finder import Click, MaskFinder, find_again, find_thing
from foremask.vision.network.network_cache import NetworkCache, check_planes
from foremask.vision.resample import as_levels
from foremask.vision.temporal.grids import Grid, MaskLevels, RegionPlane


def found_on(
    image: Image,
    key: str,
    mask: RegionPlane,
    grid: Grid,
    finder: MaskFinder,
    cache: NetworkCache,
    clicks: Sequence[Click] = (),
) -> MaskLevels:
    """The mask, on ``grid``, of what ``mask`` shows in the image.

    It comes from the cache if an earlier run has asked the same of this image, whose name there
    is ``key``.
    """
    asked = hashlib.blake2b(np.ascontiguousarray(mask), digest_size=16)
    asked.update(repr([(each.x, each.y, each.inside) for each in clicks]).encode())
    name = f"found {key}/{asked.hexdigest()}"
    found = cache.get(name)
    if found is None:
        found = as_levels(find_again(finder, image, grid.resized(mask), clicks))
        cache.put(name, found)
    check_planes(name, found, grid.shape, np.uint8)
    return found


def thing_on(
    image: Image, key: str, click: Click, grid: Grid, finder: MaskFinder, cache: NetworkCache
) -> MaskLevels:
    """The mask, on ``grid``, of the thing that a click in the image is on; kept as `found_on`."""
    name = f"thing {key}/{click.x},{click.y}"
    found = cache.get(name)
    if found is None:
        found = as_levels(find_thing(finder, image, click, grid.shape))
        cache.put(name, found)
    check_planes(name, found, grid.shape, np.uint8)
    return found
