"""The messages between a media child and its parent, which are sent over a socket pair.

A request is a Struct that names the type of its result; execution.py, which only a child imports,
has the function that executes it. Both sides import this module, so it loads no media library. The
parent does not trust the child: it limits a message's size, and decodes it into these types.
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
"""A file that the child may read, through a link or a copy in its directory."""
Output = Annotated[Path, "output"]
"""A file that the child writes; it exists after the operation has succeeded."""


class Request[R](msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One operation with its arguments; R is the type of its result.

    The fields for files are `Input`, `Output`, or tuples of them. A field of type Path is passed
    unchanged; the child can read it if it is among the pool's ``readable`` paths.
    """

    needs_network: ClassVar[bool] = False
    """Whether the child needs the neural network, and so its file and its share of memory."""
    outlives_refusal: ClassVar[bool] = False
    """Whether the child is kept after it has refused a file of which it read only the header."""


class Probe(Request[Clip], frozen=True):
    """Read the header of a clip; refuse one that cannot be masked, or not as ``preset``.

    ``preset`` is the name of a form of ``kind``. If ``source`` is None, the child reads the file
    through its parent; it has ``size`` bytes.
    """

    outlives_refusal = True

    source: Input | None
    limits: Limits
    preset: str | None = None
    kind: ResultKind = ResultKind.MASK
    size: int = 0


class ProbeBackground(Request[None], frozen=True):
    """Refuse a file that cannot be a background; ``source`` and ``size`` are as in `Probe`."""

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

    ``known`` is the network cache of an earlier job; ``kept`` gets a copy of it and what the
    network computes in this job.
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
    """Mask one picture, given as the bytes of its file; all hints refer to it."""

    needs_network = True

    picture: bytes
    options: MaskOptions


class CutOut(Request[Report], frozen=True):
    """Cut the subject out of a clip, or of a span of one; ``background`` is put behind it.

    ``options`` are those of masking; their preset is ignored. ``clip_start_s`` is the start of the
    whole clip. The mask is written to ``mask_target`` if there is memory for another encoder.
    ``known`` and ``kept`` are as in `Mask`.
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
    """Choose where to cut a clip into at most ``most`` spans; a single span is the whole clip."""

    source: Input
    most: int
    grid: SegmentGrid


class Cut(Request[None], frozen=True):
    """Copy a span, with the frames needed to decode it, into a file of its own."""

    source: Input
    span: SegmentPlan
    target: Output


class Join(Request[Written], frozen=True):
    """Join the parts of a mask or cut-out in order, with the sound of ``source``."""

    parts: tuple[Input, ...]
    source: Input
    target: Output
    preset: str
    kind: ResultKind = ResultKind.MASK
    keep_sound: bool = True


class Recode(Request[Written], frozen=True):
    """Adjust a finished mask by ``matte``, and encode it in another preset."""

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
    """Apply ``move`` to the paths of the request with this ``mark``: "input" or "output"."""
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

    ``landlock_at_most`` makes tests behave as on an older kernel.
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
    """The child is confined to ``level``, has loaded its libraries, and waits for a job."""

    level: Level


class Job(msgspec.Struct, tag=True, frozen=True):
    """Execute a request; it is encoded separately, since only the child knows all request types."""

    request: msgspec.Raw


class Progress(msgspec.Struct, tag=True, frozen=True):
    """A frame is done; ``left_s`` is the estimate of the seconds left, None if unknown.

    ``newest_png`` is a small picture of the newest mask; most messages have none.
    """

    frames_done: int
    newest_png: bytes = b""
    left_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_LEFT_S)] | None = None


class ReadAt(msgspec.Struct, tag=True, frozen=True):
    """The child wants bytes of a file that only the parent can reach."""

    offset: int
    size: int


class Data(msgspec.Struct, tag=True, frozen=True):
    """The bytes that `ReadAt` wants; none at the end of the file."""

    data: bytes


class Result(msgspec.Struct, tag=True, frozen=True):
    """The operation is done; ``value`` is of the request's result type."""

    value: msgspec.Raw


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The operation raised a ForemaskError."""

    reason: str
    details: str
    param: str | None
    limit: float | None
    actual: float | None

    @classmethod
    def of(cls, error: ForemaskError) -> Self:
        # The API's field for the library's `background` has another name.
        param = "background_url" if error.param == "background" else error.param
        return cls(error.reason, error.details, param, error.limit, error.actual)

    def error(self) -> ForemaskError:
        kind = BY_REASON.get(self.reason)
        if kind is None:
            return Internal(f"Something unforeseen happened ({self.reason[:40]}).")
        return kind(self.details[:2000], param=self.param, limit=self.limit, actual=self.actual)


class Broken(msgspec.Struct, tag=True, frozen=True):
    """The operation raised any other exception, for instance MemoryError."""

    kind: str
    trace: str


type FromParent = Setup | Job | Data
type FromChild = Ready | Progress | ReadAt | Result | Refused | Broken


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, int):  # a subclass, such as a setting's number of bytes
        return int(value)
    raise NotImplementedError(f"a {type(value).__name__} does not cross to another process")


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)


def encoded(value: object) -> msgspec.Raw:
    """Encode a request or a result as a part of a message."""
    return msgspec.Raw(_encoder.encode(value))


def decoder[T](kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """Decodes what `encoded` has encoded; raises ValueError for anything else."""
    return msgspec.msgpack.Decoder(kind, dec_hook=_path)


from_parent: msgspec.msgpack.Decoder[FromParent] = decoder(FromParent.__value__)
from_child: msgspec.msgpack.Decoder[FromChild] = decoder(FromChild.__value__)


def framed(message: FromParent | FromChild) -> bytes:
    """Encode a message: its length in four bytes, then its body."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_bytes(length: bytes) -> int:
    """Decode the length of a message; raises ValueError if it is over `MAX_FRAME_BYTES`."""
    size = int.from_bytes(length, "big")
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {size} bytes; at most {MAX_FRAME_BYTES} are taken")
    return size


class Parent:
    """The child's end of the socket pair: messages, and files that only the parent can read."""

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
