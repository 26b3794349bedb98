"""``foremask live``: masks of a camera or a pipe, as it runs."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foremask.cli import model_commands, standard_streams
from foremask.cli.exits import Usage, note
from foremask.cli.inputs import check_clip
from foremask.options import Background, Device
from foremask.settings import read_settings


def live(
    source: Annotated[str, Parameter(name="INPUT")],
    /,
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = "-",
    background: str = "transparent",
    device: str = "auto",
) -> None:
    """Mask a live source.

    Args:
        source: A camera such as /dev/video0, a clip, or - for standard input.
        output: Only - (standard output), which gets uncompressed frames in NUT.
        background: What the subject is shown over, written as for cutout.
        device: Where the network runs: auto, cpu...
    """
    behind, runs_on = Background.parse(background), Device.parse(device)
    _check(source, output)
    from foremask.masking.live import LiveReport, mask_live
    from foremask.vision.network.devices import network_at

    network = network_at(model_commands.ready(read_settings(os.environ)), runs_on)
    note(f"live: {source}, until Ctrl-C")
    report = LiveReport()
    try:
        with suppress(BrokenPipeError):  # the program that shows the frames was closed
            mask_live(Path(source), sys.stdout.buffer, network, behind, report)
    finally:
        note(f"live: {report}")


def _check(source: str, output: str) -> None:
    path = Path(source)
    if source == standard_streams.STANDARD_INPUT:
        standard_streams.check_standard_input()
        if path.is_char_device():  # such as /dev/null; a camera is named by its path
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
