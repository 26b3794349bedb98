"""Executes the requests of messages.py with the library's functions, in a confined child."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from foremask.facts import Clip, Report, Written
from foremask.media import segments
from foremask.media.pictures import check_background
from foremask.media.presets import check_result
from foremask.media.probe import probe
from foremask.media.writer import recode
from foremask.options import Form, MaskOptions, Matte, ResultOptions
from foremask.service.sandbox import messages
from foremask.service.sandbox.messages import Parent

_NEWEST_PX: Final = 320
_READ_BYTES: Final = 256 << 10

if TYPE_CHECKING:
    from foremask.masking.report import OnFrame, Progress


class RemoteFile:
    """A file that calls ``read_at(offset, size)``, which may return fewer than ``size`` bytes."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at, self._size, self._at = read_at, size, 0

    def read(self, size: int = -1, /) -> bytes:
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
        form = Form(request.preset)
        check_result(clip, form, request.kind, request.limits.memory_bytes)
    return clip


def _probe_background(request: messages.ProbeBackground, parent: Parent) -> None:
    remote = RemoteFile(parent.read_at, request.size)
    with nullcontext(remote) if request.source is None else request.source.open("rb") as file:
        check_background(file, request.limits)


def _load(request: messages.Load, _: Parent) -> None:
    from foremask.vision.network.devices import network_at

    network_at(request.model, request.device, whole=False)


def _mask(request: messages.Mask, parent: Parent) -> Report:
    from foremask.masking.pipeline import mask_video

    options, on_progress = _with_cache(request), _reporting(parent)
    return mask_video(request.source, request.target, options, on_progress, request.span)


def _with_cache(request: messages.Mask | messages.CutOut) -> MaskOptions:
    known, kept = request.known, request.kept
    if known is not None and kept is not None:
        from foremask.vision.network.kept_results import NotACacheError, opened_store

        try:
            opened_store(known)
            shutil.copyfile(known, kept)
        except (OSError, NotACacheError):
            kept.unlink(missing_ok=True)  # without earlier results, the job is only slower
    return replace(request.options, cache=kept)


def _mask_picture(request: messages.MaskPicture, _: Parent) -> messages.Preview:
    from foremask.masking.stills import last_picture, mask_frame
    from foremask.vision.drawing import as_png

    picture = last_picture(request.picture, request.options)
    levels = mask_frame(picture.frame, request.options, picture)
    height, width = levels.shape
    return messages.Preview(as_png(levels), width, height)


def _cut_out(request: messages.CutOut, parent: Parent) -> Report:
    from foremask.masking.cut_out import cut_out

    return cut_out(
        request.source,
        request.target,
        result_of(request),
        _with_cache(request),
        Form(request.preset),
        _reporting(parent),
        mask=request.mask,
        span=request.span,
        clip_start_s=request.clip_start_s,
        mask_target=request.mask_target,
    )


def result_of(request: messages.CutOut) -> ResultOptions:
    if request.background is None:
        return request.result
    return structs.replace(request.result, background=str(request.background))


def _reporting(parent: Parent) -> "OnFrame":
    from foremask.vision.drawing import small_png

    def on_progress(now: "Progress") -> None:
        draw = None if now.newest is None else partial(small_png, now.newest, _NEWEST_PX)
        parent.progress(now.frames_done, draw, now.left_s)

    return on_progress


def _recode(request: messages.Recode, parent: Parent) -> Written:
    change = None
    if request.matte != Matte():
        from foremask.vision.matting.matte import adjusted

        change = partial(adjusted, matte=request.matte)
    source, target, memory_bytes = request.source, request.target, request.memory_bytes
    return recode(
        source, target, request.preset, lambda done, _: parent.progress(done), memory_bytes, change
    )


def _join(request: messages.Join, _: Parent) -> Written:
    form = Form(request.preset)
    parts, source, target, kind = request.parts, request.source, request.target, request.kind
    return segments.join(parts, source, target, form, kind, keep_sound=request.keep_sound)


OPERATIONS: Final[Mapping[type[messages.Request[Any]], messages.Operation]] = {
    messages.Probe: _probe,
    messages.ProbeBackground: _probe_background,
    messages.CutOut: _cut_out,
    messages.Load: _load,
    messages.Mask: _mask,
    messages.MaskPicture: _mask_picture,
    messages.Plan: lambda asked, _: tuple(segments.plan(asked.source, asked.most, asked.grid)),
    messages.Cut: lambda asked, _: segments.cut(asked.source, asked.span, asked.target),
    messages.Join: _join,
    messages.Recode: _recode,
}
