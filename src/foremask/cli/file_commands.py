"""``foremask probe``, ``verify``, ``sheet``, ``open``: show and check clips and masks."""

import html
import os
import webbrowser
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from foremask.cli.batch_options import AsJson, Clip, Force, Output, Shown, rate_of
from foremask.cli.exits import Usage, answer, note, say
from foremask.cli.products import PNG
from foremask.cli.sources import (
    PICTURE_SUFFIXES,
    ClipSource,
    check_clip,
    check_there,
    clip_file,
    is_sequence,
    local_clip,
    sequence_path,
)
from foremask.errors import ForemaskError
from foremask.machine import paths
from foremask.options import ALPHA_FORMS, PRESET_OF_SUFFIX, Limits, ResultKind
from foremask.settings import read_settings

ClipOrUrl = Annotated[str, Parameter(name="INPUT", help="The clip: a file, or an http(s) URL.")]
Mask = Annotated[
    Path | None,
    Parameter(
        name="MASK", help="The clip's mask, by default clip.mask.mp4 (or .mov, ...) beside it."
    ),
]

Made = Annotated[
    Path | None,
    Parameter(
        name="MASK",
        help=(
            "The mask or cut-out: a video, a picture, or a zip or folder of PNGs; by default"
            " clip.mask.mp4 (or clip.cutout.webm, ...) beside the clip."
        ),
    ),
]


def probe(source: ClipOrUrl, /, *, as_json: AsJson = False) -> None:
    """Show a clip's properties, and whether the service would accept the clip."""
    from foremask.media.probe import probe as probe_clip

    opened = clip_file(Path(source))
    if "://" in source:
        opened = local_clip(ClipSource(source, Path(source)), read_settings(os.environ))
    with opened as file:
        clip: dict[str, Any] = msgspec.to_builtins(probe_clip(file))
        for name, limits in (("service", Limits()), ("local_service", Limits(any_format=True))):
            try:
                probe_clip(file, limits)
            except ForemaskError as refused:
                shown = ("code", "reason", "message", "details")
                clip[name] = {fact: refused.facts()[fact] for fact in shown}
            else:
                clip[name] = "accepted"
    answer(clip, _described(clip), as_json=as_json)


def verify(
    source: Annotated[Path, Parameter(name="SOURCE", help="The clip.")],
    made: Made = None,
    /,
    *,
    kind: ResultKind = ResultKind.MASK,
    fps: Annotated[str | None, Shown] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a mask or cut-out has every promised property (docs/media.md).

    Args:
        kind: mask, cutout (each frame has alpha) or composite (over a background).
        fps: The frame rate of pictures that are the clip, as `foremask mask` had it.
    """
    from foremask.media.verify import verify as check

    if not is_sequence(source):
        check_there(source)
    if made is None:
        made = made_next_to(source, kind)
    elif not made.is_dir():  # `check_there` refuses a folder
        check_there(made)
    opened = clip_file(source, rate_of(fps)) if is_sequence(source) else nullcontext(source)
    with opened as clip:
        kept = check(clip, made, kind)
    answer(kept, (f"kept: {each.promise}: {each.found}" for each in kept), as_json=as_json)


def sheet(
    source: Clip,
    made: Mask = None,
    /,
    *,
    output: Output = None,
    moments: int = 5,
    force: Force = False,
) -> None:
    """Draw a contact sheet: rows of source, mask, overlay and cut-out, with frames and times.

    Args:
        output: The PNG to write, by default clip.sheet.png beside the clip.
        moments: The number of rows. Each row shows another frame of the clip.
    """
    from foremask.masking.library import contact_sheet

    with clip_file(source) as clip:
        made = _mask_of(source, made)
        target = output or source.with_name(f"{sequence_path(source).stem}.sheet.png")
        for remark in contact_sheet(clip, made, target, moments=moments, replace=force):
            note(f"warning: {remark}")
    say(str(target))


def open_(source: Clip, made: Mask = None, /) -> None:
    """Show a clip, its mask, and the mask over the clip in the browser."""
    from foremask.media.probe import probe as probe_clip

    check_clip(source)
    made = _mask_of(source, made)
    for each in (source, made):
        probe_clip(each)
    page = paths.cache_dir() / "look.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    shown = resources.files("foremask.cli").joinpath("look.html").read_text("utf-8")
    clip, mask = (html.escape(each.absolute().as_uri()) for each in (source, made))
    filled = Template(shown).substitute(name=html.escape(source.name), clip=clip, mask=mask)
    page.write_text(filled, "utf-8")
    if not webbrowser.open(page.as_uri()):
        say(f"there is no browser here; this page shows them: {page.as_uri()}")


def _mask_of(source: Path, made: Path | None) -> Path:
    if made is not None:
        check_clip(made)
        return made
    return made_next_to(source)


def made_next_to(source: Path, kind: ResultKind = ResultKind.MASK) -> Path:
    """Return the file that `foremask mask` or `cutout` makes of ``source`` without an OUTPUT.

    Raises Usage if there is none.
    """
    command = name = "mask"
    suffixes = list(PRESET_OF_SUFFIX)
    if kind is not ResultKind.MASK:
        command = "cutout"
        name = "cut-out"
        suffixes = [*dict.fromkeys([form.suffix for form in ALPHA_FORMS] + suffixes)]
    if source.suffix.lower() in PICTURE_SUFFIXES and not is_sequence(source):
        suffixes = [PNG]
    stem = sequence_path(source).stem
    likely = [source.with_name(f"{stem}.{command}{suffix}") for suffix in suffixes]
    for path in likely:
        if path.is_file():
            return path
    made_by = f"foremask {command} {source}"
    raise Usage(f"there is no {likely[0]}: name the {name}, or make it with {made_by}")


def _described(clip: dict[str, Any]) -> Iterator[str]:
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
        return
    who = "the service"
    if clip["local_service"] == "accepted":
        yield "a service on this machine would accept it"
        who = "one that others reach"
    yield f"{who} would refuse it: {verdict['details']} [{verdict['reason']}]"
