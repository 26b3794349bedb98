"""``foremask tracks``: the things that are found in a clip, and a mask of each."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from foremask.cli import model_commands
from foremask.cli.batch_options import NetworkOptions
from foremask.cli.exits import print_json, say
from foremask.cli.flags import AsJson, Clip, Force, Output, Shown
from foremask.cli.inputs import check_clip
from foremask.settings import read_settings

_JSON_HELP: Final = "Answer with JSON, which --thing of foremask mask reads."


def tracks(
    source: Clip,
    /,
    *,
    output: Output = None,
    masks: Annotated[Path | None, Shown] = None,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  (frozen)
    force: Annotated[Force, Parameter(name=("--force", "-f"))] = False,
    as_json: Annotated[AsJson, Parameter(help=_JSON_HELP)] = False,
) -> None:
    """List the things that are found in a clip, and the point that means each of them.

    Args:
        output: A PNG that shows them, each with its number.
        masks: A folder for one mask video of each thing.
    """
    from foremask.masking import thing_list
    from foremask.masking.outputs import check_output, check_png

    check_clip(source)
    if output is not None:
        check_png(output)
        check_output(output, source, replace=force)
    options = replace(
        network.mask_options(is_one=True),
        model=model_commands.ready(read_settings(os.environ), network.model),
    )
    things = thing_list.things_of(source, options)
    if output is not None:
        thing_list.things_picture(source, things, output, replace=force)
    made = []
    if masks is not None:
        made = thing_list.masks_of_things(source, things, masks, options, replace=force)
    if as_json:
        print_json({"things": msgspec.to_builtins(things), "masks": [str(each) for each in made]})
        return
    for thing in things:
        say(
            f"{thing.number}: frames {thing.first_frame} to {thing.last_frame},"
            f" {100 * thing.coverage:.1f} % of the picture,"
            f" {'in' if thing.in_mask else 'not in'} the mask,"
            f" --point {thing.hint.x:g},{thing.hint.y:g}@{thing.hint.frame}"
        )
    say(*(str(each) for each in (*([output] if output else ()), *made)))
