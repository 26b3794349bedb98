"""``foremask mask`` and ``foremask cutout``: of files, folders, globs and URLs."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from foremask.cli.batch import run_batch
from foremask.cli.batch_options import BatchOptions, Input
from foremask.cli.exits import Exit, Usage
from foremask.cli.flags import ByPreset, Shown, Switch
from foremask.cli.inputs import check_there
from foremask.cli.products import CutOuts, Folders, Masks
from foremask.cli.standard_streams import STANDARD_OUTPUT
from foremask.options import (
    AlphaFormat,
    Background,
    CutOutOptions,
    Despill,
    Matte,
    MattingTool,
    Preset,
)

MIN_SIDE_PX: Final = 16

MASK_EXAMPLES: Final = """Make mask videos: white is the foreground.

  foremask mask clip.mp4                            clip.mask.mp4 beside it
  foremask mask clip.mov -o mask.webm --point 640,360@12
  foremask mask footage/ -r -o masks/ --skip-existing
"""


CUTOUT_EXAMPLES: Final = """Cut the subject out: with a transparent background, or over another one.

  foremask cutout clip.mp4                          clip.cutout.webm beside it
  foremask cutout photo.jpg -o cut.png
  foremask cutout clip.mp4 -o beach.mp4 --background beach.jpg
"""


def mask(
    *inputs: Input,
    preset: ByPreset = None,
    tool: Annotated[
        MattingTool | None, Parameter(name="--for", show_choices=False, show_default=False)
    ] = None,
    max_size: int | None = None,
    asked: BatchOptions = BatchOptions(),  # noqa: B008  (frozen)
) -> Exit:
    """Make mask videos: white is the foreground.

    Args:
        inputs: Files, folders, globs, URLs; - is a clip or names by a pipe.
        preset: mp4_h264, webm_vp9, mov_proresks, ... (docs/media.md).
        tool: Folders for corridorkey, matanyone or videomama.
        max_size: The longer side of the mask, in pixels at most.
    """
    if max_size is not None and max_size < MIN_SIDE_PX:
        raise Usage(f"--max-size is {MIN_SIDE_PX} pixels or more, and not {max_size}")
    product = Masks(preset) if tool is None else Folders(tool)
    if tool is not None and (preset is not None or asked.output == STANDARD_OUTPUT):
        raise Usage("--for writes a folder of PNGs: leave out --preset and -o -")
    return run_batch("mask", inputs, asked, product, max_side_px=max_size)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What is done to the mask, and then to the colours (docs/cutouts.md).

    Args:
        invert: Keep the background and cut away the subject.
        black: Alpha up to this becomes 0; 0 to 0.99.
        white: Alpha from this on becomes 1; 0.01 to 1.
        gamma: Over 1, soft edges become more opaque; 0.1 to 10.
        min_part: Parts of fewer pixels are left out.
        grow: Moves the outline outwards; -50 to 50 pixels.
        feather: Softens the outline; 0 to 100 pixels to each side.
        despill: Takes the colour of a screen out of the subject.
    """

    invert: Switch = False
    black: float = 0.0
    white: float = 1.0
    gamma: float = 1.0
    min_part: int = 0
    grow: float = 0.0
    feather: float = 0.0
    despill: Despill = Despill.NONE

    @property
    def matte(self) -> Matte:
        return Matte(*astuple(self))


def cutout(
    *inputs: Input,
    background: str = "transparent",
    mask: Annotated[Path | None, Shown] = None,
    preset: Annotated[str | None, Parameter(name_transform=str.lower)] = None,
    edges: EdgeOptions = EdgeOptions(),
    asked: BatchOptions = BatchOptions(),  # noqa: B008
) -> Exit:
    """Cut the subject out: with a transparent background, or over another one.

    Args:
        inputs: Files, folders, globs, URLs; - is a clip or names by a pipe.
        background: A colour by name or #rrggbb; blur:RADIUS; original:BRIGHTNESS; or a file.
        mask: Cut out by this mask of INPUT; the network is not asked.
        preset: webm_vp9 mkv_vp9 mov_proresks gif apng webp png_zip png_files; see mask's, too.
    """
    if mask is not None:
        check_there(mask)
        if len(inputs) != 1:
            raise Usage("--mask is of one clip: name one INPUT")
    options = CutOutOptions(preset=_preset(preset), background=Background.parse(background))
    product = CutOuts(options, mask)
    return run_batch("cutout", inputs, asked, product, matte=edges.matte)


def _preset(name: str | None) -> Preset | AlphaFormat | None:
    if name is None:
        return None
    for known in (Preset, AlphaFormat):
        if name in list(known):
            return known(name)
    both = dict.fromkeys([*map(str, AlphaFormat), *map(str, Preset)])
    raise Usage(f"there is no preset {name!r}; use one of {', '.join(both)}")
