"""A contact sheet: source, mask, overlay and cut-out at several moments of a clip, in one PNG."""

from itertools import islice
from pathlib import Path

from foremask.errors import NoFrames
from foremask.pictures import Rgb
from foremask.video.probe import probe
from foremask.video.reader import VideoReader
from foremask.vision.drawing import as_png, row_of, stacked

CELL_PX = 480  # the longer side of one picture on the sheet


def contact_sheet(source: Path, mask: Path, target: Path, moments: int = 5) -> None:
    """Write the PNG ``target``; the moments are spread evenly over the clip, the first frame among them.

    Raises what `probe` and `VideoReader` raise for either video, and NoFrames when they have none in common.
    """
    frames = probe(source).expected_frames or 1
    step = max(1, frames // moments)
    rows: list[Rgb] = []
    with VideoReader(source) as pictures, VideoReader(mask) as masks:
        for picture, shown in islice(zip(pictures, masks, strict=False), 0, step * moments, step):
            scale = CELL_PX / max(picture.width, picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            rows.append(row_of(picture.rgb(*size), shown.rgb(*size)))
    if not rows:
        raise NoFrames(f"{source.name} and {mask.name} have no frame in common")
    target.write_bytes(as_png(stacked(rows)))
