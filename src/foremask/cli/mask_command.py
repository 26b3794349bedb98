"""``foremask mask``: masks of files, folders, globs and URLs, one after the other."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from foremask.cli.batch import OnDone
from foremask.cli.batch_options import BatchOptions, Input, NetworkOptions, run_batch
from foremask.cli.exits import Exit, Usage
from foremask.cli.hint_options import HintOptions
from foremask.cli.standard_streams import STANDARD_OUTPUT
from foremask.cli.targets import Job, MaskProduct
from foremask.facts import Report
from foremask.masking.outputs import check_output
from foremask.options import (
    MEDIA_TYPES,
    AlphaFormat,
    MaskOptions,
    MattingTool,
    Preset,
    ResultKind,
)

MIN_SIDE_PX: Final = 16

EXAMPLES = """Make mask videos: white is the foreground.

  foremask mask clip.mp4                            clip.mask.mp4 beside it
  foremask mask clip.mov -o mask.webm --point 640,360@12
  foremask mask footage/ -r -o masks/ --skip-existing
"""


def mask(
    *inputs: Input,
    preset: Annotated[
        Preset | None, Parameter(name_transform=str.lower, show_choices=False)
    ] = None,
    tool: Annotated[
        MattingTool | None, Parameter(name="--for", show_choices=False, show_default=False)
    ] = None,
    max_size: int | None = None,
    asked: BatchOptions = BatchOptions(),  # noqa: B008  (frozen)
    network: NetworkOptions = NetworkOptions(),  # noqa: B008
    hinted: HintOptions = HintOptions(),  # noqa: B008
) -> Exit:
    """Make mask videos: white is the foreground.

    Args:
        inputs: Files, folders, globs, URLs; - is a clip or names by a pipe.
        preset: mp4_h264, webm_vp9, mov_proresks, ... (docs/media.md).
        tool: Folders for corridorkey, matanyone or videomama.
        max_size: The longer side of the mask, in pixels at most.
        asked: What is made.
        network: How masks are found.
        hinted: What is the subject.
    """
    if max_size is not None and max_size < MIN_SIDE_PX:
        raise Usage(f"--max-size is {MIN_SIDE_PX} pixels or more, and not {max_size}")
    maker = MaskMaker(preset) if tool is None else HandOffMaker(tool)
    if tool is not None and (preset is not None or asked.output == STANDARD_OUTPUT):
        raise Usage("--for writes a folder of PNGs: leave out --preset and -o -")
    return run_batch("mask", inputs, asked, network, hinted, maker, max_side_px=max_size)


@dataclass(frozen=True, slots=True)
class MaskMaker(MaskProduct):
    """Makes masks."""

    done: str = "masked"
    bar: str = "mask"
    needs_model: bool = True

    def check(self, job: Job, *, replace: bool) -> None:
        check_output(job.target, *job.source.files, replace=replace)

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
        if not isinstance(job.form, Preset):
            from foremask.masking.stills import mask_picture

            return mask_picture(clip, target, options, replace=replaces)
        from foremask.masking.pipeline import mask_video  # numpy, av, cv2: half a second

        options = replace(options, preset=job.form)
        return mask_video(clip, target, options, on_frame, replace=replaces)

    def verify(self, job: Job, clip: Path) -> None:
        from foremask.masking.stills import verify_picture
        from foremask.media.verify import verify

        (verify_picture if job.form is None else verify)(clip, job.target)


@dataclass(frozen=True, slots=True)
class HandOffMaker:
    """Makes folders that a matting tool reads (docs/recipes.md)."""

    tool: MattingTool
    name: str = "folder"
    suffix: str = ""
    done: str = "masked"
    bar: str = "mask"
    needs_model: bool = True

    @property
    def ending(self) -> str:
        return str(self.tool)

    def form(self, target: Path) -> AlphaFormat:
        if target.suffix.lower() in MEDIA_TYPES:
            raise Usage(f"--for writes a folder of PNGs, and OUTPUT ends in {target.suffix}")
        return AlphaFormat.PNG_FILES

    def check(self, job: Job, *, replace: bool) -> None:  # a folder is never replaced
        from foremask.masking.handoff import check_folder

        if job.source.is_picture:
            raise Usage(f"{job.source.named} is a picture: --fps makes a folder of them a clip")
        check_folder(job.target)

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
        from foremask.masking.handoff import hand_off

        return hand_off(clip, target, self.tool, options, on_frame)

    def verify(self, job: Job, clip: Path) -> None:
        from foremask.media.verify import verify

        verify(clip, job.target, ResultKind.COMPOSITE)  # its frames, that is: all that is opaque


def add_to(app: App) -> None:
    """Make it a command of ``app``, with its examples first."""
    app.command(mask, help=EXAMPLES, help_format="plaintext")
