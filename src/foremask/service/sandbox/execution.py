"""Executes the requests of messages.py with the library's functions, in a confined child."""

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from foremask.facts import Clip, Report, Written
from foremask.media import segments
from foremask.media.pictures import check_background
from foremask.media.presets import check_result
from foremask.media.probe import excerpt_of, probe
from foremask.options import unfinished_cache
from foremask.service.sandbox import messages
from foremask.service.sandbox.messages import Parent

_NEWEST_PX: Final = 320
_READ_BYTES: Final = 256 << 10

if TYPE_CHECKING:
    from foremask.pipeline.progress import OnProgress, Progress


class RemoteFile:
    """A file that calls ``read_at(offset, size)``, which may return fewer than ``size`` bytes."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._at)
        if size < 0:
            size = left
        size = min(size, left, _READ_BYTES)
        if not size:
            return b""
        data = self._read_at(self._at, size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at


def _probe(request: messages.Probe, parent: Parent) -> Clip:
    source = request.source or RemoteFile(parent.read_at, request.size)
    clip = excerpt_of(probe(source, request.limits, request.excerpt), request.excerpt)
    if request.form is not None:
        check_result(clip, request.form, request.kind, request.limits.memory_bytes)
    return clip


def _probe_background(request: messages.ProbeBackground, parent: Parent) -> None:
    if request.source is None:
        check_background(RemoteFile(parent.read_at, request.size), request.limits)
        return
    with request.source.open("rb") as file:
        check_background(file, request.limits)


def _load(request: messages.Load, _: Parent) -> None:
    from foremask.vision.network.devices import network_at

    network_at(request.model, request.device)


def _make(request: messages.Make, parent: Parent) -> Report:
    from foremask.masking.runner import run

    _copy_known(request)
    on_progress = reporting(parent)
    return run(
        request.spec,
        request.files,
        on_progress,
        request.resources,
        request.span,
        request.clip_start_s,
    )


def _copy_known(request: messages.Make) -> None:
    kept = request.files.cache
    if kept is None:
        return
    from foremask.vision.network.kept_results import NotACacheError, opened_store

    unfinished = unfinished_cache(kept)
    for known, copy in ((request.known, kept), (request.known_unfinished, unfinished)):
        if known is None:
            continue
        try:
            opened_store(known)
            shutil.copyfile(known, copy)
        except (OSError, NotACacheError):
            copy.unlink(missing_ok=True)  # without earlier results, the job is only slower


def _mask_picture(request: messages.MaskPicture, _: Parent) -> messages.Preview:
    from foremask.masking.stills import correct_mask, last_picture, mask_frame, read_mask
    from foremask.vision.drawing import as_png

    spec = request.spec
    resources = request.resources
    picture = last_picture(request.picture, resources)
    if request.mask is None:
        levels = mask_frame(picture.frame, spec, resources, picture)
    else:
        before = read_mask(request.mask, picture, resources)
        levels = correct_mask(picture, before, spec, resources)
    height, width = levels.shape
    return messages.Preview(as_png(levels), width, height)


def _stream(request: messages.MaskStream, parent: Parent) -> None:
    from foremask.service.sandbox.live_frames import mask_stream

    mask_stream(request, parent)


def reporting(parent: Parent) -> "OnProgress":
    from foremask.vision.drawing import small_png

    def on_progress(now: "Progress") -> None:
        draw = None
        if now.newest is not None:
            draw = partial(small_png, now.newest, _NEWEST_PX)
        parent.progress(now.frames_done, draw, now.left_s)

    return on_progress


def _join(request: messages.Join, _: Parent) -> Written:
    return segments.join(
        request.parts,
        request.source,
        request.target,
        request.form,
        request.kind,
        keep_sound=request.keep_sound,
    )


OPERATIONS: Final[Mapping[type[messages.Request[Any]], messages.Executor]] = {
    messages.Probe: _probe,
    messages.ProbeBackground: _probe_background,
    messages.Load: _load,
    messages.Make: _make,
    messages.MaskPicture: _mask_picture,
    messages.MaskStream: _stream,
    messages.Plan: lambda asked, _: tuple(segments.plan(asked.source, asked.most, asked.grid)),
    messages.Cut: lambda asked, _: segments.cut(asked.source, asked.span, asked.target),
    messages.Join: _join,
}
