"""What `foremask mask` and `foremask cutout` have in common: options, and how they become jobs."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from foremask.cli import model_commands, standard_streams
from foremask.cli.batch import Batch, Maker, Tone
from foremask.cli.exits import Exit, Usage, warn
from foremask.cli.hint_options import HintOptions, hints_of
from foremask.cli.sources import find_sources
from foremask.cli.targets import Job, plan_jobs
from foremask.cli.watching import watched_jobs
from foremask.hints.hint_words import seconds_of
from foremask.machine import paths, process_setup
from foremask.options import Device, Excerpt, MaskOptions, Quality
from foremask.settings import read_settings

DEFAULT_FPS: Final = "25"
MAX_FPS: Final = 1000
Flag = Parameter(negative="", show_default=False)
Shown = Parameter(show_default=False)
Input = Annotated[str | Path, Parameter(name="INPUT")]
Output = Parameter(name=("--output", "-o"), show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How masks are found.

    Parameters
    ----------
    quality
        Its time: fast, balanced (the usual) or best.
    device
        Where the network runs: auto, cpu...
    model
        An ONNX model of your own (docs/models.md).
    threads
        The most processor cores that are used.
    cache
        Where the network's results are kept for a second run.
    no_cache
        Keep none.
    """

    quality: Annotated[Quality, Parameter(show_choices=False, show_default=False)] = (
        Quality.BALANCED
    )
    device: str = "auto"
    model: Path | None = None
    threads: int | None = None
    cache: Annotated[Path | None, Shown] = None
    no_cache: Annotated[bool, Flag] = False

    def mask_options(self, *, is_one: bool) -> MaskOptions:
        """Of one clip the results are kept in the user's cache, unless that is said otherwise."""
        if self.threads is not None:
            if self.threads < 1:
                raise Usage(f"--threads is 1 or more, and not {self.threads}")
            process_setup.limit_cores(self.threads)
        if self.cache is not None and self.no_cache:
            raise Usage("--cache and --no-cache cannot both be")
        if self.cache is not None and not is_one and not self.cache.is_dir():
            raise Usage("a --cache file is of one clip: name a folder that is there, or one INPUT")
        cache = self.cache or (None if self.no_cache or not is_one else _kept_results())
        return MaskOptions(quality=self.quality, device=Device.parse(self.device), cache=cache)


def _kept_results() -> Path | None:
    folder = paths.cache_dir() / "results"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None  # it only saves time
    return folder


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What is made of which clips, and what is said of it.

    Parameters
    ----------
    out
        A file, a folder/, a template (docs/cli.md), or -.
    recursive
        Look into the folders of a folder.
    watch
        Take what comes into this folder, until Ctrl-C.
    force
        Replace an OUTPUT that is there already.
    skip_existing
        Skip a clip whose OUTPUT is there already and whole.
    fail_fast
        Stop at the first clip that fails.
    start
        Begin there: seconds from the first frame, or 1:02.5.
    end
        End before there.
    fps
        Of pictures that are a clip: 25, 30000/1001.
    as_json
        Answer with one line of JSON for each INPUT.
    quiet
        Show errors only.
    verbose
        Show what each is made of and what it cost.
    """

    out: Annotated[str | Path | None, Output] = None
    recursive: Annotated[bool, Flag, Parameter(name=("--recursive", "-r"))] = False
    watch: Annotated[Path | None, Shown] = None
    force: Annotated[bool, Flag, Parameter(name=("--force", "-f"))] = False
    skip_existing: Annotated[bool, Flag] = False
    fail_fast: Annotated[bool, Flag] = False
    start: str | None = None
    end: str | None = None
    fps: str | None = None
    as_json: Annotated[bool, Flag, Parameter(name="--json")] = False
    quiet: Annotated[bool, Flag, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[bool, Flag, Parameter(name=("--verbose", "-v"))] = False

    @property
    def output(self) -> str | None:
        """As text always, since a path would lose the slash of a folder."""
        return None if self.out is None else str(self.out)


def run_batch(
    command: str,
    inputs: Sequence[str | Path],
    asked: BatchOptions,
    network: NetworkOptions,
    hinted: HintOptions,
    maker: Maker,
    **more: Any,  # noqa: ANN401  # fields of MaskOptions
) -> Exit:
    """Make what the options ask for, of all inputs. Raises Usage before anything is made."""
    words, settings = tuple(map(str, inputs)), read_settings(os.environ)
    if asked.quiet and asked.verbose:
        raise Usage("--quiet and --verbose cannot both be")
    jobs: Iterable[Job] = _jobs(command, words, asked, maker)
    hints = hints_of(hinted, jobs, may_be_many=asked.skip_existing)
    is_one = isinstance(jobs, list) and len(jobs) == 1
    options = replace(
        network.mask_options(is_one=is_one),
        excerpt=_excerpt(asked.start, asked.end),
        hints=hints,
        **more,
    )
    if asked.skip_existing and (asked.start or asked.end or more.get("max_side_px")):
        raise Usage("--skip-existing checks whole masks: leave out --start, --end and --max-size")
    if isinstance(jobs, list) and any(job.is_sent for job in jobs):
        standard_streams.check_standard_output(as_json=asked.as_json)
    return Batch(
        jobs,
        asked.output,
        options,
        _rate(asked.fps or DEFAULT_FPS),
        settings,
        Tone(asked.as_json, asked.quiet, asked.verbose),
        replace=asked.force,
        skip_existing=asked.skip_existing,
        fail_fast=asked.fail_fast,
        find_model=lambda: model_commands.ready(settings, network.model),
        maker=maker,
    ).run()


def _jobs(command: str, words: tuple[str, ...], asked: BatchOptions, maker: Maker) -> Iterable[Job]:
    if asked.watch is not None:
        if words or asked.fps or asked.skip_existing:
            raise Usage("--watch takes neither INPUT nor --fps nor --skip-existing")
        return watched_jobs(
            asked.watch, asked.output, maker, recursive=asked.recursive, replace=asked.force
        )
    if not words:
        raise Usage(f"INPUT is missing: name a clip, a folder or a URL; foremask {command} --help")
    try:
        sources = find_sources(words, recursive=asked.recursive, joined=asked.fps is not None)
    except Usage as error:
        raise _with_hint(error, command, words, asked.output) from None
    jobs, left_out = plan_jobs(sources, asked.output, maker)
    for source in left_out if not asked.quiet else ():
        warn(f"{source.named} is the {maker.name} of another INPUT and is left out")
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


def _with_hint(error: Usage, command: str, words: tuple[str, ...], output: str | None) -> Usage:
    """A hint for the form ``mask IN OUT``, where OUT does not exist."""
    is_old = len(words) == 2 and output is None and "://" not in words[1]
    if not is_old or Path(words[1]).exists() or not ("://" in words[0] or Path(words[0]).exists()):
        return error
    return Usage(f"{error.details}; to write it there: foremask {command} {words[0]} -o {words[1]}")
