"""Draws contact sheets: source, mask, overlay and cut-out of several moments of a clip."""

from itertools import islice
from pathlib import Path

from foremask.errors import FieldInvalid, NoFrames
from foremask.masking.outputs import check_output, check_png, written_whole
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.types import Rgb
from foremask.vision.drawing import as_png, row_of, stacked

MOST_MOMENTS = 100
SHEET_CELL_PX = 480  # the longer side of one picture on a sheet


def contact_sheet(
    source: Path, mask: Path, target: Path, moments: int = 5, *, replace: bool = False
) -> None:
    check_output(target, source, mask, replace=replace)
    check_png(target)
    png = draw_sheet(source, mask, moments)
    with written_whole(target, replace=replace) as part:
        part.write_bytes(png)


def draw_sheet(source: Path, mask: Path, moments: int) -> bytes:
    """Draw a row for each moment, as a PNG; moments are evenly spread, and the first is frame 0."""
    if not 1 <= moments <= MOST_MOMENTS:
        raise FieldInvalid(f"{moments} moments are asked for; 1 to {MOST_MOMENTS} can be shown")
    frames = probe(source).expected_frames or 1
    step = max(1, frames // moments)
    rows: list[Rgb] = []
    with VideoReader(source) as source_frames, VideoReader(mask) as masks:
        for frame, shown in islice(
            zip(source_frames, masks, strict=False), 0, step * moments, step
        ):
            scale = SHEET_CELL_PX / max(frame.width, frame.height)
            size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
            rows.append(row_of(frame.rgb(*size), shown.rgb(*size)))
    if not rows:
        raise NoFrames(f"{source.name} and {mask.name} have no frame in common")
    return as_png(stacked(rows))
