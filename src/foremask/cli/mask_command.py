"""``foremask mask``: masks of files, folders, globs and URLs, one after the other."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from foremask.cli import model_commands
from foremask.cli.batch import Batch, Tone
from foremask.cli.exits import Exit, Usage, warn
from foremask.cli.hint_options import HintOptions, cache_of, hints_of
from foremask.cli.sources import ClipSource, find_sources
from foremask.cli.targets import MaskJob, plan_jobs
from foremask.cli.watching import watched_jobs
from foremask.hints.hint_words import seconds_of
from foremask.machine import process_setup
from foremask.options import Device, Excerpt, MaskOptions, Preset, Quality
from foremask.settings import read_settings

DEFAULT_FPS: Final = "25"
MAX_FPS: Final = 1000
MIN_SIDE_PX: Final = 16
Flag = Parameter(negative="", show_default=False)
Words = Parameter(name="INPUT", allow_leading_hyphen=True, show_default=False)  # for "-"

EXAMPLES = """Make mask videos: white is the foreground.

  foremask mask clip.mp4                            clip.mask.mp4 beside it
  foremask mask clip.mov -o mask.webm --point 640,360@12
  foremask mask footage/ -r -o masks/ --skip-existing
"""


def mask(
    inputs: Annotated[tuple[str | Path, ...], Words] = (),
    /,
    *,
    out: Annotated[str | Path | None, Parameter(name=("--output", "-o"))] = None,
    quality: Quality = Quality.BALANCED,
    preset: Annotated[
        Preset | None, Parameter(name_transform=str.lower, show_choices=False)
    ] = None,
    recursive: Annotated[bool, Flag, Parameter(name=("--recursive", "-r"))] = False,
    watch: Annotated[Path | None, Parameter(show_default=False)] = None,
    force: Annotated[bool, Flag, Parameter(name=("--force", "-f"))] = False,
    skip_existing: Annotated[bool, Flag] = False,
    fail_fast: Annotated[bool, Flag] = False,
    start: str | None = None,
    end: str | None = None,
    fps: str | None = None,
    max_size: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    model: Path | None = None,
    hinted: HintOptions | None = None,
    as_json: Annotated[bool, Flag, Parameter(name="--json")] = False,
    quiet: Annotated[bool, Flag, Parameter(name=("--quiet", "-q"))] = False,
    verbose: Annotated[bool, Flag, Parameter(name=("--verbose", "-v"))] = False,
) -> Exit:
    """Make mask videos: white is the foreground.

    Args:
        inputs: Files, folders, globs, URLs; - reads a list from standard input.
        out: A file, a folder/, or a template (docs/cli.md).
        quality: How much time a mask may take.
        preset: One of docs/media.md; else by OUTPUT's ending.
        recursive: Look into the folders of a folder.
        watch: Mask what comes into this folder, until Ctrl-C.
        force: Replace an OUTPUT that is there already.
        skip_existing: Skip a clip whose mask is there already and whole.
        fail_fast: Stop at the first clip that fails.
        start: Begin there: seconds from the first frame, or 1:02.5.
        end: End before there.
        fps: Of pictures that are a clip: 25, 30000/1001.
        max_size: The longer side of the mask, in pixels at most.
        threads: The most processor cores that are used.
        device: Where the network runs: auto, cpu...
        model: An ONNX model of your own (docs/models.md).
        hinted: What is the subject.
        as_json: Answer with one line of JSON for each INPUT.
        quiet: Show errors only.
        verbose: Show what each mask is made of and what it cost.
    """
    # Text always, since a path would lose the slashes of a URL: `Path` is for shell completion.
    words, output = tuple(map(str, inputs)), None if out is None else str(out)
    settings = read_settings(os.environ)
    if watch is None:
        found = _sources(words, output, recursive=recursive, joined=fps is not None)
        jobs: Iterable[MaskJob] = _jobs(found, output, preset, quiet=quiet)
    elif words or fps or skip_existing:
        raise Usage("--watch takes neither INPUT nor --fps nor --skip-existing")
    else:
        jobs = watched_jobs(watch, output, preset, recursive=recursive, replace=force)
    options = MaskOptions(
        quality=quality,
        device=Device.parse(device),
        excerpt=_excerpt(start, end),
        max_side_px=_checked_size(max_size),
        hints=hints_of(hinted, jobs, may_be_many=skip_existing),
        cache=cache_of(hinted),
    )
    if skip_existing and (start or end or max_size):
        raise Usage("--skip-existing checks whole masks: leave out --start, --end and --max-size")
    _limit_cores(threads)
    return Batch(
        jobs,
        output,
        options,
        _rate(fps or DEFAULT_FPS),
        settings,
        _tone(as_json=as_json, quiet=quiet, verbose=verbose),
        replace=force,
        skip_existing=skip_existing,
        fail_fast=fail_fast,
        find_model=lambda: model_commands.ready(settings, model),
    ).run()


def _tone(*, as_json: bool, quiet: bool, verbose: bool) -> Tone:
    if quiet and verbose:
        raise Usage("--quiet and --verbose cannot both be")
    return Tone(as_json, quiet, verbose)


def _checked_size(max_size: int | None) -> int | None:
    if max_size is not None and max_size < MIN_SIDE_PX:
        raise Usage(f"--max-size is {MIN_SIDE_PX} pixels or more, and not {max_size}")
    return max_size


def _limit_cores(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise Usage(f"--threads is 1 or more, and not {threads}")
    process_setup.limit_cores(threads)


def _sources(
    words: tuple[str, ...], output: str | None, *, recursive: bool, joined: bool
) -> list[ClipSource]:
    if not words:
        raise Usage("INPUT is missing: name a clip, a folder or a URL")
    for word in words:
        if word.startswith("-") and word != "-" and not Path(word).exists():
            raise Usage(f"there is no option {word}; `foremask mask --help` has them all")
    try:
        return find_sources(words, recursive=recursive, joined=joined)
    except Usage as error:
        raise _with_hint(error, words, output) from None


def _jobs(
    sources: list[ClipSource], output: str | None, preset: Preset | None, *, quiet: bool
) -> list[MaskJob]:
    jobs, left_out = plan_jobs(sources, output, preset)
    for source in left_out if not quiet else ():
        warn(f"{source.named} is the mask of another INPUT and is not masked itself")
    return jobs


def _excerpt(start: str | None, end: str | None) -> Excerpt | None:
    if start is None and end is None:
        return None
    start_s, end_s = _seconds(start or "0"), None if end is None else _seconds(end)
    if end_s is not None and end_s <= start_s:
        raise Usage(f"--end {end} is not after --start {start or 0}")
    return Excerpt(start_s, end_s)


def _seconds(text: str) -> float:
    seconds = seconds_of(text)
    if seconds is None:
        raise Usage(f"a time is written as 12.5, 1:02.5 or 1:00:02.5, and not {text!r}")
    return seconds


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= MAX_FPS:
        raise Usage(
            f"--fps is a rate up to {MAX_FPS}, as 25, 23.976 or 30000/1001, and not {text!r}"
        )
    return rate.limit_denominator(1_000_000)


def _with_hint(error: Usage, words: tuple[str, ...], output: str | None) -> Usage:
    """A hint for the old form ``mask IN OUT``, where OUT does not exist."""
    is_old = len(words) == 2 and output is None and "://" not in words[1]
    if not is_old or Path(words[1]).exists() or not ("://" in words[0] or Path(words[0]).exists()):
        return error
    return Usage(
        f"{error.details}; to write the mask there: foremask mask {words[0]} -o {words[1]}"
    )


def add_to(app: App) -> None:
    """Make it a command of ``app``, with its examples first."""
    app.command(mask, help=EXAMPLES, help_format="plaintext")
