"""What a media child can be asked: one Struct for each request, which names the type of its result.

Both sides import this module, so it loads no library. What executes a request is in execution.py,
which only a child imports. A new operation is a Struct here and a function there.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import get_original_bases
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import msgspec

from foremask.facts import SEGMENT_GRID, Clip, Report, SegmentGrid, SegmentPlan, Span, Written
from foremask.options import Device, Limits, MaskOptions, Matte, Preset, ResultKind, ResultOptions

Input = Annotated[Path, "input"]
"""A file that the child may read; the child sees a link of its own."""
Output = Annotated[Path, "output"]
"""A file that the child writes; it is there when the operation has succeeded."""


class Request[R](msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One operation with its arguments; R is the type of its result.

    Paths of files are `Input`, `Output`, or tuples of them. A field of type Path is passed as it
    is: the pool's ``readable`` says which paths a child may read besides.
    """

    needs_network: ClassVar[bool] = False
    """Whether the child needs the network's file and its share of the memory."""
    outlives_refusal: ClassVar[bool] = False
    """Whether the child goes on after it has refused: it has only read a header."""


class Probe(Request[Clip], frozen=True):
    """Read the header of a file; refuse what cannot be masked, or not into ``preset``.

    ``preset`` names a form of results of that ``kind``. Without ``source`` the file has ``size``
    bytes, which the parent reads.
    """

    outlives_refusal = True

    source: Input | None
    limits: Limits
    preset: str | None = None
    kind: ResultKind = ResultKind.MASK
    size: int = 0


class ProbeBackground(Request[None], frozen=True):
    """Refuse what cannot be put behind a subject; ``source`` and ``size`` as in `Probe`."""

    outlives_refusal = True

    source: Input | None
    limits: Limits
    size: int = 0


class Load(Request[None], frozen=True):
    """Load the network, so that the first mask does not wait for it."""

    needs_network = True

    model: Path
    device: Device = Device()


class Mask(Request[Report], frozen=True):
    """Mask a clip, or a span of one.

    ``known`` is the network cache of an earlier job; ``kept`` is written with it and this job's
    results.
    """

    needs_network = True

    source: Input
    target: Output
    options: MaskOptions
    span: Span | None = None
    known: Input | None = None
    kept: Output | None = None


class PictureMask(msgspec.Struct, frozen=True):
    """The mask of a picture, upright, as PNG."""

    png: bytes
    width: int
    height: int


class MaskPicture(Request[PictureMask], frozen=True):
    """Mask one picture, a file's bytes; all hints are on it."""

    needs_network = True

    picture: bytes
    options: MaskOptions


class CutOut(Request[Report], frozen=True):
    """Cut the subject out of a clip, or of a span of one; ``background`` is put behind it.

    ``options`` are the mask's; their preset is ignored. ``clip_start_s`` is that of the whole clip.
    The mask goes to ``mask_target``, where there is memory for another encoder. ``known`` and
    ``kept`` as in `Mask`.
    """

    needs_network = True

    source: Input
    target: Output
    preset: str
    options: MaskOptions
    result: ResultOptions
    background: Input | None = None
    span: Span | None = None
    clip_start_s: float | None = None
    mask_target: Output | None = None
    known: Input | None = None
    kept: Output | None = None


class CutOutByMask(Request[Report], frozen=True):
    """Cut the subject out of a clip by a mask of it."""

    source: Input
    mask: Input
    target: Output
    preset: str
    limits: Limits
    result: ResultOptions
    background: Input | None = None


class Plan(Request[tuple[SegmentPlan, ...]], frozen=True):
    """Where to cut a clip, into how many spans at most; one span is the whole clip."""

    source: Input
    most: int
    grid: SegmentGrid = SEGMENT_GRID


class Cut(Request[None], frozen=True):
    """Copy a span, and what its decoding needs, into a file of its own."""

    source: Input
    span: SegmentPlan
    target: Output


class Join(Request[Written], frozen=True):
    """One mask of the parts, or one cut-out, in order, with the sound of ``source``."""

    parts: tuple[Input, ...]
    source: Input
    target: Output
    preset: str
    kind: ResultKind = ResultKind.MASK
    keep_sound: bool = True


class Recode(Request[Written], frozen=True):
    """Encode a finished mask in another preset, after ``matte``."""

    source: Input
    target: Output
    preset: Preset
    memory_bytes: int | None = None
    matte: Matte = Matte()


def result_type[R](kind: type[Request[R]]) -> type[R]:
    """The result type of a request."""
    (result,) = get_args(get_original_bases(kind)[0])
    found: type[R] = result
    return found


def with_paths[Q: Request[Any]](request: Q, mark: str, move: Callable[[Path], Path]) -> Q:
    """The request with each of its ``input`` or ``output`` paths moved."""
    changes: dict[str, Path | tuple[Path, ...]] = {}
    for name in _marked(type(request), mark):
        value: Path | tuple[Path, ...] | None = getattr(request, name)
        if isinstance(value, tuple):
            changes[name] = tuple(move(path) for path in value)
        elif value is not None:
            changes[name] = move(value)
    return msgspec.structs.replace(request, **changes)


@cache
def _marked(kind: type[Request[Any]], mark: str) -> tuple[str, ...]:
    def has_mark(hint: object) -> bool:
        return mark in getattr(hint, "__metadata__", ()) or any(map(has_mark, get_args(hint)))

    hints = get_type_hints(kind, include_extras=True)
    return tuple(name for name in kind.__struct_fields__ if has_mark(hints[name]))
