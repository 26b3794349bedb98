"""Executes the requests of messages.py with the library's functions.

Only a child imports this module, after it is confined. Modules that a child does not need to probe
a clip, OpenVINO above all, are imported inside the functions that use them.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from foremask.facts import Clip, Report, SegmentPlan, Written
from foremask.media import segments
from foremask.media.background_files import check_background
from foremask.media.colour_presets import check_result
from foremask.media.probe import probe
from foremask.media.writer import recode
from foremask.options import (
    Background,
    BackgroundKind,
    CutOutOptions,
    MaskOptions,
    Matte,
    ResultOptions,
    form_of,
)
from foremask.service.sandbox import messages
from foremask.service.sandbox.messages import Parent

NEWEST_PX: Final = 320
_READ_BYTES: Final = 256 << 10

if TYPE_CHECKING:
    from foremask.masking.report import OnFrame, Progress


class RemoteFile:
    """A file that is read through ``read_at``.

    ``read_at`` takes an offset and a size; it returns at most that many bytes, none at the end.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at, self._size, self._at = read_at, size, 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, and none only at the end."""
        left = max(0, self._size - self._at)
        size = min(left if size < 0 else size, left, _READ_BYTES)
        data = self._read_at(self._at, size) if size else b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at


def _probe(request: messages.Probe, parent: Parent) -> Clip:
    clip = probe(request.source or RemoteFile(parent.read_at, request.size), request.limits)
    if request.preset is not None:
        form = form_of(request.preset, request.kind)
        check_result(clip, form, request.kind, request.limits.memory_bytes)
    return clip


def _probe_background(request: messages.ProbeBackground, parent: Parent) -> None:
    if request.source is None:
        check_background(RemoteFile(parent.read_at, request.size), request.limits)
    else:
        with request.source.open("rb") as file:
            check_background(file, request.limits)


def _load(request: messages.Load, _: Parent) -> None:
    from foremask.vision.network.devices import network_at

    network_at(request.model, request.device)


def _mask(request: messages.Mask, parent: Parent) -> Report:
    from foremask.masking.pipeline import mask_video

    on_progress = _reporting(parent)
    options = replace(request.options, cache=_cache(request))
    return mask_video(request.source, request.target, options, on_progress, request.span)


def _cache(request: messages.Mask | messages.CutOut) -> Path | None:
    from foremask.vision.temporal.network_cache import is_store

    known, kept = request.known, request.kept
    if known is not None and kept is not None and is_store(known):
        try:
            shutil.copyfile(known, kept)
        except OSError:
            kept.unlink(missing_ok=True)  # half a cache is useless; without one the job is slower
    return kept


def _mask_picture(request: messages.MaskPicture, _: Parent) -> messages.Preview:
    from foremask.masking.stills import last_picture, mask_frame
    from foremask.vision.drawing import as_png

    picture = last_picture(request.picture, request.options)
    levels = mask_frame(picture.frame, request.options, picture)
    height, width = levels.shape
    return messages.Preview(as_png(levels), width, height)


def _cut_out(request: messages.CutOut, parent: Parent) -> Report:
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


def _cut_out_by_mask(request: messages.CutOutByMask, parent: Parent) -> Report:
    from foremask.masking.cut_out import cut_out

    masking = MaskOptions(limits=request.limits)
    options = options_of(request.preset, request.result, request.background, masking)
    return cut_out(
        request.source,
        request.target,
        options,
        _reporting(parent),
        mask=request.mask,
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

    def on_progress(now: "Progress") -> None:
        draw = None if now.newest is None else partial(small_png, now.newest, NEWEST_PX)
        parent.progress(now.frames_done, draw, now.left_s)

    return on_progress


def _recode(request: messages.Recode, parent: Parent) -> Written:
    def on_frame(done: int, _: int | None) -> None:
        parent.progress(done)

    change = None
    if request.matte != Matte():
        from foremask.vision.matting.matte import adjusted

        change = partial(adjusted, matte=request.matte)
    return recode(
        request.source, request.target, request.preset, on_frame, request.memory_bytes, change
    )


def _plan(request: messages.Plan, _: Parent) -> tuple[SegmentPlan, ...]:
    return tuple(segments.plan(request.source, request.most, request.grid))


def _cut(request: messages.Cut, _: Parent) -> None:
    segments.cut(request.source, request.span, request.target)


def _join(request: messages.Join, _: Parent) -> Written:
    form = form_of(request.preset, request.kind)
    parts, source, target, kind = request.parts, request.source, request.target, request.kind
    return segments.join(parts, source, target, form, kind, keep_sound=request.keep_sound)


OPERATIONS: Final[Mapping[type[messages.Request[Any]], messages.Operation]] = {
    messages.Probe: _probe,
    messages.ProbeBackground: _probe_background,
    messages.CutOut: _cut_out,
    messages.CutOutByMask: _cut_out_by_mask,
    messages.Load: _load,
    messages.Mask: _mask,
    messages.MaskPicture: _mask_picture,
    messages.Plan: _plan,
    messages.Cut: _cut,
    messages.Join: _join,
    messages.Recode: _recode,
}
