"""The grids of cells on which the planes of a picture are computed.

Planes of one grid are compared cell by cell, so a plane's type names its grid. A picture that has
fewer pixels than a grid has that grid in its own size.

| grid | size | what is on it |
|---|---|---|
| mask | `Tier.mask_area_px` | the network's answers, and the masks |
| flow | `Tier.flow_area_px` | small pictures and the flow between them |
| region | `REGION_AREA_PX` | regions, things, places and the decision |
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow, Image, Levels, Luma, Rgb
from foremask.vision import resample
from foremask.vision.temporal.flow import resize_flow
from foremask.vision.temporal.tier import Tier

REGION_AREA_PX = 427 * 240  # half the width and height of a picture of 854 x 480

type MaskLevels = Levels
"""A mask on the mask grid."""
type MaskAlpha = Alpha
"""A mask on the mask grid, from 0 to 1."""
type FlowRgb = Rgb
"""A picture on the flow grid."""
type RegionRgb = Rgb
"""A picture on the region grid."""
type RegionPlane = NDArray[np.float32]
"""A number for each cell of the region grid, such as alpha, a logit or log odds."""


class Grid(NamedTuple):
    """The size of a plane, in cells."""

    columns: int
    rows: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    def resized(self, plane: Alpha | Luma) -> Alpha:
        return resample.resized(plane, self.columns, self.rows)

    def alpha(self, levels: Levels) -> Alpha:
        return resample.alpha_on(levels, self.columns, self.rows)

    def flow(self, flow: Flow) -> Flow:
        return resize_flow(flow, self.columns, self.rows)

    def rgb(self, image: Image) -> Rgb:
        return image.rgb(self.columns, self.rows)


@dataclass(frozen=True, slots=True)
class Grids:
    """The grids of one clip's pictures in one quality."""

    mask: Grid
    flow: Grid
    region: Grid

    @classmethod
    def of(cls, image: Image, tier: Tier) -> "Grids":
        mask = grid_of(image, tier.mask_area_px)
        flow = grid_of(image, tier.flow_area_px)
        return cls(mask, flow, region_grid(mask))


def size_of(plane: NDArray[np.generic]) -> Grid:
    """The grid that a plane is on."""
    return Grid(plane.shape[1], plane.shape[0])


def grid_of(image: Image, area_px: int) -> Grid:
    """The grid of about ``area_px`` with the image's aspect, and at most its size."""
    return reduced(Grid(image.width, image.height), area_px)


def region_grid(mask_grid: Grid) -> Grid:
    return reduced(mask_grid, REGION_AREA_PX)


def reduced(grid: Grid, area_px: int) -> Grid:
    scale = min(1.0, (area_px / (grid.rows * grid.columns)) ** 0.5)
    return Grid(max(1, round(grid.columns * scale)), max(1, round(grid.rows * scale)))
