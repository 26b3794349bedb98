"""How a child executes the requests of operations.py: with the library's functions.

Only a child imports this module, after it is confined. What a child that only probes does not need,
OpenVINO above all, is loaded by the functions that need it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from foremask.facts import Clip, Report, SegmentPlan, Written
from foremask.fetch.remote_file import RemoteFile
from foremask.media import segments
from foremask.media.background_files import check_background
from foremask.media.colour_presets import check_result
from foremask.media.probe import probe
from foremask.media.recode import recode
from foremask.options import (
    Background,
    BackgroundKind,
    CutOutOptions,
    MaskOptions,
    Matte,
    ResultOptions,
    form_of,
)
from foremask.service.sandbox import operations
from foremask.service.sandbox.operations import PictureMask, Request
from foremask.service.sandbox.parent import Operation, Parent

NEWEST_PX: Final = 320

if TYPE_CHECKING:
    from foremask.masking.report import OnFrame, Progress


def _probe(request: operations.Probe, parent: Parent) -> Clip:
    clip = probe(request.source or RemoteFile(parent.read_at, request.size), request.limits)
    if request.preset is not None:
        form = form_of(request.preset, request.kind)
        check_result(clip, form, request.kind, request.limits.memory_bytes)
    return clip


def _probe_background(request: operations.ProbeBackground, parent: Parent) -> None:
    if request.source is None:
        check_background(RemoteFile(parent.read_at, request.size), request.limits)
    else:
        with request.source.open("rb") as file:
            check_background(file, request.limits)


def _load(request: operations.Load, _: Parent) -> None:
    from foremask.vision.network.devices import network_at

    network_at(request.model, request.device)


def _mask(request: operations.Mask, parent: Parent) -> Report:
    from foremask.masking.pipeline import mask_video

    on_progress = _reporting(parent)
    options = replace(request.options, cache=_cache(request))
    return mask_video(request.source, request.target, options, on_progress, request.span)


def _cache(request: operations.Mask | operations.CutOut) -> Path | None:
    from foremask.vision.temporal.network_cache import is_store

    known, kept = request.known, request.kept
    if known is not None and kept is not None and is_store(known):
        try:
            shutil.copyfile(known, kept)
        except OSError:
            kept.unlink(missing_ok=True)  # half a file is none; it only saves time
    return kept


def _mask_picture(request: operations.MaskPicture, _: Parent) -> PictureMask:
    from foremask.masking.stills import last_picture, mask_frame
    from foremask.vision.drawing import grey_png

    picture = last_picture(request.picture, request.options)
    levels = mask_frame(picture.frame, request.options, picture)
    height, width = levels.shape
    return PictureMask(grey_png(levels), width, height)


def _cut_out(request: operations.CutOut, parent: Parent) -> Report:
    from foremask.masking.cut_out import cut_out

    masking = replace(request.options, cache=_cache(request))
    options = options_of(request.preset, request.result, request.background, masking)
    return cut_out(
        request.source,
        request.target,
        options,
        _reporting(parent),
        span=request.span,
        clip_start_s=request.clip_start_s,
        mask_target=request.mask_target,
    )


def _cut_out_by_mask(request: operations.CutOutByMask, parent: Parent) -> Report:
    from foremask.masking.cut_out import cut_out_by_mask

    masking = MaskOptions(limits=request.limits)
    options = options_of(request.preset, request.result, request.background, masking)
    return cut_out_by_mask(
        request.source,
        request.mask,
        request.target,
        options,
        _reporting(parent),
        auto_zoom=request.result.auto_zoom,
    )


def options_of(
    preset: str, result: ResultOptions, file: Path | None, masking: MaskOptions
) -> CutOutOptions:
    """The library's options for a request; ``file`` is the background."""
    behind = None
    if file is not None:
        behind = Background(BackgroundKind.FILE, file=file)
    elif result.background is not None:
        behind = Background.parse(result.background)
    return CutOutOptions(
        replace(masking, matte=result.matte),
        form_of(preset, result.kind),
        behind,
        result.keep_sound,
    )


def _reporting(parent: Parent) -> "OnFrame":
    from foremask.vision.drawing import small_png

    def on_progress(progress: "Progress") -> None:
        newest = progress.newest
        draw = None if newest is None else partial(small_png, newest, NEWEST_PX)
        done, total, stage = progress.frames_done, progress.frames_total, progress.stage
        parent.progress(done, total, stage, draw, progress.left_s)

    return on_progress


def _plan(request: operations.Plan, _: Parent) -> tuple[SegmentPlan, ...]:
    return tuple(segments.plan(request.source, request.most, request.grid))


def _cut(request: operations.Cut, _: Parent) -> None:
    segments.cut(request.source, request.span, request.target)


def _join(request: operations.Join, _: Parent) -> Written:
    form = form_of(request.preset, request.kind)
    return segments.join(
        request.parts,
        request.source,
        request.target,
        form,
        request.kind,
        keep_sound=request.keep_sound,
    )


def _recode(request: operations.Recode, parent: Parent) -> Written:
    def on_frame(done: int, total: int | None) -> None:
        parent.progress(done, total, "encoding")

    change = None
    if request.matte != Matte():
        from foremask.vision.matting.matte import adjusted

        change = partial(adjusted, matte=request.matte)
    return recode(
        request.source, request.target, request.preset, on_frame, request.memory_bytes, change
    )


OPERATIONS: Final[Mapping[type[Request[Any]], Operation]] = {
    operations.Probe: _probe,
    operations.ProbeBackground: _probe_background,
    operations.CutOut: _cut_out,
    operations.CutOutByMask: _cut_out_by_mask,
    operations.Load: _load,
    operations.Mask: _mask,
    operations.MaskPicture: _mask_picture,
    operations.Plan: _plan,
    operations.Cut: _cut,
    operations.Join: _join,
    operations.Recode: _recode,
}
