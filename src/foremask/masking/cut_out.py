"""Cuts the subject out of a clip, with a new or a stored mask."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foremask.errors import FieldInvalid, Internal, OutputFailed
from foremask.facts import Clip, Report, Span
from foremask.masking.outputs import (
    check_directory,
    check_output,
    directory_written_whole,
    is_same_file,
    written_whole,
)
from foremask.masking.pipeline import no_progress, run_plan
from foremask.masking.plan import (
    ImageMasker,
    MaskingPlan,
    Refiner,
    ahead_frames,
    checked_clip,
    opened_plan,
    refine_edges,
)
from foremask.masking.report import OnFrame
from foremask.media import png_sequence
from foremask.media.frames import Frame, Orientation
from foremask.media.pictures import BackgroundVideo, is_picture, read_background
from foremask.media.png_sequence import PngSequenceWriter
from foremask.media.presets import KEPT_MASK, check_format, has_memory_for_mask, stand_in
from foremask.media.probe import frame_bytes
from foremask.media.reader import VideoReader
from foremask.media.writer import ColourWriter, MaskWriter
from foremask.options import (
    ALPHA_FORMS,
    MASK_FORMS,
    PNG_FORMS,
    PRESET_OF_SUFFIX,
    Background,
    BackgroundKind,
    Form,
    MaskOptions,
    Matte,
    Quality,
    ResultKind,
    ResultOptions,
    checked_form,
    with_alpha,
)
from foremask.types import DeepRgb, Image, Levels, Rgb
from foremask.vision.matting import matte as tools
from foremask.vision.matting.foreground import Behind, foreground_colours

DrawBackground = Callable[[Frame, Rgb, Levels], Rgb]
"""Returns an upright background for a frame, given its upright picture and mask."""

_WITH_ALPHA: Final = {form.suffix: form for form in ALPHA_FORMS}
CUT_OUT: Final = ResultOptions(ResultKind.CUTOUT)
_SUBJECT: Final = 6  # least level (0 to 255) of the subject, for auto_zoom

type Box = tuple[slice, slice]
"""Rows and columns of a coded picture."""


def form_for(target: Path, result: ResultOptions, preset: Form | None) -> Form:
    """Return the output's form; raise PresetUnsuitable if a cut-out's preset has no alpha."""
    transparent, suffix = result.kind is ResultKind.CUTOUT, target.suffix.lower()
    presets = {ending: Form(each) for ending, each in PRESET_OF_SUFFIX.items()}
    by_suffix = presets | _WITH_ALPHA if transparent else _WITH_ALPHA | presets
    asked = checked_form(target, preset or by_suffix.get(suffix), by_suffix)
    form = asked
    if transparent or asked not in MASK_FORMS:
        form = with_alpha(asked)
    if form is Form.PNG_FILES and not png_sequence.is_pattern(target.name):
        details = f"{target.name} is one picture; name them with a number: frames/%04d.png."
        raise FieldInvalid(details, param="target")
    if form is Form.PNG_FILES:
        png_sequence.check_pattern(target.name)
    return form


def check_target(
    target: Path, result: ResultOptions, preset: Form | None, *sources: Path, replace: bool = False
) -> Form:
    form, behind = form_for(target, result, preset), result.behind
    if behind is not None and behind.file is not None and is_same_file(target, behind.file):
        raise FieldInvalid(
            f"The background is the output: {target} would be lost", param="background"
        )
    if form is Form.PNG_FILES:
        names = png_sequence.numbering(target.name)
        check_directory(target.parent, names.fullmatch, replace=replace)
        if any(is_same_file(source.parent, target.parent) for source in sources):
            raise OutputFailed(f"the output is the input: {target.parent} would be lost")
    else:
        check_output(target, *sources, replace=replace)
    return form


def cut_out(
    source: Path,
    target: Path,
    result: ResultOptions = CUT_OUT,
    options: MaskOptions = MaskOptions(),  # noqa: B008  (frozen)
    preset: Form | None = None,
    on_frame: OnFrame = no_progress,
    masker: ImageMasker | None = None,
    refiner: Refiner | None = None,
    *,
    mask: Path | None = None,
    replace: bool = False,
    span: Span | None = None,
    clip_start_s: float | None = None,
    mask_target: Path | None = None,
) -> Report:
    """Write the subject of ``source`` to ``target``, with alpha or over a background.

    `foremask.cut_out` describes the output and the errors; `pipeline.mask_video` describes other
    parameters. By default, the suffix of ``target`` decides the preset. ``options.preset`` is
    ignored. ``options.matte`` must be unset, since ``result`` has the matte.

    ``mask`` is a mask video of ``source`` to use instead of the network. An excerpt applies to both
    videos. Raises FieldInvalid if the videos differ in size or number of frames. With ``mask`` and
    ``result.auto_zoom``, all frames are cropped to the smallest box that contains the subject.

    With a ``span``, ``source`` is a segment from `segments.cut`, and ``target`` is a part for
    `segments.join`. ``clip_start_s`` is the start of the whole clip. The mask is also written, to
    ``mask_target``, if memory suffices for a second encoder.
    """
    form = check_target(target, result, preset, *filter(None, (source, mask)), replace=replace)
    asked = dataclasses.replace(options, preset=stand_in(form))
    clip = checked_clip(source, asked)
    check_format(clip, form, asked.limits.memory_bytes)
    box = _subject_box(mask, clip, result.matte) if mask and result.auto_zoom else None
    if clip_start_s is None:  # the times of an excerpt count from zero
        clip_start_s = clip.start_s if asked.excerpt is None else 0.0
    behind: dict[int, Behind] = {}
    part = span is not None
    with (
        _opened_plan(source, clip, asked, span, masker, refiner, mask, behind) as plan,
        opened_background(result.behind, clip_start_s) as drawn,
        _opened_writer(target, form, plan, box, result, part=part, replace=replace) as writer,
        _opened_mask(mask_target, form, plan, part=part) as masks,
    ):
        cutter = FrameCutter(result.matte, drawn, behind, deep=form in PNG_FORMS)
        cut_outs = CutOutWriter(writer, cutter, box)
        return run_plan(plan, [cut_outs, *masks], on_frame, result.kind)


@contextmanager
def _opened_writer(
    target: Path,
    form: Form,
    plan: MaskingPlan,
    box: Box | None,
    result: ResultOptions,
    *,
    part: bool,
    replace: bool,
) -> Iterator[ColourWriter | PngSequenceWriter]:
    clip, sound = plan.clip, plan.source if result.keep_sound else None
    if box is not None:
        height, width = (each.stop - each.start for each in box)
        clip = dataclasses.replace(clip, width=width, height=height)
    into_folder = form is Form.PNG_FILES
    written = written_whole(target, replace=replace)
    if into_folder:
        written = directory_written_whole(target.parent)
    with written as made:
        writer: ColourWriter | PngSequenceWriter
        if form in PNG_FORMS:
            pattern = target.name if into_folder else png_sequence.DEFAULT_PATTERN
            writer = PngSequenceWriter(made, clip, pattern, into_zip=not into_folder)
        else:
            excerpt = plan.options.excerpt
            writer = ColourWriter(
                made, form, clip, sound, kind=result.kind, part=part, excerpt=excerpt
            )
        with writer:
            yield writer


@contextmanager
def _opened_mask(
    target: Path | None, form: Form, plan: MaskingPlan, *, part: bool
) -> Iterator[list[MaskWriter]]:
    if target is None or not has_memory_for_mask(plan.clip, form, plan.options.limits.memory_bytes):
        yield []
        return
    with (
        written_whole(target) as whole,
        MaskWriter(whole, KEPT_MASK, plan.clip, plan.source, part=part) as writer,
    ):
        yield [writer]


@contextmanager
def _opened_plan(
    source: Path,
    clip: Clip,
    options: MaskOptions,
    span: Span | None,
    masker: ImageMasker | None,
    refiner: Refiner | None,
    mask: Path | None,
    behind: dict[int, Behind],
) -> Iterator[MaskingPlan]:
    if mask is not None:
        options = dataclasses.replace(options, cache=None)
        with (
            VideoReader(mask, options.excerpt) as masks,
            opened_plan(source, clip, options, span, partial(_stored, masks), _coded) as plan,
        ):
            yield dataclasses.replace(plan, runtime="stored mask", decodes_once=True)
        return
    # With `behind`, estimating colours takes twice as long.
    if refiner is None and options.quality is Quality.BEST:
        ahead = ahead_frames(frame_bytes(clip), options.quality)
        refiner = partial(refine_edges, ahead_frames=ahead, behind=behind)
    with opened_plan(source, clip, options, span, masker, refiner) as plan:
        yield plan


def _stored(masks: Iterable[Frame], images: Iterable[Image]) -> Iterator[Levels]:
    for image, found in zip_longest(images, masks):
        if image is None or found is None:
            longer, shorter = ("mask", "clip") if image is None else ("clip", "mask")
            raise FieldInvalid(
                f"The {longer} goes on after the last frame of the {shorter}:"
                " they do not belong together.",
                param="video",
            )
        if (found.width, found.height) != (image.width, image.height):
            raise FieldInvalid(
                f"The mask is {found.width}x{found.height} and the clip"
                f" {image.width}x{image.height}: they do not belong together.",
                param="video",
            )
        yield np.array(found.orientation.to_upright(found.luma()))  # a copy, to free the frame


def _coded(pairs: Iterable[tuple[Frame, Levels]]) -> Iterator[tuple[Frame, Levels]]:
    for frame, levels in pairs:
        yield frame, np.ascontiguousarray(frame.orientation.to_coded(levels))


def _subject_box(mask: Path, clip: Clip, matte: Matte) -> Box | None:
    rows, columns = np.zeros(0, np.intp), np.zeros(0, np.intp)
    turn = Orientation.from_matrix(clip.matrix)
    with VideoReader(mask) as masks:
        for found in masks:
            upright = found.orientation.to_upright(found.luma())
            levels = np.ascontiguousarray(turn.to_coded(upright))
            shown = tools.adjusted(levels, matte) >= _SUBJECT
            rows = np.union1d(rows, np.flatnonzero(shown.any(axis=1)))
            columns = np.union1d(columns, np.flatnonzero(shown.any(axis=0)))
    if not rows.size:
        return None
    return _even(rows, clip.height), _even(columns, clip.width)


def _even(places: NDArray[np.intp], length: int) -> slice:
    first = int(places[0]) // 2 * 2
    return slice(first, min(length, first + -(-(int(places[-1]) + 1 - first) // 2) * 2))


@dataclass(frozen=True, slots=True)
class FrameCutter:
    """Call `cut` once per frame. With ``deep``, frames over 8 bits give 16-bit colours."""

    matte: Matte
    background: DrawBackground | None
    behind: dict[int, Behind] | None = None
    deep: bool = False

    def cut(self, levels: Levels, frame: Frame) -> tuple[Rgb | DeepRgb, Levels | None]:
        """Return upright colours and their alpha; over a background, the alpha is None."""
        kept = tools.inverted(levels) if self.matte.invert else levels
        picture = frame.rgb(frame.width, frame.height)
        behind = None if self.behind is None else self.behind.pop(frame.index, None)
        colours = foreground_colours(picture, kept, None if self.matte.invert else behind)
        colours = tools.despilled(colours, self.matte.despill)
        shown: Levels | None = tools.adjusted(levels, self.matte)
        share: Levels = np.full_like(levels, 255)
        if self.background is not None and shown is not None:
            drawn = self.background(frame, picture, kept)
            share, colours, shown = shown, tools.over(colours, drawn, shown), None
        if not self.deep or not frame.is_deep:
            return colours, shown
        share = np.where(kept, share, 0)  # where the mask is 0, colours are estimated
        return tools.deepened(colours, picture, frame.deep_rgb(), share), shown


class CutOutWriter:
    def __init__(
        self, writer: ColourWriter | PngSequenceWriter, cutter: FrameCutter, box: Box | None
    ) -> None:
        self._writer, self._cutter = writer, cutter
        self._box = box or (slice(None), slice(None))
        self.finish = writer.finish

    def write(self, mask: Levels, frame: Frame) -> None:
        turn = frame.orientation
        colours, shown = self._cutter.cut(np.ascontiguousarray(turn.to_upright(mask)), frame)
        coded = None if shown is None else turn.to_coded(shown)[self._box]
        self._writer.write(turn.to_coded(colours)[self._box], coded, frame)


@contextmanager
def opened_background(
    background: Background | None, clip_start_s: float
) -> Iterator[DrawBackground | None]:
    if background is None:
        yield None
    elif background.kind is BackgroundKind.COLOUR:
        yield lambda _, picture, __: np.full_like(picture, background.colour)
    elif background.kind is BackgroundKind.BLUR:
        yield lambda _, picture, levels: tools.blurred(picture, levels, background.amount)
    elif background.kind is BackgroundKind.ORIGINAL:
        yield lambda _, picture, __: tools.dimmed(picture, background.amount)
    elif background.file is None:
        raise Internal("a background from a file has no file")
    elif is_picture(background.file):
        fitted = cache(partial(tools.covering, read_background(background.file)))
        yield lambda _, picture, __: fitted(picture.shape[1], picture.shape[0])
    else:
        with closing(BackgroundVideo(background.file)) as video:

            def moving(frame: Frame, picture: Rgb, _: Levels) -> Rgb:
                start_pts = round(Fraction(clip_start_s) / frame.time_base)
                shown = video.at((frame.pts - start_pts) * frame.time_base)
                height, width = picture.shape[:2]
                return tools.covering(shown.rgb(shown.width, shown.height), width, height)

            yield moving
