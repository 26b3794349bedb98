"""Writes frames and masks of a clip in the folder layouts of GPU matting tools."""

from pathlib import Path
from typing import Final

import numpy as np
from msgspec import structs

from foremask.facts import Clip, Report
from foremask.masking.outputs import directory_written_whole
from foremask.masking.write_masked import write_masked
from foremask.media.frames import Frame
from foremask.media.png_sequence import PngSequenceWriter, numbered
from foremask.options import Form
from foremask.pipeline.build import Masking
from foremask.pipeline.progress import OnProgress
from foremask.types import Levels
from foremask.vision.drawing import as_png

_FIRST_IS_EMPTY: Final = (
    "nothing is in the mask of the first frame, and the tool follows only what is there:"
    " begin where the subject is in the picture (--start)"
)


# File names of frames, hard masks and soft masks; {clip} is the name of the output folder. A mask's
# name without a number means that only the first mask is written. Hard masks are binary, since the
# tools treat any grey as subject. Numbers are padded with zeros: the tools sort names as text.
_LAYOUTS: Final = {
    Form.CORRIDORKEY: ("Input/%06d.png", "VideoMamaMaskHint/%06d.png", "AlphaHint/%06d.png"),
    Form.MATANYONE: ("video/{clip}/%06d.png", "mask/{clip}.png"),
    Form.VIDEOMAMA: ("image/{clip}/%06d.png", "mask/{clip}/%06d.png"),
}


def write_folder(masking: Masking, target: Path, on_progress: OnProgress) -> Report:
    """Write upright 8-bit PNGs, numbered from 1, to the folder ``target`` for a matting tool.

    Its ``frames.csv`` has the times of the frames. docs/recipes.md has each tool's steps.
    """
    form = masking.spec.form
    with directory_written_whole(target) as part:
        writer = _HandOffWriter(part, masking.clip, _LAYOUTS[form], target.absolute().name)
        report = write_masked(masking, [writer], on_progress)
    if form is Form.MATANYONE and writer.first_is_empty:
        return structs.replace(report, warnings=(*report.warnings, _FIRST_IS_EMPTY))
    return report


class _HandOffWriter:
    def __init__(self, folder: Path, clip: Clip, layout: tuple[str, ...], name: str) -> None:
        safe = name.replace("%", "_")  # a % would begin a frame number
        frames, *self._masks = (each.format(clip=safe) for each in layout)
        for each in (frames, *self._masks):
            (folder / each).parent.mkdir(parents=True)
        self._pictures = PngSequenceWriter(folder, clip, frames, into_zip=False)
        self.finish = self._pictures.finish
        self._written = 0
        self.first_is_empty = False

    def write(self, mask: Levels, frame: Frame) -> None:
        turn = frame.orientation
        self._pictures.write(turn.to_coded(frame.rgb(frame.width, frame.height)), None, frame)
        self._written += 1
        soft = np.ascontiguousarray(turn.to_upright(mask))
        hard = np.where(soft >= 128, np.uint8(255), np.uint8(0))
        if self._written == 1:
            self.first_is_empty = not hard.any()
        for pattern, levels in zip(self._masks, (hard, soft), strict=False):
            name = numbered(pattern, self._written)
            if self._written == 1 or name != pattern:
                self._pictures.add(name, as_png(levels))
