"""Plans and makes the outputs of commands: masks, cut-outs, and folders for matting tools."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foremask.cli.exits import Usage
from foremask.cli.sources import ClipSource, file_identity
from foremask.cli.standard_streams import STANDARD_OUTPUT
from foremask.errors import OutputFailed
from foremask.facts import Report
from foremask.options import (
    MEDIA_TYPES,
    Form,
    MaskOptions,
    MattingTool,
    Preset,
    ResultKind,
    ResultOptions,
    preset_for,
)

if TYPE_CHECKING:  # `masking` is slow to import: it loads numpy, av and cv2
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

    def form(self, target: Path) -> Form:
        return Form(preset_for(target, self.preset))

    def make(
        self, job: Job, clip: Path, options: MaskOptions, on_frame: "OnFrame", *, replaces: bool
    ) -> Report:
        from foremask.masking.pipeline import mask_video
        from foremask.masking.stills import mask_picture

        if job.form is None:
            return mask_picture(clip, job.target, options, replace=replaces)
        options = replace(options, preset=Preset(job.form))
        return mask_video(clip, job.target, options, on_frame, replace=replaces)


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders that a matting tool reads (docs/recipes.md)."""

    tool: MattingTool
    name, bar, done, suffix = "folder", "mask", "masked", ""
    kind, needs_model = ResultKind.COMPOSITE, True  # so `verify` expects opaque pictures

    @property
    def ending(self) -> str:
        return str(self.tool)

    def form(self, target: Path) -> Form:
        if target.suffix.lower() in MEDIA_TYPES:
            raise Usage(f"--for writes a folder of PNGs, and OUTPUT ends in {target.suffix}")
        return Form.PNG_FILES

    def make(
        self, job: Job, clip: Path, options: MaskOptions, on_frame: "OnFrame", *, replaces: bool
    ) -> Report:
        from foremask.masking.handoff import hand_off

        return hand_off(clip, job.target, self.tool, options, on_frame)


@dataclass(frozen=True, slots=True)
class CutOuts:
    result: ResultOptions
    preset: Form | None = None
    mask: Path | None = None
    name, ending, bar, done = "cut-out", "cutout", "cut out", "cut out"

    @property
    def kind(self) -> ResultKind:
        return self.result.kind

    @property
    def needs_model(self) -> bool:
        return self.mask is None

    @property
    def suffix(self) -> str:
        return (self.preset or Form.WEBM_VP9).suffix

    def form(self, target: Path) -> Form:
        from foremask.masking.cut_out import form_for

        return form_for(target, self.result, self.preset)

    def make(
        self, job: Job, clip: Path, options: MaskOptions, on_frame: "OnFrame", *, replaces: bool
    ) -> Report:
        from foremask.masking.cut_out import cut_out
        from foremask.masking.stills import cut_out_picture

        asked = clip, job.target, self.result, options
        if job.form is None:
            return cut_out_picture(*asked, self.mask, replace=replaces)
        return cut_out(*asked, job.form, on_frame, mask=self.mask, replace=replaces)


type Product = Masks | CutOuts | Folders


def plan_jobs(sources: Sequence[ClipSource], output: str | None, product: Product) -> list[Job]:
    """Plan one job for each source.

    Raises Usage if OUTPUT does not fit the sources, if two jobs have the same target, or if a
    job would replace a source.
    """
    jobs = [_job(source, len(sources), output, product) for source in sources]
    by_target: dict[Path, Job] = {}
    for job in jobs:
        other = by_target.setdefault(job.target.absolute(), job)
        if other is not job:
            raise Usage(
                f"the {product.name}s of {other.source.named} and {job.source.named} would both be"
                f" {job.target}: tell them apart by a template,"
                f' -o "{{dir}}/{{name}}.{product.ending}{{ext}}"'
            )
    files = [(file_identity(path), source) for source in sources for path in source.files]
    sources_by_file = {identity: source for identity, source in files if identity is not None}
    for job in jobs:
        identity = file_identity(job.target)
        replaced = None if identity is None else sources_by_file.get(identity)
        if replaced is job.source:
            raise Usage(f"OUTPUT is INPUT: {job.target} would be lost")
        if replaced is not None:
            raise Usage(
                f"the {product.name} of {job.source.named} would replace {replaced.named}, which is"
                " an INPUT too: choose another OUTPUT"
            )
    return jobs


def _job(source: ClipSource, number_of_sources: int, output: str | None, product: Product) -> Job:
    suffix = PNG if source.is_picture else product.suffix
    path = source.path
    made = f"{path.stem}.{product.ending}{suffix}"
    if output is None:
        if source.is_piped:
            raise Usage(
                f"where does the {product.name} go? -o {made} makes a file, -o - writes it to"
                " standard output"
            )
        target = path.with_name(made)
    elif "://" in output:
        raise Usage(f"OUTPUT is a file or a folder, and not {output}: upload it afterwards")
    elif output == STANDARD_OUTPUT and number_of_sources == 1:
        target = Path(STANDARD_OUTPUT)
    elif "{" in output or "}" in output:
        target = Path(_filled(output, source, suffix))
    elif output.endswith("/") or Path(output).is_dir():
        target = Path(output) / source.below / made
    elif number_of_sources > 1:
        raise Usage(
            f"{number_of_sources} clips are named, and one OUTPUT:"
            f" let it be a folder, -o {output}/,"
            f' or a template, -o "{{stem}}.{product.ending}{{ext}}"'
        )
    else:
        target = Path(output)
    named = Path(made) if target == Path(STANDARD_OUTPUT) else target
    if not source.is_picture:
        return Job(source, target, product.form(named))
    if isinstance(product, Folders):
        raise Usage(f"{source.named} is a picture: --fps makes a folder of them a clip")
    if named.suffix.lower() != PNG:
        raise Usage(f"the {product.name} of a picture is a PNG: let {target.name!r} end in {PNG}")
    return Job(source, target, None)


def _filled(template: str, source: ClipSource, suffix: str) -> str:
    path = source.path
    values = {"stem": path.stem, "name": path.name, "dir": str(path.parent), "ext": suffix}
    try:
        return template.format(**values)
    except (LookupError, ValueError, AttributeError, TypeError):
        known = ", ".join(f"{{{name}}}" for name in values)
        raise Usage(f"the OUTPUT template {template!r} cannot be read: it knows {known}") from None


def make_folder(target: Path, output: str | None) -> None:
    # If OUTPUT is one file, no folder is made: its folder must exist.
    if output is None or not (output.endswith("/") or "{" in output or Path(output).is_dir()):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{target.parent} cannot be made: {error.strerror}") from error
