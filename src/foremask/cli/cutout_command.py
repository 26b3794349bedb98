"""``foremask cutout``: the subject of clips on nothing, or on another background."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from foremask.cli.batch import OnDone
from foremask.cli.batch_options import BatchOptions, Input, NetworkOptions, run_batch
from foremask.cli.exits import Exit, Usage
from foremask.cli.hint_options import HintOptions
from foremask.cli.inputs import check_there
from foremask.cli.targets import Job
from foremask.facts import Report
from foremask.options import (
    AlphaFormat,
    Background,
    CutOutOptions,
    Despill,
    Form,
    MaskOptions,
    Matte,
    Preset,
    ResultKind,
)

EXAMPLES = """Cut the subject out: with a transparent background, or over another one.

  foremask cutout clip.mp4                          clip.cutout.webm beside it
  foremask cutout photo.jpg -o cut.png
  foremask cutout clip.mp4 -o beach.mp4 --background beach.jpg
"""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What is done to the mask, and then to the colours (docs/cutouts.md).

    Parameters
    ----------
    invert
        Keep the background and cut away the subject.
    black
        Alpha up to this becomes 0; 0 to 0.99.
    white
        Alpha from this on becomes 1; 0.01 to 1.
    gamma
        Over 1, soft edges become more opaque; 0.1 to 10.
    min_part
        Parts of fewer pixels are left out.
    grow
        Moves the outline outwards; -50 to 50 pixels.
    feather
        Softens the outline; 0 to 100 pixels to each side.
    despill
        Takes the colour of a screen out of the subject.
    """

    invert: Annotated[bool, Parameter(negative="", show_default=False)] = False
    black: float = 0.0
    white: float = 1.0
    gamma: float = 1.0
    min_part: int = 0
    grow: float = 0.0
    feather: float = 0.0
    despill: Despill = Despill.NONE

    @property
    def matte(self) -> Matte:
        return Matte(
            self.invert,
            self.black,
            self.white,
            self.gamma,
            self.min_part,
            self.grow,
            self.feather,
            self.despill,
        )


def cutout(
    *inputs: Input,
    background: str = "transparent",
    mask: Annotated[Path | None, Parameter(show_default=False)] = None,
    preset: Annotated[str | None, Parameter(name_transform=str.lower)] = None,
    edges: EdgeOptions = EdgeOptions(),
    asked: BatchOptions = BatchOptions(),  # noqa: B008
    network: NetworkOptions = NetworkOptions(),  # noqa: B008
    hinted: HintOptions = HintOptions(),  # noqa: B008
) -> Exit:
    """Cut the subject out: with a transparent background, or over another one.

    Args:
        inputs: Files, folders, globs, URLs; - is a clip or names by a pipe.
        background: A colour by name or #rrggbb; blur:RADIUS; original:BRIGHTNESS; or a file.
        mask: Cut out by this mask of INPUT; the network is not asked.
        preset: webm_vp9 mkv_vp9 mov_proresks gif apng webp png_zip png_files; see mask's, too.
        edges: What is done to the mask.
        asked: What is made.
        network: How masks are found.
        hinted: What is the subject.
    """
    if mask is not None:
        check_there(mask)
        if len(inputs) != 1:
            raise Usage("--mask is of one clip: name one INPUT")
    options = CutOutOptions(preset=_preset(preset), background=Background.parse(background))
    maker = CutOutMaker(options, mask)
    return run_batch("cutout", inputs, asked, network, hinted, maker, matte=edges.matte)


@dataclass(frozen=True, slots=True)
class CutOutMaker:
    """Makes cut-outs; with ``mask``, by a mask that is there already."""

    options: CutOutOptions
    mask: Path | None = None
    name: str = "cut-out"
    ending: str = "cutout"
    done: str = "cut out"
    bar: str = "cut out"

    @property
    def suffix(self) -> str:
        return ".webm" if self.options.preset is None else self.options.preset.suffix

    @property
    def needs_model(self) -> bool:
        return self.mask is None

    def form(self, target: Path) -> Form:
        from foremask.masking.cut_out import form_for

        return form_for(target, self.options)

    def check(self, job: Job, *, replace: bool) -> None:
        from foremask.masking.cut_out import check_target
        from foremask.masking.outputs import check_output

        check_output(job.target, *job.source.files, *_listed(self.mask), replace=True)
        if job.form is None:
            check_output(job.target, replace=replace)
        else:
            check_target(job.source.path, job.target, self.options, replace=replace)

    def make(
        self,
        job: Job,
        clip: Path,
        target: Path,
        options: MaskOptions,
        on_frame: OnDone,
        *,
        replaces: bool,
    ) -> Report:
        from foremask.masking.cut_out import cut_out
        from foremask.masking.cut_out_by_mask import cut_out_by_mask
        from foremask.masking.stills import cut_out_picture

        cut = replace(self.options, mask=options)
        if job.form is None:
            return cut_out_picture(clip, target, cut, self.mask, replace=replaces)
        if self.mask is not None:
            return cut_out_by_mask(clip, self.mask, target, cut, on_frame, replace=replaces)
        return cut_out(clip, target, cut, on_frame, replace=replaces)

    def verify(self, job: Job, clip: Path) -> None:
        from foremask.masking.stills import verify_picture
        from foremask.media.verify import verify

        if job.form is None:
            verify_picture(clip, job.target)
        else:
            opaque = self.options.background is not None
            verify(clip, job.target, ResultKind.COMPOSITE if opaque else ResultKind.CUTOUT)


def _listed(path: Path | None) -> list[Path]:
    return [] if path is None else [path]


def _preset(name: str | None) -> Preset | AlphaFormat | None:
    if name is None:
        return None
    for known in (Preset, AlphaFormat):
        if name in list(known):
            return known(name)
    both = dict.fromkeys([*map(str, AlphaFormat), *map(str, Preset)])
    raise Usage(f"there is no preset {name!r}; use one of {', '.join(both)}")


def add_to(app: App) -> None:
    """Make it a command of ``app``, with its examples first."""
    app.command(cutout, help=EXAMPLES, help_format="plaintext")
