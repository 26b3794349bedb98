"""The neural network's results on a clip, kept for a later run over the same clip.

A run with hints reads the results of an earlier run, and runs the network only on new hinted
frames and crops. Masks are the same with and without a cache (docs/adr/0050).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import DTypeLike

from foremask.types import Image, Levels
from foremask.vision.network.kept_results import COMPLETE, FileStore, NotACacheError, Planes
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.opinions import CropBox, View, ask, infer_part
from foremask.vision.resample import as_levels

ALWAYS: Final = -1.0  # below every uncertainty, so `ask` gives all views (a crop only of a subject)

type Store = dict[str, Planes] | FileStore


class NetworkCache:
    """The network's results on a clip's images; without a store, nothing is kept.

    An array's name is ``group/array``; a group is a frame's number, a window or a hinted image.
    ``unfinished`` has what only a run that was stopped leaves: features of undecided windows.
    """

    def __init__(self, store: Store | None = None, unfinished: Store | None = None) -> None:
        self._store = store
        self.unfinished: Store = {} if unfinished is None else unfinished

    @property
    def is_complete(self) -> bool:
        """Whether the store has all results of a run without hints over the whole clip."""
        return COMPLETE in self

    def finish(self) -> None:
        self.put(COMPLETE, np.ones(1, np.uint8))

    def __contains__(self, name: str) -> bool:
        return self._store is not None and name in self._store

    def get(self, name: str) -> Planes | None:
        return None if self._store is None else self._store.get(name)

    def kept(self, name: str) -> Planes:
        """The array of this name; raises NotACacheError if it is missing."""
        planes = self.get(name)
        if planes is None:
            raise NotACacheError(f"the kept network results lack {name}")
        return planes

    def put(self, name: str, planes: Planes) -> None:
        if self._store is not None:
            self._store.setdefault(name, planes)

    def opinions(self, group: str) -> dict[View, Levels]:
        """The masks of a group; `check_planes` them before use."""
        found = {view: self.get(f"{group}/{view}") for view in View}
        return {view: mask for view, mask in found.items() if mask is not None}

    def keep_opinions(self, group: str, opinions: Mapping[View, Levels]) -> None:
        for view, mask in opinions.items():
            self.put(f"{group}/{view}", mask)


def check_planes(name: str, planes: Planes, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Raise NotACacheError if kept planes are not what a run over the clip would have kept."""
    if planes.shape != shape or planes.dtype != dtype:
        raise NotACacheError(f"the kept network results are damaged at {name}")


def check_opinions(group: str, opinions: Mapping[View, Levels], grid: tuple[int, int]) -> None:
    """`check_planes` of the masks of a group, on ``grid`` (columns, rows)."""
    columns, rows = grid
    for view, mask in opinions.items():
        check_planes(f"{group}/{view}", mask, (rows, columns), np.uint8)


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """Gets masks of an image's views and crops from the cache, else from the network."""

    cache: NetworkCache
    key: str
    network: Network

    def ask(self, image: Image, grid: tuple[int, int]) -> dict[View, Levels]:
        """The network's mask of each view, on ``grid`` (columns, rows)."""
        group = f"hinted {self.key}"
        masks = self.cache.opinions(group)
        check_opinions(group, masks, grid)
        if not masks:
            masks = ask(self.network, image, grid, ALWAYS, ALWAYS)
            self.cache.keep_opinions(group, masks)
        return masks

    def infer_part(self, image: Image, grid: tuple[int, int], box: CropBox, size_px: int) -> Levels:
        """The network's mask of the crop ``box``, in pixels of ``grid`` (rows, columns)."""
        ends = "-".join(f"{end}" for each in box for end in (each.start, each.stop))
        name = f"hinted {self.key}/part {ends}"
        mask = self.cache.get(name)
        if mask is not None:
            down, across = box
            shape = down.stop - down.start, across.stop - across.start
            check_planes(name, mask, shape, np.uint8)
        else:
            mask = as_levels(infer_part(self.network, image, grid, box, size_px))
            self.cache.put(name, mask)
        return mask
