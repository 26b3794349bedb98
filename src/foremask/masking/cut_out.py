"""Cuts the subject out of a clip: onto nothing, or onto another background."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from foremask.errors import FieldInvalid, Internal
from foremask.facts import Clip, Report, Span, Written
from foremask.masking.network_caching import opened_cache
from foremask.masking.outputs import (
    check_directory,
    check_output,
    directory_written_whole,
    is_same_file,
    written_whole,
)
from foremask.masking.pipeline import FrameWriter, no_progress, run_plan
from foremask.masking.plan import ImageMasker, Refiner, ahead_frames, checked_clip, plan_masking
from foremask.masking.report import OnFrame
from foremask.media import png_sequence
from foremask.media.background_files import background_video, is_picture, read_background
from foremask.media.colour_presets import (
    KEPT_MASK,
    check_format,
    has_memory_for_mask,
    stand_in,
)
from foremask.media.colour_writer import ColourWriter
from foremask.media.frames import Frame
from foremask.media.png_sequence import PngSequenceWriter
from foremask.media.probe import frame_bytes
from foremask.media.writer import MaskWriter
from foremask.options import (
    NO_MATTE,
    AlphaFormat,
    Background,
    BackgroundKind,
    CutOutOptions,
    Excerpt,
    Form,
    MaskOptions,
    Matte,
    Preset,
    Quality,
    ResultKind,
    with_alpha,
)
from foremask.types import Alpha, DeepRgb, Levels, Rgb
from foremask.vision.matting import matte as tools
from foremask.vision.matting.backdrop import with_backdrops
from foremask.vision.matting.composite import (
    blurred_background,
    covering,
    deepened,
    dimmed,
    over,
)
from foremask.vision.matting.edges import refine
from foremask.vision.matting.foreground import Behind, behind_edges, foreground_colours
from foremask.vision.matting.outline import resolve_outline

DrawBackground = Callable[[Frame, Rgb, Levels], Rgb]
"""The background of an upright frame, from its own picture and alpha."""

_BY_SUFFIX: Final[dict[str, tuple[Form, Form]]] = {
    # what a name ends in: transparent, over a background
    ".webm": (AlphaFormat.WEBM_VP9, Preset.WEBM_VP9),
    ".mkv": (AlphaFormat.MKV_VP9, Preset.MKV_H264),
    ".mov": (AlphaFormat.MOV_PRORESKS, Preset.MOV_H265),
    ".gif": (AlphaFormat.GIF, Preset.GIF),
    ".apng": (AlphaFormat.APNG, AlphaFormat.APNG),
    ".webp": (AlphaFormat.WEBP, AlphaFormat.WEBP),
    ".zip": (AlphaFormat.PNG_ZIP, AlphaFormat.PNG_ZIP),
    ".png": (AlphaFormat.PNG_FILES, AlphaFormat.PNG_FILES),
    ".mp4": (Preset.MP4_H264, Preset.MP4_H264),
}


class PictureSink(Protocol):
    """Where finished pictures go."""

    def write(self, colours: Rgb | DeepRgb, levels: Levels | None, frame: Frame) -> None:
        """Take the next picture, in the coded orientation; 16 bits only where it takes them."""
        ...

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written: ...


def form_for(target: Path, options: CutOutOptions) -> Form:
    """What ``target`` is written as.

    Raises PresetUnsuitable for a transparent cut-out in what has no alpha, FieldInvalid where
    neither the preset nor the name's ending tells, or where they contradict each other.
    """
    transparent, suffix = options.background is None, target.suffix.lower()
    if options.preset is None:
        if suffix not in _BY_SUFFIX:
            raise FieldInvalid(
                f"the preset does not follow from {target.name!r}: let it end in"
                f" {', '.join(_BY_SUFFIX)} (pictures: a number as in %04d.png), or name a preset.",
                param="preset",
            )
        form = _BY_SUFFIX[suffix][0 if transparent else 1]
    elif transparent or options.preset not in list(Preset):
        form = with_alpha(options.preset)
    else:
        form = Preset(options.preset)
    if transparent and isinstance(form, Preset):
        form = with_alpha(form)
    if form is AlphaFormat.PNG_FILES:
        if not png_sequence.is_pattern(target.name):
            raise FieldInvalid(
                f"{target.name} is one picture; name them with a number: frames/%04d.png.",
                param="target",
            )
    elif suffix in _BY_SUFFIX and suffix != form.suffix:
        raise FieldInvalid(
            f"{target.name} ends in {suffix}, and {form} writes {form.suffix}.", param="target"
        )
    return form


def check_target(
    source: Path, target: Path, options: CutOutOptions, *, replace: bool = False
) -> Form:
    """Check the target and the options as `cut_out` does, and return its form."""
    form = form_for(target, options)
    behind = options.background.file if options.background is not None else None
    if behind is not None and is_same_file(target, behind):
        raise FieldInvalid(
            f"The background is the output: {target} would be lost", param="background"
        )
    if form is AlphaFormat.PNG_FILES:
        check_directory(target.parent, _is_ours(target.name), replace=replace)
    else:
        check_output(target, source, replace=replace)
    return form


def cut_out(
    source: Path,
    target: Path,
    options: CutOutOptions = CutOutOptions(),  # noqa: B008  (frozen)
    on_frame: OnFrame = no_progress,
    masker: ImageMasker | None = None,
    refiner: Refiner | None = None,
    *,
    replace: bool = False,
    span: Span | None = None,
    clip_start_s: float | None = None,
    mask_target: Path | None = None,
) -> Report:
    """Write to ``target`` the subject of ``source`` on nothing, or on ``options.background``.

    Alpha is straight. Size, frames, times and sound are those of the source, as for `mask_video`,
    whose errors, hooks and rules for files that are there already hold here too. A ``target`` like
    ``frames/%04d.png`` makes that directory, which must be empty or new. Besides, raises
    PresetUnsuitable where the preset has no alpha and no background is named, and FieldInvalid for
    a background that cannot be read.

    With a ``span``, ``source`` is what `segments.cut` made of a clip that starts at
    ``clip_start_s``, and ``target`` becomes a part for `segments.join`. The mask itself, with the
    sound, goes to ``mask_target``, where there is memory for one more encoder.
    """
    form = check_target(source, target, options, replace=replace)
    background = options.background
    asked = _mask_options(form, options.mask)
    clip = checked_clip(source, asked)
    check_format(clip, form, asked.limits.memory_bytes)
    with ExitStack() as stack:
        start_s = first_shown_s(clip, asked.excerpt) if clip_start_s is None else clip_start_s
        drawn = stack.enter_context(opened_background(background, start_s))
        part = stack.enter_context(opened_target(target, form, replace=replace))
        sound = source if options.keep_sound else None
        cache = stack.enter_context(opened_cache(source, asked, span))
        edges = _edge_refiner(clip, asked.quality) if refiner is None else None
        plan = plan_masking(source, clip, asked, span, masker, refiner or edges, cache)
        is_part, excerpt = span is not None, asked.excerpt
        pictures = picture_writer(
            part, target.name, form, plan.clip, sound, part=is_part, excerpt=excerpt
        )
        with pictures as writer:
            deep = isinstance(writer, PngSequenceWriter)
            frames = FrameCutter(options.mask.matte, drawn, edges, deep=deep)
            cutter: FrameWriter = CutOutWriter(writer, frames)
            if mask_target and has_memory_for_mask(clip, form, asked.limits.memory_bytes):
                whole = stack.enter_context(written_whole(mask_target))
                masks = MaskWriter(whole, KEPT_MASK, clip, source, part=is_part)
                cutter = _WithMask(cutter, stack.enter_context(masks))
            report = run_plan(plan, cutter, on_frame)
    return named(report, background, clip)


def first_shown_s(clip: Clip, excerpt: Excerpt | None) -> float:
    """When the first frame is shown; the times of an excerpt count from zero."""
    return clip.start_s if excerpt is None else 0.0


def opened_target(
    target: Path, form: Form, *, replace: bool = False
) -> AbstractContextManager[Path]:
    """A hidden file, or a directory of numbered pictures, that becomes ``target`` when whole."""
    if form is AlphaFormat.PNG_FILES:
        return directory_written_whole(target.parent)
    return written_whole(target, replace=replace)


def _mask_options(form: Form, asked: MaskOptions) -> MaskOptions:
    """How the mask is found. Raises FieldInvalid for what only a mask can be."""
    if asked.max_side_px is not None:
        raise FieldInvalid(
            "A cut-out takes no max_side_px: it has the size of its clip.", param="max_side_px"
        )
    return dataclasses.replace(asked, preset=stand_in(form), matte=NO_MATTE)


def _edge_refiner(clip: Clip, quality: Quality) -> "EdgeRefiner | None":
    """None but in the best quality: it takes as long again as the colours themselves."""
    ahead = ahead_frames(frame_bytes(clip), quality)
    return None if ahead is None or quality is not Quality.BEST else EdgeRefiner(ahead)


def named(report: Report, background: Background | None, clip: Clip) -> Report:
    """The report with its kind, ``cutout`` or ``composite``."""
    kind = ResultKind.CUTOUT if background is None else ResultKind.COMPOSITE
    warnings = report.warnings
    if clip.hdr:
        remark = f"the source is HDR ({clip.hdr}); the {kind} is tone-mapped to BT.709"
        warnings = (*(each for each in warnings if "HDR" not in each), remark)
    return dataclasses.replace(report, kind=kind.value, warnings=warnings)


def _is_ours(pattern: str) -> Callable[[str], bool]:
    names = png_sequence.numbering(pattern)
    return lambda name: name == png_sequence.TABLE or names.fullmatch(name) is not None


def picture_writer(
    target: Path,
    name: str,
    form: Form,
    clip: Clip,
    sound: Path | None,
    *,
    part: bool = False,
    excerpt: Excerpt | None = None,
) -> AbstractContextManager[PictureSink]:
    """The writer of ``form``; ``name`` is that of a picture in a directory of them."""
    if form == AlphaFormat.PNG_ZIP:
        return PngSequenceWriter(target, clip, png_sequence.DEFAULT_PATTERN, into_zip=True)
    if form == AlphaFormat.PNG_FILES:
        return PngSequenceWriter(target, clip, name, into_zip=False)
    return ColourWriter(target, form, clip, sound, part=part, excerpt=excerpt)


class EdgeRefiner:
    """`refine_edges` that also keeps the background behind each frame's soft edges until `take`."""

    def __init__(self, ahead_frames: int) -> None:
        self._ahead_frames = ahead_frames
        self._found: dict[int, Behind] = {}

    def __call__(self, pairs: Iterable[tuple[Frame, Alpha]], /) -> Iterator[tuple[Frame, Levels]]:
        for frame, alpha, backdrop in with_backdrops(pairs, self._ahead_frames):
            resolved = resolve_outline(alpha, frame, backdrop)
            self._found[frame.index] = behind_edges(resolved, backdrop)
            coded = np.ascontiguousarray(frame.orientation.to_coded(resolved))
            yield frame, refine(coded, frame.luma())

    def take(self, frame: Frame) -> Behind | None:
        """The background behind the edges of ``frame``, which is then forgotten."""
        return self._found.pop(frame.index, None)


@dataclass(frozen=True, slots=True)
class FrameCutter:
    """Cuts frames out by their masks; ``deep`` gives 16 bits of frames that have more than 8."""

    matte: Matte
    background: DrawBackground | None
    edges: EdgeRefiner | None = None
    deep: bool = False

    def cut(self, levels: Levels, frame: Frame) -> tuple[Rgb | DeepRgb, Levels | None]:
        """The picture and its alpha, None where it is opaque; all upright, ``levels`` too."""
        kept = tools.inverted(levels) if self.matte.invert else levels
        picture = frame.rgb(frame.width, frame.height)
        behind = None if self.edges is None else self.edges.take(frame)
        colours = foreground_colours(picture, kept, None if self.matte.invert else behind)
        colours = tools.despilled(colours, self.matte.despill)
        shown: Levels | None = tools.adjusted(levels, self.matte)
        share: Levels = np.full_like(levels, 255)
        if self.background is not None and shown is not None:
            drawn = self.background(frame, picture, kept)
            share, colours, shown = shown, over(colours, drawn, shown), None
        if not self.deep or not frame.is_deep:
            return colours, shown
        share = np.where(kept, share, 0)  # elsewhere nothing of the picture is left
        return deepened(colours, picture, frame.deep_rgb(), share), shown


class CutOutWriter:
    """A `FrameWriter` that cuts each frame out and passes it to another writer."""

    def __init__(self, writer: PictureSink, cutter: FrameCutter) -> None:
        self._writer, self._cutter = writer, cutter

    def write(self, mask: Levels, frame: Frame) -> None:
        turn = frame.orientation
        colours, shown = self._cutter.cut(np.ascontiguousarray(turn.to_upright(mask)), frame)
        coded = None if shown is None else turn.to_coded(shown)
        self._writer.write(turn.to_coded(colours), coded, frame)

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written:
        return self._writer.finish(end_pts, time_base)


class _WithMask:
    """Passes each frame to two writers: the cut-out's and the mask's."""

    def __init__(self, cutter: FrameWriter, masks: FrameWriter) -> None:
        self._cutter, self._masks = cutter, masks

    def write(self, mask: Levels, frame: Frame) -> None:
        self._masks.write(mask, frame)
        self._cutter.write(mask, frame)

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written:
        """Finish both, and return what was written of the cut-out."""
        self._masks.finish(end_pts, time_base)
        return self._cutter.finish(end_pts, time_base)


@contextmanager
def opened_background(
    background: Background | None, clip_start_s: float
) -> Iterator[DrawBackground | None]:
    """Opens what is drawn behind each frame; a video begins with the clip."""
    if background is None:
        yield None
    elif background.kind is BackgroundKind.COLOUR:
        yield lambda _, picture, __: np.full_like(picture, background.colour)
    elif background.kind is BackgroundKind.BLUR:
        yield lambda _, picture, levels: blurred_background(picture, levels, background.amount)
    elif background.kind is BackgroundKind.ORIGINAL:
        yield lambda _, picture, __: dimmed(picture, background.amount)
    elif background.file is None:
        raise Internal("a background from a file has no file")
    elif is_picture(background.file):
        yield _still(read_background(background.file))
    else:
        with background_video(background.file) as video:

            def moving(frame: Frame, picture: Rgb, _: Levels) -> Rgb:
                start_pts = round(Fraction(clip_start_s) / frame.time_base)
                shown = video.at((frame.pts - start_pts) * frame.time_base)
                height, width = picture.shape[:2]
                return covering(shown.rgb(shown.width, shown.height), width, height)

            yield moving


def _still(background: Rgb) -> DrawBackground:
    fitted: list[Rgb] = []

    def behind(_: Frame, picture: Rgb, __: Levels) -> Rgb:
        height, width = picture.shape[:2]
        fitted[:] = fitted or [covering(background, width, height)]
        return fitted[0]

    return behind
