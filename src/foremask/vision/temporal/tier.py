"""The settings of each quality, and the grids that follow from a picture's size."""

from dataclasses import dataclass

from foremask.options import Quality
from foremask.types import Image

TRACK_AREA_PX = 427 * 240  # grids are given by their area, and have the picture's aspect


@dataclass(frozen=True, slots=True)
class Tier:
    """The settings of a quality.

    Anchors are at most ``stride`` frames apart; between two whose masks disagree by more than
    ``disagreement`` another is inferred, up to ``anchors_per_frame`` on average. The mirror image
    of an anchor with an uncertainty above ``mirrored_above`` is inferred too, and a crop of one
    above ``cropped_above``. ``probed_above`` replaces ``mirrored_above`` on multiples of
    `blocks.PROBED_FRAMES`, and while the mirror image finds other things than the image. Masks are
    propagated on a grid of ``mask_area_px``, along flows on one of ``flow_area_px``, from
    ``anchors_per_side`` anchors on each side. With ``uses_backdrop``, outlines use the background
    behind them. With ``keeps_frames``, decoded frames may wait in memory for their masks.
    """

    stride: int
    disagreement: float
    anchors_per_frame: float
    mirrored_above: float = 0.3
    cropped_above: float = 0.13
    probed_above: float = 0.05
    anchors_per_side: int = 1
    mask_area_px: int = 640 * 360
    flow_area_px: int = 384 * 216
    uses_backdrop: bool = False
    keeps_frames: bool = True


TIERS = {
    Quality.FAST: Tier(
        stride=12,
        disagreement=0.2,
        anchors_per_frame=0.17,
        mirrored_above=0.5,
        cropped_above=1.0,  # never
        probed_above=0.5,
    ),
    Quality.BALANCED: Tier(stride=4, disagreement=0.4, anchors_per_frame=0.28, uses_backdrop=True),
    Quality.BEST: Tier(
        stride=2,
        disagreement=0.1,
        anchors_per_frame=0.55,
        anchors_per_side=2,
        mask_area_px=960 * 540,
        flow_area_px=512 * 288,
        uses_backdrop=True,
        keeps_frames=False,
    ),
}


def tracks_grid(columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows of the tracks' grid, that of regions and things, for a mask's grid."""
    return _reduced(columns, rows, TRACK_AREA_PX)


def grid_of(image: Image, area_px: int) -> tuple[int, int]:
    """Columns and rows of about ``area_px`` in the image's aspect; never more than it has."""
    return _reduced(image.width, image.height, area_px)


def _reduced(columns: int, rows: int, area_px: int) -> tuple[int, int]:
    scale = min(1.0, (area_px / (rows * columns)) ** 0.5)
    return max(1, round(columns * scale)), max(1, round(rows * scale))
