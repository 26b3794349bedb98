"""Plans and makes the outputs of commands: masks, cut-outs, and folders for matting tools."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Final

from foremask.cli.exits import Usage
from foremask.cli.sources import ClipSource, file_identity
from foremask.cli.standard_streams import STANDARD_OUTPUT
from foremask.errors import OutputFailed
from foremask.options import (
    MEDIA_TYPES,
    TOOL_FORMS,
    Form,
    JobSpec,
    Matte,
    Preset,
    ResultKind,
    ToolForm,
    file_behind,
    form_for,
)

PNG: Final = ".png"


@dataclass(frozen=True, slots=True)
class OutputJob:
    """One output to make; that of a picture is a PNG."""

    source: ClipSource
    target: Path
    form: Form

    @property
    def is_sent(self) -> bool:
        return self.target == Path(STANDARD_OUTPUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What a command makes of each input: a spec, and words that name the output.

    ``form`` is None if OUTPUT decides. ``spec.form`` is then the form without OUTPUT.
    """

    spec: JobSpec
    form: Form | None = None
    name: str
    ending: str  # of the output's name, before its suffix
    bar: str  # the label of the progress bar
    done: str
    background: Path | None = None
    mask: Path | None = None  # a mask to use instead of the network
    first_number: int | None = None  # of PNGs; None is that of the source

    @property
    def suffix(self) -> str:
        return (self.form or self.spec.form).suffix

    @property
    def checked_as(self) -> ResultKind:
        """The kind that `verify` expects; the pictures of a folder are opaque."""
        if self.form in TOOL_FORMS:
            return ResultKind.COMPOSITE
        return self.spec.kind

    def form_for(self, target: Path) -> Form:
        if self.form not in TOOL_FORMS:
            return form_for(target, self.spec.kind, self.form)
        if target.suffix.lower() in MEDIA_TYPES:
            raise Usage(f"--for writes a folder of PNGs, and OUTPUT ends in {target.suffix}")
        return self.form


def mask_product(preset: Preset | None) -> Product:
    form = None if preset is None else Form(preset)
    return Product(spec=JobSpec(), form=form, name="mask", ending="mask", bar="mask", done="masked")


def folder_product(tool: ToolForm) -> Product:
    """Folders that a matting tool reads (docs/recipes.md)."""
    return Product(spec=JobSpec(), form=tool, name="folder", ending=tool, bar="mask", done="masked")


def cut_out_product(background: str, matte: Matte, form: Form | None, mask: Path | None) -> Product:
    return Product(
        spec=JobSpec.of_cut_out(background, matte),
        form=form,
        name="cut-out",
        ending="cutout",
        bar="cut out",
        done="cut out",
        background=file_behind(background),
        mask=mask,
    )


def plan_jobs(
    sources: Sequence[ClipSource], output: str | None, product: Product
) -> list[OutputJob]:
    """Plan one job for each source.

    Raises Usage if OUTPUT does not fit the sources, if two jobs have the same target, or if a
    job would replace a source.
    """
    jobs = [_job(source, len(sources), output, product) for source in sources]
    by_target: dict[Path, OutputJob] = {}
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


def _job(
    source: ClipSource, number_of_sources: int, output: str | None, product: Product
) -> OutputJob:
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
        return OutputJob(source, target, product.form_for(named))
    if product.form in TOOL_FORMS:
        raise Usage(f"{source.named} is a picture: --fps makes a folder of them a clip")
    if named.suffix.lower() != PNG:
        raise Usage(f"the {product.name} of a picture is a PNG: let {target.name!r} end in {PNG}")
    return OutputJob(source, target, Form.PNG)


def _filled(template: str, source: ClipSource, suffix: str) -> str:
    path = source.path
    values = {"stem": path.stem, "name": path.name, "dir": str(path.parent), "ext": suffix}
    known = ", ".join(f"{{{name}}}" for name in values)
    wrong = Usage(f"the OUTPUT template {template!r} cannot be read: it knows {known}")
    try:
        pieces = list(Formatter().parse(template))
    except ValueError:
        raise wrong from None
    filled = ""
    for text, name, width, conversion in pieces:
        # Widths are no use here, and one of 99999999999 would take as much memory.
        if width or conversion or name not in (None, *values):
            raise wrong
        filled += text + ("" if name is None else values[name])
    return filled


def make_folder(target: Path, output: str | None) -> None:
    # If OUTPUT is one file, no folder is made: its folder must exist.
    if output is None or not (output.endswith("/") or "{" in output or Path(output).is_dir()):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{target.parent} cannot be made: {error.strerror}") from error
