"""Where the mask of each clip goes, and which preset writes it.

Decided for all before the first is masked.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foremask.cli.exits import Usage
from foremask.cli.sources import ClipSource, file_identity
from foremask.errors import OutputFailed
from foremask.options import PRESET_OF_SUFFIX, Preset

PNG: Final = ".png"


@dataclass(frozen=True, slots=True)
class MaskJob:
    """One mask to make; without a ``preset`` it is a picture's, and a PNG."""

    source: ClipSource
    target: Path
    preset: Preset | None


def plan_jobs(
    sources: Sequence[ClipSource], output: str | None, preset: Preset | None
) -> tuple[list[MaskJob], list[ClipSource]]:
    """The jobs, and the sources that are left out because they are another's mask.

    Raises Usage where OUTPUT does not fit, where two masks would have one name, or where a mask
    would have the name of a source.
    """
    jobs = [_job(source, len(sources), output, preset) for source in sources]
    by_target: dict[Path, MaskJob] = {}
    for job in jobs:
        other = by_target.setdefault(job.target.absolute(), job)
        if other is not job:
            raise Usage(
                f"{other.source.named} and {job.source.named} would both be masked into"
                f" {job.target}:"
                ' tell them apart by a template, -o "{dir}/{name}.mask{ext}"'
            )
    files = [(file_identity(path), source) for source in sources for path in source.files]
    sources_by_file = {identity: source for identity, source in files if identity is not None}
    left_out = []
    for job in jobs:
        identity = file_identity(job.target)
        replaced = None if identity is None else sources_by_file.get(identity)
        if replaced is None:
            continue
        if replaced is job.source:
            raise Usage(f"OUTPUT is INPUT: {job.target} would be lost")
        if output is not None:
            raise Usage(
                f"the mask of {job.source.named} would replace {replaced.named}, which is to be"
                " masked too: choose another OUTPUT"
            )
        left_out.append(replaced)
    return [job for job in jobs if job.source not in left_out], left_out


def _job(
    source: ClipSource, number_of_sources: int, output: str | None, preset: Preset | None
) -> MaskJob:
    suffix = PNG if source.is_picture else (preset or Preset.MP4_H264).suffix
    path = source.path
    mask_name = f"{path.stem}.mask{suffix}"
    if output is None:
        target = Path(mask_name) if source.is_url else path.with_name(mask_name)
    elif "{" in output or "}" in output:
        target = Path(_filled(output, source, suffix))
    elif output.endswith("/") or Path(output).is_dir():
        target = Path(output) / source.below / mask_name
    elif number_of_sources > 1:
        raise Usage(
            f"{number_of_sources} clips are named, and one OUTPUT:"
            f" let it be a folder, -o {output}/,"
            ' or a template, -o "{stem}.mask{ext}"'
        )
    else:
        target = Path(output)
    if not source.is_picture:
        return MaskJob(source, target, _preset_of(target, preset))
    if target.suffix.lower() != PNG:
        raise Usage(f"the mask of a picture is a PNG: let {target.name!r} end in {PNG}")
    return MaskJob(source, target, None)


def _filled(template: str, source: ClipSource, suffix: str) -> str:
    path = source.path
    folder = "." if source.is_url else str(path.parent)
    # clip, clip.mov, the clip's folder, and the mask's ending with its dot
    values = {"stem": path.stem, "name": path.name, "dir": folder, "ext": suffix}
    try:
        return "".join(
            text + ("" if name is None else values[f"{name}{spec}{conversion or ''}"])
            for text, name, spec, conversion in string.Formatter().parse(template)
        )
    except (KeyError, ValueError):
        known = ", ".join(f"{{{name}}}" for name in values)
        raise Usage(f"the OUTPUT template {template!r} cannot be read: it knows {known}") from None


def _preset_of(target: Path, preset: Preset | None) -> Preset:
    suffix = target.suffix.lower()
    implied = PRESET_OF_SUFFIX.get(suffix)
    if preset is None:
        if implied is None:
            raise Usage(
                f"the preset does not follow from {target.name!r}: let OUTPUT end in"
                f" {', '.join(PRESET_OF_SUFFIX)}, or name one with --preset"
            )
        return implied
    if implied is not None and suffix != preset.suffix:
        raise Usage(f"OUTPUT ends in {suffix}, and {preset} writes {preset.suffix}")
    return preset


def make_folder(target: Path, output: str | None) -> None:
    """Make the folder that OUTPUT asks for, where it names one.

    A plain file's folder must be there.
    """
    if output is None or not (output.endswith("/") or "{" in output or Path(output).is_dir()):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{target.parent} cannot be made: {error.strerror}") from error
