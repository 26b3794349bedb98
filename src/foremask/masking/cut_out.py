"""Writes the subject of a clip, with alpha or over a background."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np

from foremask.facts import Report
from foremask.masking.outputs import directory_written_whole, written_whole
from foremask.masking.stored_mask import Crop, subject_crop
from foremask.masking.write_masked import write_masked
from foremask.media import png_sequence
from foremask.media.frames import Frame
from foremask.media.pictures import BackgroundVideo, is_picture, read_background
from foremask.media.png_sequence import PngSequenceWriter
from foremask.media.presets import KEPT_MASK, has_memory_for_mask
from foremask.media.writer import ColourWriter, MaskWriter
from foremask.options import PNG_FORMS, Background, Files, Form, JobSpec, Matte
from foremask.pipeline.build import Masking
from foremask.pipeline.progress import OnProgress
from foremask.types import DeepRgb, Levels, Rgb
from foremask.vision.matting import matte as tools
from foremask.vision.matting.foreground import Behind, foreground_colours

DrawBackground = Callable[[Frame, Rgb, Levels], Rgb]
"""Returns an upright background for a frame, given its upright picture and mask."""


def write_cut_out(
    masking: Masking, files: Files, on_progress: OnProgress, clip_start_s: float | None = None
) -> Report:
    """Write the cut-out or composite and, if ``files`` has a ``mask_target``, its mask.

    With a stored mask and ``auto_zoom``, all frames are cropped to the smallest box that contains
    the subject. A span is written as a part for `segments.join`; ``clip_start_s`` is then the first
    timestamp of the whole clip.
    """
    spec = masking.spec
    crop = None
    if files.mask is not None and spec.auto_zoom:
        part = None if files.mask_is_excerpt else spec.excerpt
        crop = subject_crop(files.mask, masking.clip, spec.matte, part)
    if clip_start_s is None:
        clip_start_s = masking.clip.start_s
        if spec.excerpt is not None:  # its times count from zero
            clip_start_s = 0.0
    with (
        opened_background(background_of(spec, files), clip_start_s) as drawn,
        _opened_writer(masking, files, crop) as writer,
        _opened_mask(masking, files.mask_target) as masks,
    ):
        cutter = FrameCutter(spec.matte, drawn, masking.behind, deep=spec.form in PNG_FORMS)
        return write_masked(masking, [CutOutWriter(writer, cutter, crop), *masks], on_progress)


def background_of(spec: JobSpec, files: Files) -> Background | None:
    if files.background is not None:
        return Background(file=files.background, fit=spec.background_fit)
    if spec.background is None:
        return None
    return Background.parse(spec.background)


@contextmanager
def _opened_writer(
    masking: Masking, files: Files, crop: Crop | None
) -> Iterator[ColourWriter | PngSequenceWriter]:
    spec = masking.spec
    clip = masking.clip
    if crop is not None:
        height, width = (each.stop - each.start for each in crop)
        clip = dataclasses.replace(clip, width=width, height=height)
    into_folder = spec.form is Form.PNG_FILES
    written = written_whole(files.target, replace=files.replace)
    if into_folder:
        written = directory_written_whole(files.target.parent)
    with written as made:
        writer: ColourWriter | PngSequenceWriter
        if spec.form in PNG_FORMS:
            pattern = png_sequence.DEFAULT_PATTERN
            if into_folder:
                pattern = files.target.name
            writer = PngSequenceWriter(
                made, clip, pattern, files.first_number, into_zip=not into_folder
            )
        else:
            writer = ColourWriter(
                made,
                spec.form,
                clip,
                masking.source if spec.keep_sound else None,
                kind=spec.kind,
                part=masking.span is not None,
                excerpt=spec.excerpt,
            )
        with writer:
            yield writer


@contextmanager
def _opened_mask(masking: Masking, target: Path | None) -> Iterator[list[MaskWriter]]:
    memory_bytes = masking.limits.memory_bytes
    if target is None or not has_memory_for_mask(masking.clip, masking.spec.form, memory_bytes):
        yield []
        return
    with (
        written_whole(target) as whole,
        MaskWriter(
            whole,
            KEPT_MASK,
            masking.clip,
            masking.source,
            part=masking.span is not None,
            excerpt=masking.spec.excerpt,
        ) as writer,
    ):
        yield [writer]


@dataclass(frozen=True, slots=True)
class FrameCutter:
    """Call `cut` once per frame. With ``deep``, frames over 8 bits give 16-bit colours."""

    matte: Matte
    background: DrawBackground | None
    behind: dict[int, Behind] | None = None
    deep: bool = False

    def cut(self, levels: Levels, frame: Frame) -> tuple[Rgb | DeepRgb, Levels | None]:
        """Return upright colours and their alpha; over a background, the alpha is None."""
        kept = levels
        if self.matte.invert:
            kept = tools.inverted(levels)
        picture = frame.rgb(frame.width, frame.height)
        behind = None
        if self.behind is not None:
            behind = self.behind.pop(frame.index, None)
        if self.matte.invert:
            behind = None
        colours = foreground_colours(picture, kept, behind)
        colours = tools.despilled(colours, self.matte.despill)
        shown: Levels | None = tools.adjusted(levels, self.matte)
        share: Levels = np.full_like(levels, 255)
        if self.background is not None and shown is not None:
            drawn = self.background(frame, picture, kept)
            colours = tools.over(colours, drawn, shown)
            share = shown
            shown = None
        if not self.deep or not frame.is_deep:
            return colours, shown
        share = np.where(kept, share, 0)  # where the mask is 0, colours are estimated
        return tools.deepened(colours, picture, frame.deep_rgb(), share), shown


class CutOutWriter:
    def __init__(
        self, writer: ColourWriter | PngSequenceWriter, cutter: FrameCutter, crop: Crop | None
    ) -> None:
        self._writer = writer
        self._cutter = cutter
        self._crop = crop or (slice(None), slice(None))
        self.finish = writer.finish

    def write(self, mask: Levels, frame: Frame) -> None:
        turn = frame.orientation
        colours, shown = self._cutter.cut(np.ascontiguousarray(turn.to_upright(mask)), frame)
        coded = None
        if shown is not None:
            coded = turn.to_coded(shown)[self._crop]
        self._writer.write(turn.to_coded(colours)[self._crop], coded, frame)


@contextmanager
def opened_background(
    background: Background | None, clip_start_s: float
) -> Iterator[DrawBackground | None]:
    if background is None:
        yield None
    elif background.colour is not None:
        colour = background.colour
        yield lambda _, picture, __: np.full_like(picture, colour)
    elif background.blur_px is not None:
        radius_px = background.blur_px
        yield lambda _, picture, levels: tools.blurred(picture, levels, radius_px)
    elif background.file is None:
        yield lambda _, picture, __: tools.dimmed(picture, background.brightness)
    elif is_picture(background.file):
        fitted = cache(partial(tools.fitted, read_background(background.file), background.fit))
        yield lambda _, picture, __: fitted(picture.shape[1], picture.shape[0])
    else:
        with closing(BackgroundVideo(background.file)) as video:

            def moving(frame: Frame, picture: Rgb, _: Levels) -> Rgb:
                start_pts = round(Fraction(clip_start_s) / frame.time_base)
                shown = video.at((frame.pts - start_pts) * frame.time_base)
                height, width = picture.shape[:2]
                behind = shown.rgb(shown.width, shown.height)
                return tools.fitted(behind, background.fit, width, height)

            yield moving
