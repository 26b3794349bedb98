"""Reads a stored mask of a clip, to use instead of the network, or to write it again."""

import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foremask.facts import Clip, Report
from foremask.masking.outputs import written_whole
from foremask.masking.report import report_of
from foremask.media.frames import Orientation
from foremask.media.presets import check_preset
from foremask.media.reader import VideoReader
from foremask.media.writer import MaskWriter
from foremask.options import Excerpt, Files, JobSpec, Limits, Matte
from foremask.pipeline.progress import OnProgress, Progress, Statistics
from foremask.pipeline.stored import STORED_MASK
from foremask.vision.matting.matte import adjusted

_SAMPLED: Final = 8  # of a mask written again, the report's means are of each 8th row and column
_SUBJECT: Final = 6  # least level (0 to 255) of the subject, for `subject_crop`

type Crop = tuple[slice, slice]
"""Rows and columns of a coded picture."""


def write_again(
    spec: JobSpec, files: Files, mask: Path, on_progress: OnProgress, limits: Limits
) -> Report:
    """Write ``mask`` in the form and with the edges of ``spec``.

    Its sound is kept, except in a gif. Raises CorruptVideo or PresetUnsuitable.
    """
    started_s = time.thread_time()
    statistics = Statistics()
    with VideoReader(mask) as reader:
        check_preset(reader.clip, spec.form, limits.memory_bytes)
        with (
            written_whole(files.target, replace=files.replace) as part,
            MaskWriter(part, spec.form, reader.clip, mask) as writer,
        ):
            for frame in reader:
                levels = adjusted(frame.luma(), spec.matte)
                statistics.note(levels[::_SAMPLED, ::_SAMPLED].copy(), frame.time_s)
                writer.write(levels, frame)
                on_progress(Progress(frame.index + 1, reader.clip.expected_frames))
            written = writer.finish(reader.end)
        cpu_s = {"encode": time.thread_time() - started_s}
        return report_of(reader.clip, STORED_MASK, statistics, written, (), cpu_s, spec.kind)


def subject_crop(
    mask: Path, clip: Clip, matte: Matte, excerpt: Excerpt | None = None
) -> Crop | None:
    """Return the smallest crop that contains the subject in all frames; None if there is none.

    The frames are those of the mask's ``excerpt``, if one is given.
    """
    rows = np.zeros(0, np.intp)
    columns = np.zeros(0, np.intp)
    turn = Orientation.from_matrix(clip.matrix)
    with VideoReader(mask, excerpt) as masks:
        for found in masks:
            upright = found.orientation.to_upright(found.luma())
            levels = np.ascontiguousarray(turn.to_coded(upright))
            is_subject = adjusted(levels, matte) >= _SUBJECT
            rows = np.union1d(rows, np.flatnonzero(is_subject.any(axis=1)))
            columns = np.union1d(columns, np.flatnonzero(is_subject.any(axis=0)))
    if not rows.size:
        return None
    return _even(rows, clip.height), _even(columns, clip.width)


def _even(pixels: NDArray[np.intp], length: int) -> slice:
    first = int(pixels[0]) // 2 * 2
    return slice(first, min(length, first + -(-(int(pixels[-1]) + 1 - first) // 2) * 2))
