"""Source, mask and cut-out side by side, for people to judge by: a video, or one PNG."""

import dataclasses
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from foremask.errors import FieldInvalid, NoFrames
from foremask.masking.outputs import check_output, check_png, written_whole
from foremask.media.colour_writer import ColourWriter
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.options import Preset
from foremask.types import Rgb
from foremask.vision.drawing import as_png, cut_out, row_of, stacked
from foremask.vision.resample import resized

CELL_PX = 640  # the longer side of one of the three pictures of a video, at most
PRESETS = {".mp4": Preset.MP4_H264, ".mov": Preset.MOV_H265, ".mkv": Preset.MKV_H264}
MOST_MOMENTS = 100
SHEET_CELL_PX = 480  # the longer side of one picture on a sheet


def compare(
    source: Path,
    mask: Path,
    target: Path,
    on_frame: Callable[[int, int | None], None],
    *,
    replace: bool = False,
) -> None:
    """Write ``target``, an mp4, mov or mkv, with the frames, times and sound of ``source``.

    Raises what `VideoReader` raises for either video, NoFrames when they have none in common,
    FieldInvalid for another ending, and OutputFailed as `check_output`.
    """
    suffix = target.suffix.lower()
    if suffix not in PRESETS:
        raise FieldInvalid(f"{target.name!r} ends in none of {', '.join(PRESETS)}")
    check_output(target, source, mask, replace=replace)
    with (
        VideoReader(source) as frames,
        VideoReader(mask) as masks,
        written_whole(target, replace=replace) as part,
    ):
        clip = frames.clip
        turned = frames.orientation.transposed
        width, height = (clip.height, clip.width) if turned else (clip.width, clip.height)
        scale = min(1.0, CELL_PX / max(width, height))
        cell = _even(width * scale), _even(height * scale)
        done = 0
        row = dataclasses.replace(
            clip, width=3 * cell[0], height=cell[1], matrix=None, sample_aspect_ratio=(1, 1)
        )
        with ColourWriter(part, PRESETS[suffix], row, source) as writer:
            for frame, shown in zip(frames, masks, strict=False):
                writer.write(_row(frame.rgb(*cell), shown.rgb(*cell)), None, frame)
                done += 1
                on_frame(done, clip.expected_frames)
            if not done:
                raise NoFrames(f"{source.name} and {mask.name} have no frame in common")
            writer.finish(None, frames.time_base)


def contact_sheet(
    source: Path, mask: Path, target: Path, moments: int = 5, *, replace: bool = False
) -> None:
    """Write the PNG ``target``, as `draw_sheet` draws it.

    Raises what that raises, and OutputFailed where ``target`` is one of the videos, or exists and
    ``replace`` is not set.
    """
    check_output(target, source, mask, replace=replace)
    check_png(target)
    png = draw_sheet(source, mask, moments)
    with written_whole(target, replace=replace) as part:
        part.write_bytes(png)


def draw_sheet(source: Path, mask: Path, moments: int) -> bytes:
    """A PNG of moments that are spread evenly and begin with the first frame.

    Raises what `probe` and `VideoReader` raise for either video, NoFrames where they have none in
    common, and FieldInvalid for more than 100 moments.
    """
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


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _row(rgb: Rgb, mask: Rgb) -> Rgb:
    alpha = resized(mask[..., 1], rgb.shape[1], rgb.shape[0]) / np.float32(255)
    return np.hstack([rgb, mask, cut_out(rgb, alpha)])
