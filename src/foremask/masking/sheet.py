"""Draws contact sheets: source, mask, overlay and cut-out at several times of a clip."""

from itertools import chain, islice, repeat
from pathlib import Path
from typing import Final

import numpy as np

from foremask.errors import ClipRefused, FieldInvalid
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.types import Rgb
from foremask.vision.drawing import as_png, captioned, row_of, stacked

MOST_MOMENTS: Final = 100
SHEET_CELL_PX: Final = 480  # longer side of each picture


def draw_sheet(source: Path, mask: Path, moments: int) -> bytes:
    """Draw a PNG with a row for each moment, with its frame's number and time.

    Moments are evenly spaced from frame 0 on. Times count from the clip's first frame. Where the
    mask has ended, the row's mask is black.
    """
    if not 1 <= moments <= MOST_MOMENTS:
        raise FieldInvalid(f"{moments} moments are asked for; 1 to {MOST_MOMENTS} can be shown")
    clip = probe(source)
    step = max(1, (clip.expected_frames or 1) // moments)
    rows: list[Rgb] = []
    masked_until: int | None = None
    with VideoReader(source) as source_frames, VideoReader(mask) as mask_frames:
        masks = chain(mask_frames, repeat(None))
        pairs = zip(source_frames, masks, strict=False)
        for frame, shown in islice(pairs, 0, step * moments, step):
            scale = SHEET_CELL_PX / max(frame.width, frame.height)
            width = max(1, round(frame.width * scale))
            height = max(1, round(frame.height * scale))
            caption = f"frame {frame.index}, {frame.time_s - clip.start_s:.2f} s"
            if shown is None:
                caption += ": the mask has ended"
                drawn = np.zeros((height, width, 3), np.uint8)
            else:
                drawn = shown.rgb(width, height)
                masked_until = frame.index
            rows.append(captioned(row_of(frame.rgb(width, height), drawn), caption))
    if masked_until is None:
        raise ClipRefused(
            f"{source.name} and {mask.name} have no frame in common", reason="no_frames"
        )
    return as_png(stacked(rows))


def warnings_of(source: Path, mask: Path) -> tuple[str, ...]:
    """Say if the mask ends before its clip."""
    clip = probe(source)
    made = probe(mask)
    if clip.duration_s is None or made.duration_s is None:
        return ()
    if clip.duration_s - made.duration_s < 1.5 / (clip.fps or 1):
        return ()
    return (f"the mask has {made.duration_s:.2f} s, and the clip has {clip.duration_s:.2f} s",)
