"""Command-line options that several commands share."""

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from foremask.cli.exits import Usage
from foremask.errors import FieldInvalid
from foremask.hints.decoding import hints_as_typed
from foremask.hints.hint_parsing import hints_of_file, parse_paint, parse_point_or_box, seconds_of
from foremask.hints.kinds import Box, Hint, Point, Text, check_hints
from foremask.machine import paths, process_setup
from foremask.options import Device, Excerpt, Preset, Quality, Resources
from foremask.weights.catalogue import NetworkName

Shown = Parameter(show_default=False)
Flag = Parameter(negative="", show_default=False)
Switch = Annotated[bool, Flag]
AsJson = Annotated[bool, Flag, Parameter(name="--json", help="Print JSON.")]
Force = Annotated[bool, Flag, Parameter(help="Replace an existing OUTPUT.")]
ByPreset = Annotated[Preset | None, Parameter(name_transform=str.lower, show_choices=False)]
Output = Annotated[Path | None, Parameter(name=("--output", "-o"))]
Clip = Annotated[Path, Parameter(name="INPUT", help="The clip.")]


MAX_FPS: Final = 1000
Input = Annotated[str | Path, Parameter(name="INPUT")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """Options of the network that finds masks.

    Args:
        quality: Mask quality: fast, balanced (default) or best.
        device: Device for the network: auto, cpu...
        network: A network that `foremask models` lists.
        model: An ONNX model of your own (docs/models.md).
        threads: Use at most this many processor cores.
        cache: File or folder where network results are cached.
        no_cache: Do not cache network results.
    """

    quality: Annotated[Quality, Parameter(show_choices=False, show_default=False)] = (
        Quality.BALANCED
    )
    device: str = "auto"
    network: Annotated[NetworkName | str | None, Parameter(show_choices=False)] = None
    model: Path | None = None
    threads: int | None = None
    cache: Annotated[Path | None, Shown] = None
    no_cache: Switch = False

    def resources(self, *, runs_here: bool = True) -> Resources:
        """Check the options of the device. `model_commands.ready` finds the model."""
        if self.threads is not None:
            if self.threads < 1:
                raise Usage(f"--threads is 1 or more, and not {self.threads}")
            if runs_here:
                process_setup.limit_cores(self.threads)
        return Resources(device=Device.parse(self.device))

    def cache_of(self, *, is_one: bool) -> Path | None:
        """Return the file or folder of the cache. By default, several clips cache nothing."""
        if self.cache is not None and self.no_cache:
            raise Usage("--cache and --no-cache cannot both be")
        if self.cache is not None and not self.cache.absolute().parent.is_dir():
            raise Usage(f"there is no directory {self.cache.parent} for --cache")
        if self.cache is not None and not is_one and not self.cache.is_dir():
            raise Usage("a --cache file is of one clip: name a folder that is there, or one INPUT")
        if self.cache is not None:
            return self.cache
        if self.no_cache or not is_one:
            return None
        return _kept_results()


def _kept_results() -> Path | None:
    folder = paths.cache_dir() / "results"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None  # mask without a cache
    return folder


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class HintOptions:
    """Options that select the subject (docs/hints.md).

    Args:
        point: A point on the subject: x,y@FRAME or x,y@0.5s.
        against: A point outside the subject: x,y@FRAME.
        box: A box around the subject: x,y,width,height@FRAME.
        paint: A rough mask: mask.png@FRAME (docs/hints.md).
        hints: A JSON file of hints.
        say: Words for the subject, such as "the red car".
        tracker: Follow hints by sam2.1-tiny, edgetam...
    """

    point: Annotated[list[str] | None, Flag] = None
    against: Annotated[list[str] | None, Flag, Parameter(name="--not")] = None
    box: Annotated[list[str] | None, Flag] = None
    paint: Annotated[list[str] | None, Flag] = None
    hints: Annotated[Path | None, Shown] = None
    say: Annotated[list[str] | None, Flag] = None
    tracker: Annotated[str | None, Shown] = None

    def parsed(self) -> dict[str, Hint]:
        """Return all hints by what was typed, such as ``--point 640,360@12``.

        Those of the JSON file are first. Raises Usage for an invalid hint.
        """
        hints: dict[str, Hint] = {}
        try:
            if self.hints is not None:
                for number, hint in enumerate(hints_of_file(self.hints)):
                    hints[f"hints[{number}] of {self.hints}"] = hint
            hints |= {f"--paint {each}": parse_paint(each) for each in self.paint or ()}
            hints |= {f"--box {each}": parse_point_or_box(Box, each) for each in self.box or ()}
            for each in self.point or ():
                hints[f"--point {each}"] = parse_point_or_box(Point, each)
            for each in self.against or ():
                hints[f"--not {each}"] = parse_point_or_box(Point, each, negative=True)
            hints |= {f"--say {each!r}": Text(each) for each in self.say or ()}
            with hints_as_typed(tuple(hints)):
                check_hints(tuple(hints.values()))
        except FieldInvalid as error:
            raise Usage(error.details) from None
        return hints


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Options of inputs, outputs and messages.

    Args:
        out: File, folder/, template (docs/cli.md) or - (stdout).
        recursive: Include the clips in subfolders.
        skip_existing: Skip a clip whose OUTPUT exists and is complete.
        fail_fast: Stop at the first clip that fails.
        start: Begin at this time of the clip: 62.5 or 1:02.5.
        end: End before this time of the clip.
        fps: Join pictures into a clip at this fps: 24000/1001.
        as_json: Print one line of JSON for each INPUT.
        quiet: Show errors only.
        verbose: Show statistics and checksum of each output.
        explain: Show the stages of each mask, with their time.
        ray: Mask on a Ray cluster: auto, local, HOST:PORT.
    """

    # Path lets shells complete file names. The values are str, to keep the final slash of a folder.
    out: Annotated[str | Path | None, Shown, Parameter(name=("--output", "-o"))] = None
    recursive: Annotated[bool, Flag, Parameter(name=("--recursive", "-r"))] = False
    force: Annotated[Force, Parameter(name=("--force", "-f"))] = False
    skip_existing: Switch = False
    fail_fast: Switch = False
    start: str | None = None
    end: str | None = None
    fps: str | None = None
    as_json: Annotated[bool, Flag, Parameter(name="--json")] = False
    quiet: Annotated[bool, Flag, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[bool, Flag, Parameter(name=("--verbose", "-v"))] = False
    explain: Annotated[bool, Flag] = False
    ray: Annotated[str | None, Shown] = None
    network: NetworkChoice = NetworkChoice()
    hinted: HintOptions = HintOptions()

    @property
    def output(self) -> str | None:
        return None if self.out is None else str(self.out)

    @property
    def excerpt(self) -> Excerpt | None:
        """The part from --start to --end. Raises Usage for an invalid time."""
        return parse_excerpt(self.start, self.end)

    @property
    def rate(self) -> Fraction:
        """The frame rate of an image sequence. Raises Usage for an invalid --fps."""
        return rate_of(self.fps)


def rate_of(fps: str | None) -> Fraction:
    """The frame rate of an image sequence, by default 25. Raises Usage."""
    with suppress(ValueError, ZeroDivisionError):
        if 0 < (rate := Fraction(fps or "25")) <= MAX_FPS:
            return rate.limit_denominator(1_000_000)
    raise Usage(f"--fps is a rate up to {MAX_FPS}, as 25, 23.976 or 30000/1001, and not {fps!r}")


def parse_excerpt(start: str | None, end: str | None) -> Excerpt | None:
    """Return the part from ``start`` to ``end``, like 62.5 or 1:02.5. Raises Usage."""
    if start is None and end is None:
        return None
    start_s = _seconds(start or "0")
    end_s = None if end is None else _seconds(end)
    if end_s is not None and end_s <= start_s:
        raise Usage(f"--end {end} is not after --start {start or 0}")
    return Excerpt(start_s, end_s)


def _seconds(text: str) -> float:
    seconds = seconds_of(text)
    if seconds is None:
        raise Usage(f"a time is written as 12.5, 1:02.5 or 1:00:02.5, and not {text!r}")
    return seconds
