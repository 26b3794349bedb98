"""How a worker's child executes the requests of operations.py: with the library's functions.

Only a child imports this module, after it is confined.
"""

from collections.abc import Mapping
from typing import Any, Final

from foremask.facts import Clip, Report, SegmentPlan, Written
from foremask.media import segments
from foremask.media.presets import check_preset
from foremask.media.probe import probe
from foremask.media.recode import recode
from foremask.service.sandbox.operations import (
    Cut,
    Join,
    Load,
    Mask,
    Plan,
    Probe,
    Recode,
    Request,
)
from foremask.service.sandbox.parent import Operation, Parent


def _probe(request: Probe, _: Parent) -> Clip:
    clip = probe(request.source, request.limits)
    if request.preset is not None:
        check_preset(clip, request.preset, request.limits.memory_bytes)
    return clip


def _load(request: Load, _: Parent) -> None:
    from foremask.vision.network.devices import network_at

    network_at(request.model, request.device)


def _mask(request: Mask, parent: Parent) -> Report:
    # They load OpenVINO, which a child that only probes does not need.
    from foremask.masking.pipeline import mask_video
    from foremask.masking.report import Progress

    def on_progress(progress: Progress) -> None:
        parent.progress(progress.frames_done, progress.frames_total, progress.stage)

    return mask_video(request.source, request.target, request.options, on_progress, request.span)


def _plan(request: Plan, _: Parent) -> tuple[SegmentPlan, ...]:
    return tuple(segments.plan(request.source, request.target_s))


def _cut(request: Cut, _: Parent) -> None:
    segments.cut(request.source, request.span, request.target)


def _join(request: Join, _: Parent) -> Written:
    return segments.join(request.parts, request.source, request.target, request.preset)


def _recode(request: Recode, parent: Parent) -> Written:
    def on_frame(done: int, total: int | None) -> None:
        parent.progress(done, total, "encoding")

    return recode(request.source, request.target, request.preset, on_frame, request.memory_bytes)


OPERATIONS: Final[Mapping[type[Request[Any]], Operation]] = {
    Probe: _probe,
    Load: _load,
    Mask: _mask,
    Plan: _plan,
    Cut: _cut,
    Join: _join,
    Recode: _recode,
}
