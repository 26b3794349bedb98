"""``foremask mask``, ``probe`` and ``verify``: the library on this machine's files, no service."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from foremask.cli import model_commands
from foremask.cli.exits import Usage, print_json, say, warn
from foremask.cli.inputs import check_there, inspect_clip, local_file
from foremask.cli.progress_bar import FRAMES, progress_bar
from foremask.errors import ForemaskError
from foremask.masking.outputs import check_output, is_same_file
from foremask.options import Device, Limits, MaskOptions, Preset, Quality
from foremask.service.sandbox.remote_file import RemoteFile
from foremask.service.settings import read_settings

PRESET_OF_SUFFIX = {
    ".mp4": Preset.MP4_H264,
    ".webm": Preset.WEBM_VP9,
    ".mov": Preset.MOV_H265,
    ".mkv": Preset.MKV_H264,
    ".gif": Preset.GIF,
}

AsJson = Annotated[bool, Parameter(name="--json", negative="")]


def mask(
    source: Annotated[str, Parameter(name="INPUT")],
    target: Annotated[Path | None, Parameter(name="OUTPUT")] = None,
    /,
    *more: Annotated[str, Parameter(show=False)],
    preset: Annotated[Preset | None, Parameter(name_transform=str.lower)] = None,
    quality: Quality = Quality.BALANCED,
    device: Device = Device.AUTO,
    model: Path | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the mask video of a clip: white is the foreground.

    Args:
        source: The clip: a file, or an http(s) URL.
        target: The mask video, which appears when it is whole; a file that is there already is
        refused.
            Without it, clip.mp4 is masked into clip.mask.mp4 beside it; a URL, into this directory.
        preset: Container and codec; without it, OUTPUT's ending decides: mp4_h264, webm_vp9,
            mov_h265, mkv_h264 or gif. Without either, mp4_h264.
        quality: How much time a mask may take.
        device: Where the network runs; auto takes a GPU when the runtime finds one.
        model: An ONNX model of your own (docs/models.md).
        more: Nothing: a third file is refused.
        force: Replace an OUTPUT that is there already.
        as_json: Answer with the whole report as JSON.
    """
    settings = read_settings(os.environ)
    if more:
        raise Usage(
            f"{2 + len(more)} files are named, and `mask` takes one INPUT and one OUTPUT; nothing was changed. For"
            ' many: for clip in *.mp4; do foremask mask "$clip"; done'
        )
    target = target or _default_target(source, preset or Preset.MP4_H264)
    chosen = preset or _preset_for(target)
    _check_target(source, target, chosen, replace=force)
    with local_file(source, settings) as clip:
        options = MaskOptions(
            preset=chosen,
            quality=quality,
            device=device,
            model=model_commands.ready(settings, model),
        )
        from foremask.masking.pipeline import mask_video  # numpy, av, cv2: half a second
        from foremask.masking.report import Progress

        with progress_bar("mask", FRAMES) as show:

            def on_frame(progress: Progress) -> None:
                show(progress.frames_done, progress.frames_total)

            started_s = time.monotonic()
            report = mask_video(clip, target, options, on_frame, replace=force)
            took_s = time.monotonic() - started_s
    facts = {"output": str(target), "seconds": round(took_s, 2), **msgspec.to_builtins(report)}
    del facts["strip"]  # a row for each frame
    if as_json:
        print_json(facts)
        return
    for remark in report.warnings:
        warn(remark)
    say(
        f"{target}: {report.frames_out} frames, {report.duration_s:.2f} s, {chosen}; "
        f"made in {took_s:.1f} s ({report.frames_out / took_s:.1f} fps)"
    )


def probe(source: Annotated[str, Parameter(name="INPUT")], /, *, as_json: AsJson = False) -> None:
    """Say what a clip is, and what the service would say of it.

    Args:
        source: The clip: a file, or an http(s) URL.
        as_json: Answer with JSON.
    """
    from foremask.media.probe import probe as probe_clip

    def inspect(at: Path | RemoteFile) -> dict[str, Any]:
        facts: dict[str, Any] = msgspec.to_builtins(probe_clip(at))
        try:
            probe_clip(at, Limits())
        except ForemaskError as refused:
            facts["service"] = {"code": refused.code, "reason": refused.reason}
            facts["service"] |= {"message": refused.message, "details": refused.details}
        else:
            facts["service"] = "accepted"
        return facts

    clip = inspect_clip(source, read_settings(os.environ), inspect)
    if as_json:
        print_json(clip)
        return
    say(*_described(clip))


def verify(
    source: Annotated[Path, Parameter(name="SOURCE")],
    made: Annotated[Path, Parameter(name="MASK")],
    /,
    *,
    as_json: AsJson = False,
) -> None:
    """Check every promise that a mask makes to its source, from the two files alone.

    Args:
        source: The clip.
        made: The mask video that was made of it.
        as_json: Answer with JSON.
    """
    from foremask.media.verify import verify as check

    check_there(source)
    check_there(made)
    kept = check(source, made)
    if as_json:
        print_json(msgspec.to_builtins(kept))
    else:
        say(*(f"kept: {each.promise}: {each.found}" for each in kept))


def sheet(
    source: Annotated[Path, Parameter(name="INPUT")],
    made: Annotated[Path, Parameter(name="MASK")],
    target: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    moments: int = 5,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw a contact sheet: source, mask, overlay and cut-out, side by side, at several moments.

    Args:
        source: The clip.
        made: The mask video that was made of it.
        target: The PNG to write.
        moments: How many rows.
        force: Replace an OUT that is there already.
    """
    from foremask.masking.contact_sheet import contact_sheet

    check_there(source)
    check_there(made)
    contact_sheet(source, made, target, moments, replace=force)
    say(str(target))


def _described(clip: dict[str, Any]) -> Iterator[str]:
    """What a clip is, for people; ``--json`` has the rest."""
    summary = [clip["container"], clip["codec"], f"{clip['width']}x{clip['height']}"]
    if clip["rotation"] or clip["mirrored"]:
        summary.append(f"turned by {clip['rotation']}°" + ", mirrored" * clip["mirrored"])
    summary.append(f"{clip['fps']:.6g} fps" + " on average" * clip["vfr"])
    if clip["frames"] is not None:
        summary.append(f"{clip['frames']} frames")
    if clip["duration_s"] is not None:
        summary.append(f"{clip['duration_s']:.3f} s")
    yield ", ".join(summary)
    for track in clip["audio"]:
        yield f"audio: {track['codec']}, {track['channels']} channels, {track['sample_rate_hz']} Hz"
    yield from (f"warning: {remark}" for remark in clip["warnings"])
    verdict = clip["service"]
    if verdict == "accepted":
        yield "the service would accept it"
    else:
        yield f"the service would refuse it: {verdict['details']} [{verdict['reason']}]"


def _default_target(source: str, preset: Preset) -> Path:
    """Where the mask goes when nobody says: beside the file, or here for a URL."""
    if "://" in source:
        return Path(f"{Path(urlsplit(source).path).stem or 'clip'}.mask{preset.suffix}")
    return Path(source).with_suffix(f".mask{preset.suffix}")


def _preset_for(target: Path) -> Preset:
    preset = PRESET_OF_SUFFIX.get(target.suffix.lower())
    if preset is None:
        raise Usage(
            f"the preset does not follow from {target.name!r}: let OUTPUT end in "
            f"{', '.join(PRESET_OF_SUFFIX)}, or name one with --preset"
        )
    return preset


def _check_target(source: str, target: Path, preset: Preset, *, replace: bool) -> None:
    suffix = target.suffix.lower()
    if suffix in PRESET_OF_SUFFIX and suffix != preset.suffix:
        raise Usage(f"OUTPUT ends in {suffix}, and {preset} writes {preset.suffix}")
    if is_same_file(target, Path(source)):
        raise Usage(f"OUTPUT is INPUT: {target} would be lost")
    check_output(target, replace=replace)
