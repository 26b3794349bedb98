"""A contact sheet: source, mask, overlay and cut-out at several moments of a clip, in one PNG."""

from itertools import islice
from pathlib import Path

from foremask.errors import NoFrames
from foremask.masking.outputs import check_output, written_whole
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.types import Rgb
from foremask.vision.drawing import as_png, row_of, stacked

CELL_PX = 480  # the longer side of one picture on the sheet


def contact_sheet(
    source: Path, mask: Path, target: Path, moments: int = 5, *, replace: bool = False
) -> None:
    """Write the PNG ``target``; the moments are spread evenly and begin with the first frame.

    Raises what `probe` and `VideoReader` raise for either video, NoFrames where they have none in
    common, and OutputFailed where ``target`` is one of them, or exists and ``replace`` is not set.
    """
    check_output(target, source, mask, replace=replace)
    frames = probe(source).expected_frames or 1
    step = max(1, frames // moments)
    rows: list[Rgb] = []
    with VideoReader(source) as source_frames, VideoReader(mask) as masks:
        for frame, shown in islice(
            zip(source_frames, masks, strict=False), 0, step * moments, step
        ):
            scale = CELL_PX / max(frame.width, frame.height)
            size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
            rows.append(row_of(frame.rgb(*size), shown.rgb(*size)))
    if not rows:
        raise NoFrames(f"{source.name} and {mask.name} have no frame in common")
    with written_whole(target, replace=replace) as part:
        part.write_bytes(as_png(stacked(rows)))
