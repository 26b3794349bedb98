"""``foremask cutout``: the subject of a clip on nothing, or on another background."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from foremask.cli import model_commands
from foremask.cli.exits import Usage, print_json, say, warn
from foremask.cli.file_commands import AsJson
from foremask.cli.hint_options import HintOptions, cache_of, hints_of
from foremask.cli.inputs import check_there, local_file
from foremask.cli.progress_bar import FRAMES, progress_bar
from foremask.cli.sources import name_of_url
from foremask.facts import Report
from foremask.options import (
    AlphaFormat,
    Background,
    CutOutOptions,
    Despill,
    Device,
    MaskOptions,
    Matte,
    Preset,
    Quality,
)
from foremask.settings import read_settings


def cutout(
    source: Annotated[str, Parameter(name="INPUT")],
    /,
    *more: Annotated[str, Parameter(show=False)],
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    background: str = "transparent",
    preset: Annotated[str | None, Parameter(name_transform=str.lower)] = None,
    quality: Quality = Quality.BALANCED,
    device: str = "auto",
    model: Path | None = None,
    invert: Annotated[bool, Parameter(negative="")] = False,
    black: float = 0.0,
    white: float = 1.0,
    gamma: float = 1.0,
    min_part: int = 0,
    grow: float = 0.0,
    feather: float = 0.0,
    despill: Despill = Despill.NONE,
    hinted: HintOptions | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    as_json: AsJson = False,
) -> None:
    """Cut the subject out: with a transparent background, or over another one.

    Args:
        source: The clip: a file, or an http(s) URL.
        more: Nothing: a second file is refused.
        output: What is made; its ending picks the preset: .webm, .mkv, .mov, .gif, .apng, .webp,
            .zip (of PNGs) or frames/%04d.png; with a background, .mp4 too. A file that is there
            already is refused. Without it, clip.mp4 is cut out into clip.cutout.webm beside it; a
            URL, into this directory.
        background: transparent; a colour by name or as #rrggbb; broadcast_green, chroma_green or
            blue_screen; blur or blur:RADIUS; original or original:BRIGHTNESS; or a picture or a
            video, which covers the frame, loops and is cut to its length.
        preset: webm_vp9, mkv_vp9, mov_proresks, gif, apng, webp, png_zip or png_files; with a
            background, any preset of `foremask mask`, too.
        quality: How much time a mask may take.
        device: Where the network runs: auto, cpu...
        model: An ONNX model of your own (docs/models.md).
        invert: Keep the background and cut away the subject.
        black: Alpha up to this becomes 0; 0 to 0.99.
        white: Alpha from this on becomes 1; 0.01 to 1.
        gamma: Over 1, soft edges become more opaque; 0.1 to 10.
        min_part: Parts of fewer pixels are left out.
        grow: Moves the outline outwards by so many pixels, and inwards below 0; -50 to 50.
        feather: Softens the outline over so many pixels to each side; 0 to 100.
        despill: Takes the green or the blue of a screen out of the subject.
        hinted: What is the subject.
        force: Replace an OUTPUT that is there already.
        as_json: Answer with the whole report as JSON.
    """
    settings = read_settings(os.environ)
    if more:
        raise Usage(
            f"{1 + len(more)} files are named, and `cutout` takes one INPUT; name the output with"
            " --output; nothing was changed"
        )
    if "://" not in source:
        check_there(Path(source))
    masking = MaskOptions(
        matte=Matte(invert, black, white, gamma, min_part, grow, feather, despill),
        quality=quality,
        device=Device.parse(device),
        hints=hints_of(hinted),
        cache=cache_of(hinted),
    )
    options = CutOutOptions(masking, _preset(preset), Background.parse(background))
    target = output or _default_target(source)
    from foremask.masking.cut_out import check_target, cut_out  # numpy, av, cv2: half a second
    from foremask.masking.report import Progress

    check_target(Path(source), target, options, replace=force)
    with local_file(source, settings) as clip:
        masking = replace(masking, model=model_commands.ready(settings, model))
        options = replace(options, mask=masking)
        with progress_bar("cut out", FRAMES) as show:

            def on_frame(progress: Progress) -> None:
                show(progress.frames_done, progress.frames_total)

            started_s = time.monotonic()
            report = cut_out(clip, target, options, on_frame, replace=force)
            took_s = time.monotonic() - started_s
    _show(report, target, took_s, as_json=as_json)


def _show(report: Report, target: Path, took_s: float, *, as_json: bool) -> None:
    if as_json:
        facts = {"output": str(target), "seconds": round(took_s, 2), **msgspec.to_builtins(report)}
        del facts["strip"]  # a row for each frame
        print_json(facts)
        return
    for remark in report.warnings:
        warn(remark)
    say(
        f"{target}: {report.kind}, {report.frames_out} frames, {report.duration_s:.2f} s; "
        f"made in {took_s:.1f} s ({report.frames_out / took_s:.1f} fps)"
    )


def _preset(name: str | None) -> Preset | AlphaFormat | None:
    if name is None:
        return None
    for known in (Preset, AlphaFormat):
        if name in list(known):
            return known(name)
    both = dict.fromkeys([*map(str, AlphaFormat), *map(str, Preset)])
    raise Usage(f"there is no preset {name!r}; use one of {', '.join(both)}")


def _default_target(source: str) -> Path:
    if "://" in source:
        source = name_of_url(source)
    return Path(source).with_suffix(".cutout.webm")
