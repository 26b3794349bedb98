"""All that a media child and its parent say to each other, each message one frame on a socket pair.

A request is a Struct that names the type of its result; execution.py, which only a child imports,
has the function that executes it. Both sides import this module, so it loads no library. The parent
trusts nothing that the child sends: it decodes it into these types, and bounds its size.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import get_original_bases
from typing import Annotated, Any, ClassVar, Final, Self, get_args, get_type_hints

import msgspec

from foremask.errors import BY_REASON, ForemaskError, Internal
from foremask.facts import Clip, Report, SegmentGrid, SegmentPlan, Span, Written
from foremask.options import Device, Limits, MaskOptions, Matte, Preset, ResultKind, ResultOptions
from foremask.service.sandbox.confine import Level

MAX_FRAME_BYTES = 4 << 20
LENGTH_BYTES = 4
MAX_LEFT_S = 1e6
_PROGRESS_EVERY_S: Final = 0.2
_PICTURE_EVERY_S: Final = 1.5

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


class Preview(msgspec.Struct, frozen=True):
    """The mask of the picture."""

    mask: Annotated[
        bytes, msgspec.Meta(description="A grey PNG in base64; white is the foreground.")
    ]
    width: int
    height: int


class MaskPicture(Request[Preview], frozen=True):
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
    grid: SegmentGrid


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
    found: type[R] = get_args(get_original_bases(kind)[0])[0]
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


class Setup(msgspec.Struct, tag=True, frozen=True):
    """The first message to a new child: its files, its limits, and the module of its operations.

    ``landlock_at_most`` is to test what an older kernel gives.
    """

    confined: bool
    memory_bytes: int
    execution: str
    read: tuple[Path, ...]
    import_from: tuple[Path, ...] = ()
    landlock_at_most: int | None = None
    write: tuple[Path, ...] = ()
    file_bytes: int = 0


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The child is confined this far, has loaded its libraries, and waits."""

    level: Level


class Job(msgspec.Struct, tag=True, frozen=True):
    """Execute a request; it is encoded separately, since only the child knows all request types."""

    request: msgspec.Raw


class Progress(msgspec.Struct, tag=True, frozen=True):
    """A frame is done; ``left_s`` are the seconds to go, as far as is known.

    ``newest_png`` is, now and then, a small picture of the newest mask; else it is empty.
    """

    frames_done: int
    newest_png: bytes = b""
    left_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_LEFT_S)] | None = None


class ReadAt(msgspec.Struct, tag=True, frozen=True):
    """The child wants bytes of a file that only the parent can reach."""

    offset: int
    size: int


class Data(msgspec.Struct, tag=True, frozen=True):
    """The bytes; none at the end of the file."""

    data: bytes


class Result(msgspec.Struct, tag=True, frozen=True):
    """The operation is done; ``value`` is of the request's result type."""

    value: msgspec.Raw


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The operation ended in an error of the error tree."""

    reason: str
    details: str
    param: str | None
    limit: float | None
    actual: float | None

    @classmethod
    def of(cls, error: ForemaskError) -> Self:
        # The library's background is in the caller's field of another name.
        param = "background_url" if error.param == "background" else error.param
        return cls(error.reason, error.details, param, error.limit, error.actual)

    def error(self) -> ForemaskError:
        kind = BY_REASON.get(self.reason)
        if kind is None:
            return Internal(f"Something unforeseen happened ({self.reason[:40]}).")
        return kind(self.details[:2000], param=self.param, limit=self.limit, actual=self.actual)


class Broken(msgspec.Struct, tag=True, frozen=True):
    """The operation ended in an error that nobody foresaw, or for want of memory."""

    kind: str
    trace: str


type FromParent = Setup | Job | Data
type FromChild = Ready | Progress | ReadAt | Result | Refused | Broken


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, int):  # a setting's: a number of bytes
        return int(value)
    raise NotImplementedError(f"a {type(value).__name__} does not cross to another process")


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)


def encoded(value: object) -> msgspec.Raw:
    """A request or a result as it is part of a message."""
    return msgspec.Raw(_encoder.encode(value))


def decoder[T](kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """Decodes what `encoded` has encoded; raises ValueError for anything else."""
    return msgspec.msgpack.Decoder(kind, dec_hook=_path)


from_parent: msgspec.msgpack.Decoder[FromParent] = decoder(FromParent.__value__)
from_child: msgspec.msgpack.Decoder[FromChild] = decoder(FromChild.__value__)


def framed(message: FromParent | FromChild) -> bytes:
    """The message as it goes over the wire: its length in four bytes, then itself."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_bytes(length: bytes) -> int:
    """How long the message after this length is; raises ValueError when that is too long."""
    size = int.from_bytes(length, "big")
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {size} bytes; at most {MAX_FRAME_BYTES} are taken")
    return size


class Parent:
    """Sends and receives messages, and reads the files that only the parent can reach."""

    def __init__(self, fd: int) -> None:
        self._received = os.fdopen(fd, "rb", closefd=False)
        self._sent = os.fdopen(fd, "wb", closefd=False)
        self._progress_sent_s = self._picture_sent_s = 0.0

    def receive(self) -> FromParent | None:
        """The next message; None when the parent is gone."""
        length = self._received.read(LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            return None
        return from_parent.decode(self._received.read(body_bytes(length)))

    def send(self, message: FromChild) -> None:
        self._sent.write(framed(message))
        self._sent.flush()

    def progress(
        self,
        frames_done: int,
        draw_newest: Callable[[], bytes] | None = None,
        left_s: float | None = None,
    ) -> None:
        """Report the progress, a few times a second at most; less often with a picture."""
        now_s = time.monotonic()
        if now_s - self._progress_sent_s < _PROGRESS_EVERY_S:
            return
        self._progress_sent_s = now_s
        png = b""
        if draw_newest is not None and now_s - self._picture_sent_s >= _PICTURE_EVERY_S:
            self._picture_sent_s = now_s
            png = draw_newest()
        left_s = None if left_s is None else min(left_s, MAX_LEFT_S)
        self.send(Progress(frames_done, png, left_s))

    def read_at(self, offset: int, size: int) -> bytes:
        self.send(ReadAt(offset, size))
        answer = self.receive()
        if not isinstance(answer, Data):
            sys.exit(1)
        return answer.data[:size]


type Operation = Callable[[Any, Parent], object]
"""Executes one kind of request; returns its result, or raises a ForemaskError."""
