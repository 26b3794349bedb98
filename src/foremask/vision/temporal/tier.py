"""The settings of each quality, and the lengths that all qualities share."""

from dataclasses import dataclass

from foremask.facts import SEGMENT_GRID
from foremask.options import Quality

BLOCK_FRAMES = 12  # anchors are chosen a block at a time; windows consist of whole blocks
SIDE_FRAMES = 3  # pictures that are compared on each side of a possible cut
CONTEXT_FRAMES = SEGMENT_GRID.context_frames - SIDE_FRAMES  # on each side of a window
CLOSE_FRAMES = 4  # anchors at most this far apart are assumed to show the same things


@dataclass(frozen=True, slots=True)
class Tier:
    """The settings of a quality. An anchor is a frame whose mask is propagated to other frames."""

    stride: int  # the largest distance of neighbouring anchors, in frames
    # A frame between two anchors becomes one if their masks differ there by more than this, times
    # the square of the number of anchors a frame so far.
    anchor_price: float
    mirrored_above: float = 0.5  # uncertainty above which the network also gets the mirror image
    cropped_above: float = 1.0  # uncertainty above which it also gets a crop; none is above 1.0
    probed_above: float = 0.05  # replaces ``mirrored_above`` on some frames: see `blocks`
    anchors_per_side: int = 1  # number of anchors before a frame, and after it, that give its mask
    mask_area_px: int = 640 * 360  # area of the grid on which masks are propagated
    flow_area_px: int = 384 * 216  # area of the grid on which optical flow is estimated
    uses_backdrop: bool = False  # estimate outlines with the background that other frames show
    keeps_frames: bool = True  # frames may wait in memory for masks, so that a clip is decoded once


TIERS = {
    Quality.FAST: Tier(stride=12, anchor_price=12.0, probed_above=0.5),
    Quality.BALANCED: Tier(stride=CLOSE_FRAMES, anchor_price=4.0, uses_backdrop=True),
    Quality.BEST: Tier(
        stride=2,
        anchor_price=1.5,
        mirrored_above=0.3,
        cropped_above=0.13,
        anchors_per_side=2,
        mask_area_px=960 * 540,
        flow_area_px=512 * 288,
        uses_backdrop=True,
        keeps_frames=False,
    ),
}
