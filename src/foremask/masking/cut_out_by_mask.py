"""Cuts the subject out of a clip by a mask that there is already, without the network."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace as with_fields
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foremask.errors import FieldInvalid
from foremask.facts import Clip, Report, Written
from foremask.masking.cut_out import (
    CutOutWriter,
    FrameCutter,
    PictureSink,
    check_target,
    first_shown_s,
    named,
    opened_background,
    opened_target,
    picture_writer,
)
from foremask.masking.outputs import check_output
from foremask.masking.pipeline import no_progress
from foremask.masking.report import OnFrame, Progress, Statistics, report_of
from foremask.media.colour_presets import check_format
from foremask.media.frames import Frame
from foremask.media.png_sequence import PngSequenceWriter
from foremask.media.reader import VideoReader
from foremask.options import AlphaFormat, CutOutOptions, Excerpt, Matte
from foremask.types import DeepRgb, Levels, Rgb
from foremask.vision.matting.matte import adjusted

_SUBJECT: Final = 6  # of 255: fainter pixels are not zoomed in on

type Box = tuple[slice, slice]
"""Rows and columns of a coded picture."""


def cut_out_by_mask(
    source: Path,
    mask: Path,
    target: Path,
    options: CutOutOptions,
    on_frame: OnFrame = no_progress,
    *,
    auto_zoom: bool = False,
    replace: bool = False,
) -> Report:
    """As `cut_out`, but by ``mask``, a mask video of ``source`` in any preset.

    ``auto_zoom`` crops all frames alike, as closely as the subject allows. Raises FieldInvalid
    where ``mask`` has other frames than ``source``. An excerpt is that of both.
    """
    form = check_target(source, target, options, replace=replace)
    if form is not AlphaFormat.PNG_FILES:
        check_output(target, mask, replace=True)
    excerpt = options.mask.excerpt
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(source, excerpt))
        clip = reader.clip
        check_format(clip, form, options.mask.limits.memory_bytes)
        box = _subject_box(source, mask, options.mask.matte) if auto_zoom else None
        start_s = first_shown_s(clip, excerpt)
        drawn = stack.enter_context(opened_background(options.background, start_s))
        part = stack.enter_context(opened_target(target, form, replace=replace))
        sound = source if options.keep_sound else None
        shown = clip if box is None else _cropped(clip, box)
        writer = stack.enter_context(
            picture_writer(part, target.name, form, shown, sound, excerpt=excerpt)
        )
        cutter = CutOutWriter(
            writer if box is None else _CroppingWriter(writer, box),
            FrameCutter(options.mask.matte, drawn, deep=isinstance(writer, PngSequenceWriter)),
        )
        statistics = Statistics()
        for frame, levels in _masked_frames(reader, mask, excerpt):
            statistics.note(levels * np.float32(1 / 255), frame.time_s)
            cutter.write(levels, frame)
            on_frame(Progress(frame.index + 1, clip.expected_frames, "encoding"))
        written = cutter.finish(reader.end_pts, reader.time_base)
    report = report_of(clip, "stored mask", statistics, written, reader.warnings, {})
    return named(report, options.background, clip)


def _masked_frames(
    reader: VideoReader, mask: Path, excerpt: Excerpt | None = None
) -> Iterator[tuple[Frame, Levels]]:
    with VideoReader(mask, excerpt) as masks:
        is_upright = masks.clip.container == "gif"
        for frame, found in zip_longest(reader, masks):
            if frame is None or found is None:
                longer, shorter = ("mask", "clip") if frame is None else ("clip", "mask")
                raise FieldInvalid(
                    f"The {longer} goes on after the last frame of the {shorter}:"
                    " they do not belong together.",
                    param="video",
                )
            levels = found.luma()
            if is_upright:
                levels = np.ascontiguousarray(frame.orientation.to_coded(levels))
            size = frame.decoded.width, frame.decoded.height
            if levels.shape[::-1] != size:
                raise FieldInvalid(
                    f"The mask is {levels.shape[1]}x{levels.shape[0]} and the clip"
                    f" {size[0]}x{size[1]}: they do not belong together.",
                    param="video",
                )
            yield frame, levels


def _subject_box(source: Path, mask: Path, matte: Matte) -> Box | None:
    """The smallest box, with even numbers, that holds the subject on all frames.

    None without one.
    """
    rows, columns = np.zeros(0, np.intp), np.zeros(0, np.intp)
    height = width = 0
    with VideoReader(source) as reader:
        for _, levels in _masked_frames(reader, mask):
            shown = adjusted(levels, matte) >= _SUBJECT
            rows = np.union1d(rows, np.flatnonzero(shown.any(axis=1)))
            columns = np.union1d(columns, np.flatnonzero(shown.any(axis=0)))
            height, width = levels.shape
    if not rows.size:
        return None
    return _even(rows, height), _even(columns, width)


def _even(places: NDArray[np.intp], length: int) -> slice:
    first = int(places[0]) // 2 * 2
    return slice(first, min(length, first + -(-(int(places[-1]) + 1 - first) // 2) * 2))


def _cropped(clip: Clip, box: Box) -> Clip:
    rows, columns = box
    return with_fields(clip, width=columns.stop - columns.start, height=rows.stop - rows.start)


class _CroppingWriter:
    """Passes a part of each picture to another writer."""

    def __init__(self, writer: PictureSink, box: Box) -> None:
        self._writer, self._box = writer, box

    def write(self, colours: Rgb | DeepRgb, levels: Levels | None, frame: Frame) -> None:
        cropped = None if levels is None else levels[self._box]
        self._writer.write(colours[self._box], cropped, frame)

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written:
        return self._writer.finish(end_pts, time_base)
