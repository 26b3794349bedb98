"""``foremask mask``, ``cutout``, ``tracks``, ``live``: make masks and cut-outs, and list things."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foremask.cli import model_commands, standard_streams
from foremask.cli.batch import run_batch
from foremask.cli.batch_options import (
    AsJson,
    BatchOptions,
    ByPreset,
    Clip,
    Force,
    Input,
    NetworkChoice,
    Output,
    Shown,
    Switch,
)
from foremask.cli.exits import Exit, Usage, answer, note
from foremask.cli.products import cut_out_product, folder_product, mask_product
from foremask.cli.sources import check_clip, check_there, clip_file
from foremask.options import (
    Background,
    Despill,
    Device,
    JobSpec,
    Matte,
    ToolForm,
    form_named,
)
from foremask.settings import read_settings

MOST_NUMBER = 1_000_000_000


def mask(
    *inputs: Input,
    preset: ByPreset = None,
    tool: Annotated[
        ToolForm | None, Parameter(name="--for", show_choices=False, show_default=False)
    ] = None,
    asked: BatchOptions = BatchOptions(),  # noqa: B008  (frozen)
) -> Exit:
    """Make mask videos: white is the foreground.

    foremask mask clip.mp4                            clip.mask.mp4 beside it
    foremask mask clip.mov -o mask.webm --point 640,360@12
    foremask mask footage/ -r -o masks/ --skip-existing

    Args:
        inputs: Files, folders, globs, URLs; - is standard input.
        preset: mp4_h264, webm_vp9, mov_proresks, ... (docs/media.md).
        tool: Folders for corridorkey, matanyone or videomama.
    """
    if tool is None:
        return run_batch("mask", inputs, asked, mask_product(preset))
    if preset is not None or asked.output == standard_streams.STANDARD_OUTPUT:
        raise Usage("--for writes a folder of PNGs: leave out --preset and -o -")
    return run_batch("mask", inputs, asked, folder_product(tool))


def cutout(
    *inputs: Input,
    background: str = "transparent",
    mask: Annotated[Path | None, Shown] = None,
    preset: Annotated[str | None, Parameter(name_transform=str.lower)] = None,
    first_number: Annotated[int | None, Shown] = None,
    invert: Switch = False,
    black: float = 0.0,
    white: float = 1.0,
    gamma: float = 1.0,
    min_part: int = 0,
    grow: float = 0.0,
    feather: float = 0.0,
    despill: Despill = Despill.NONE,
    asked: BatchOptions = BatchOptions(),  # noqa: B008
) -> Exit:
    """Cut out the subject: make the background transparent, or replace it.

    foremask cutout clip.mp4                          clip.cutout.webm beside it
    foremask cutout photo.jpg -o cut.png
    foremask cutout clip.mp4 -o beach.mp4 --background beach.jpg

    Args:
        inputs: Files, folders, globs, URLs; - is standard input.
        background: A colour by name or #rrggbb; blur:RADIUS; original:BRIGHTNESS; or a file.
        mask: Use this existing mask of INPUT instead of the network.
        preset: webm_vp9 mkv_vp9 mov_proresks gif png_zip png_files (more with --background).
        first_number: Number of the first PNG, such as 1001; INPUT's own, or else 1.
        invert: Keep the background and cut away the subject.
        black: The largest alpha that becomes 0; 0 to 0.99.
        white: The smallest alpha that becomes 1; 0.01 to 1.
        gamma: Above 1, make soft edges more opaque; 0.1 to 10.
        min_part: Remove connected parts smaller than this, in pixels.
        grow: Move the outline outwards; -50 to 50 pixels.
        feather: Soften the outline by 0 to 100 pixels to each side.
        despill: Remove the colour of a green or blue screen from the subject.
    """
    if mask is not None:
        check_there(mask)
        if len(inputs) != 1:
            raise Usage("--mask is of one clip: name one INPUT")
    form = None if preset is None else form_named(preset)
    matte = Matte(
        invert=invert,
        black=black,
        white=white,
        gamma=gamma,
        min_part_px=min_part,
        grow_px=grow,
        feather_px=feather,
        despill=despill,
    )
    if first_number is not None and not 0 <= first_number <= MOST_NUMBER:
        raise Usage(f"--first-number is 0 to {MOST_NUMBER}, and not {first_number}")
    product = cut_out_product(background, matte, form, mask)
    return run_batch("cutout", inputs, asked, replace(product, first_number=first_number))


def tracks(
    source: Clip,
    /,
    *,
    output: Output = None,
    masks: Annotated[Path | None, Shown] = None,
    network: NetworkChoice = NetworkChoice(),  # noqa: B008  (frozen)
    force: Annotated[Force, Parameter(name=("--force", "-f"))] = False,
    as_json: AsJson = False,
) -> None:
    """List the things in a clip, each with a point that selects it.

    Args:
        output: A PNG that shows the things, each with its number.
        masks: A folder for a mask video of each thing.
    """
    from foremask.masking import thing_list
    from foremask.masking.outputs import check_output, check_png

    if output is not None:
        check_png(output)
        check_output(output, source, replace=force)
    made: list[str] = []
    with clip_file(source) as clip:
        cache = network.cache_of(is_one=True)
        resources = replace(
            network.resources(), model=model_commands.ready(read_settings(os.environ), network)
        )
        things = thing_list.things_of(clip, network.quality, resources, cache)
        if output is not None:
            thing_list.things_picture(clip, things, output, replace=force)
        if masks is not None:
            spec = JobSpec(quality=network.quality)
            paths = thing_list.masks_of_things(
                clip, things, masks, spec, resources, cache=cache, replace=force
            )
            made = list(map(str, paths))
    lines = [
        f"{thing.number}: frames {thing.first_frame} to {thing.last_frame},"
        f" {100 * thing.coverage:.1f} % of the picture,"
        f" {'in' if thing.in_mask else 'not in'} the mask,"
        f" --point {thing.hint.x:g},{thing.hint.y:g}@{thing.hint.frame}"
        for thing in things
    ]
    written = made if output is None else [str(output), *made]
    answer({"things": things, "masks": made}, [*lines, *written], as_json=as_json)


def live(
    source: Annotated[str, Parameter(name="INPUT")],
    /,
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = "-",
    background: str = "transparent",
    device: str = "auto",
) -> None:
    """Mask live video from a camera or a pipe; `mask` is more accurate.

    Args:
        source: A camera such as /dev/video0, a clip, or - for standard input.
        output: Always - (standard output): uncompressed video in NUT, for a pipe.
        background: The background, given as for `foremask cutout`.
        device: Device for the network: auto, cpu...
    """
    behind = Background.parse(background)
    runs_on = Device.parse(device)
    _check_live(source, output)
    from foremask.masking.live import LiveReport, mask_live
    from foremask.vision.network.devices import network_at

    network = network_at(model_commands.ready(read_settings(os.environ)), runs_on)
    note(f"live: {source}, until Ctrl-C")
    report = LiveReport()
    try:
        with suppress(BrokenPipeError):  # the process that reads the pipe has ended
            mask_live(Path(source), sys.stdout.buffer, network, behind, report)
    finally:
        note(f"live: {report}")
        if report.advice is not None:
            note(f"live: {report.advice}")


def _check_live(source: str, output: str) -> None:
    path = Path(source)
    if source == standard_streams.STANDARD_INPUT:
        standard_streams.check_standard_input()
        if path.is_char_device():  # for instance /dev/null
            raise Usage(standard_streams.EMPTY)
    if "://" in source:
        raise Usage(f"live opens no URL: ffmpeg -i {source} -f nut - | foremask live -")
    if not path.exists():
        raise Usage(f"there is no camera or file {source}")
    if not (path.is_char_device() or path.is_fifo()):
        check_clip(path)
    if output not in ("-", standard_streams.STANDARD_OUTPUT):
        raise Usage(f"live writes to a pipe, and not to {output}: ... | ffmpeg -i - {output}")
    standard_streams.check_standard_output(as_json=False)
