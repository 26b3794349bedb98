"""What commands make of clips and pictures: masks, cut-outs, and folders for matting tools."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foremask.cli.exits import Usage
from foremask.cli.sources import ClipSource
from foremask.cli.standard_streams import STANDARD_OUTPUT
from foremask.facts import Report
from foremask.options import (
    MEDIA_TYPES,
    AlphaFormat,
    CutOutOptions,
    Form,
    MaskOptions,
    MattingTool,
    Preset,
    ResultKind,
    preset_for,
)

if TYPE_CHECKING:  # numpy, av and cv2 take half a second to import: only where they are used
    from foremask.masking.report import OnFrame

PNG: Final = ".png"


@dataclass(frozen=True, slots=True)
class Job:
    """One output to make; ``form`` is None for a picture, whose output is a PNG."""

    source: ClipSource
    target: Path
    form: Form | None

    @property
    def is_sent(self) -> bool:
        return self.target == Path(STANDARD_OUTPUT)


@dataclass(frozen=True, slots=True)
class Masks:
    preset: Preset | None = None
    name, ending, bar, done = "mask", "mask", "mask", "masked"
    kind, needs_model = ResultKind.MASK, True

    @property
    def suffix(self) -> str:
        return (self.preset or Preset.MP4_H264).suffix

    def form(self, target: Path) -> Preset:
        return preset_for(target, self.preset)

    def make(
        self, job: Job, clip: Path, options: MaskOptions, on_frame: "OnFrame", *, replaces: bool
    ) -> Report:
        from foremask.masking.pipeline import mask_video
        from foremask.masking.stills import mask_picture

        if not isinstance(job.form, Preset):
            return mask_picture(clip, job.target, options, replace=replaces)
        options = replace(options, preset=job.form)
        return mask_video(clip, job.target, options, on_frame, replace=replaces)


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders that a matting tool reads (docs/recipes.md)."""

    tool: MattingTool
    name, bar, done, suffix = "folder", "mask", "masked", ""
    kind, needs_model = ResultKind.COMPOSITE, True  # verified as opaque pictures

    @property
    def ending(self) -> str:
        return str(self.tool)

    def form(self, target: Path) -> AlphaFormat:
        if target.suffix.lower() in MEDIA_TYPES:
            raise Usage(f"--for writes a folder of PNGs, and OUTPUT ends in {target.suffix}")
        return AlphaFormat.PNG_FILES

    def make(
        self, job: Job, clip: Path, options: MaskOptions, on_frame: "OnFrame", *, replaces: bool
    ) -> Report:
        from foremask.masking.handoff import hand_off

        return hand_off(clip, job.target, self.tool, options, on_frame)


@dataclass(frozen=True, slots=True)
class CutOuts:
    options: CutOutOptions
    mask: Path | None = None
    name, ending, bar, done = "cut-out", "cutout", "cut out", "cut out"

    @property
    def kind(self) -> ResultKind:
        return self.options.kind

    @property
    def needs_model(self) -> bool:
        return self.mask is None

    @property
    def suffix(self) -> str:
        return self.options.suffix

    def form(self, target: Path) -> Form:
        from foremask.masking.cut_out import form_for

        return form_for(target, self.options)

    def make(
        self, job: Job, clip: Path, options: MaskOptions, on_frame: "OnFrame", *, replaces: bool
    ) -> Report:
        from foremask.masking.cut_out import cut_out
        from foremask.masking.stills import cut_out_picture

        target, asked = job.target, replace(self.options, mask=options)
        if job.form is None:
            return cut_out_picture(clip, target, asked, self.mask, replace=replaces)
        return cut_out(clip, target, asked, on_frame, mask=self.mask, replace=replaces)


type Product = Masks | CutOuts | Folders
