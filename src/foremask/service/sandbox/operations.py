"""What the media child can be asked to do: the library's functions, with their arguments as plain values.

Imported by the child alone, once it is confined.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from foremask.facts import Clip, SegmentPlan, Span
from foremask.media import segments
from foremask.media.presets import check_preset
from foremask.media.probe import probe
from foremask.media.recode import recode
from foremask.options import Device, Limits, MaskOptions, Preset
from foremask.service.sandbox.child import Operation, Parent
from foremask.service.sandbox.remote_file import RemoteFile


class _Probe(msgspec.Struct):
    limits: Limits
    source: Path | None = None  # or else the parent has the bytes, ``size`` of them
    size: int = 0
    preset: Preset | None = None


class _Load(msgspec.Struct):
    model: Path
    device: Device = Device.AUTO


class _Mask(msgspec.Struct):
    source: Path
    target: Path
    options: MaskOptions = MaskOptions()
    span: Span | None = None


class _Plan(msgspec.Struct):
    source: Path
    target_s: float


class _Cut(msgspec.Struct):
    source: Path
    span: SegmentPlan
    target: Path


class _Join(msgspec.Struct):
    parts: list[Path]
    source: Path
    target: Path
    preset: Preset


class _Recode(msgspec.Struct):
    source: Path
    target: Path
    preset: Preset
    memory_bytes: int | None = None


def _probe(args: dict[str, Any], parent: Parent) -> Clip:
    wanted = _read(args, _Probe)
    clip = probe(wanted.source or RemoteFile(parent, wanted.size), wanted.limits)
    if wanted.preset is not None:
        check_preset(clip, wanted.preset, wanted.limits.memory_bytes)
    return clip


def _load(args: dict[str, Any], _: Parent) -> None:
    from foremask.vision.network.session import network_at

    wanted = _read(args, _Load)
    network_at(wanted.model, wanted.device)


def _mask(args: dict[str, Any], parent: Parent) -> object:
    # Here: they bring OpenVINO, which a child that only probes need not load.
    from foremask.masking.pipeline import mask_video
    from foremask.masking.report import Progress

    wanted = _read(args, _Mask)

    def on_progress(progress: Progress) -> None:
        parent.progress(progress.frames_done, progress.frames_total, progress.stage)

    return mask_video(wanted.source, wanted.target, wanted.options, on_progress, wanted.span)


def _plan(args: dict[str, Any], _: Parent) -> list[SegmentPlan]:
    wanted = _read(args, _Plan)
    return segments.plan(wanted.source, wanted.target_s)


def _cut(args: dict[str, Any], _: Parent) -> None:
    wanted = _read(args, _Cut)
    segments.cut(wanted.source, wanted.span, wanted.target)


def _join(args: dict[str, Any], _: Parent) -> object:
    wanted = _read(args, _Join)
    return segments.join(wanted.parts, wanted.source, wanted.target, wanted.preset)


def _recode(args: dict[str, Any], parent: Parent) -> object:
    wanted = _read(args, _Recode)

    def on_progress(done: int, total: int | None) -> None:
        parent.progress(done, total, "encoding")

    return recode(wanted.source, wanted.target, wanted.preset, on_progress, wanted.memory_bytes)


OPERATIONS: Final[Mapping[str, Operation]] = {
    "probe": _probe,
    "load": _load,
    "mask": _mask,
    "plan": _plan,
    "cut": _cut,
    "join": _join,
    "recode": _recode,
}


def _read[T: msgspec.Struct](args: dict[str, Any], kind: type[T]) -> T:
    """The arguments, with paths and enumerations in place; an unknown name is an error."""
    unknown = args.keys() - {field.name for field in msgspec.structs.fields(kind)}
    if unknown:
        raise TypeError(f"no such argument: {', '.join(sorted(unknown))}")
    return msgspec.convert(args, kind, dec_hook=_path)


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError
