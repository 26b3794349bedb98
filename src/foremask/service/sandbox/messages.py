"""The messages between a media child and its parent, over a socket.

The parent imports this module, too, so no media library may be imported here. The parent does not
trust the child, so the size and the types of each message are checked.
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

from foremask.errors import REASONS, ForemaskError, Internal
from foremask.facts import Clip, Report, SegmentGrid, SegmentPlan, Span, Written
from foremask.options import (
    Device,
    Excerpt,
    Files,
    Form,
    Input,
    JobSpec,
    Limits,
    Output,
    Resources,
    ResultKind,
)
from foremask.service.sandbox.confine import Level

MAX_FRAME_BYTES = 4 << 20
LENGTH_BYTES = 4
MAX_LEFT_S = 1e6
_PROGRESS_EVERY_S: Final = 0.2
_PICTURE_EVERY_S: Final = 1.5


class Request[R](msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The arguments of an operation whose result has the type R.

    Files must be of the type `Input` or `Output`. The child can read any other path only if the
    path is in the pool's ``readable``.
    """

    outlives_refusal: ClassVar[bool] = False
    """Whether the child stays in use after it has refused this request with a ForemaskError."""


class Probe(Request[Clip], frozen=True):
    """Read a clip's header. Refuse a clip that cannot be masked or written as ``form``.

    With an ``excerpt``, limits of length and the returned properties are those of the excerpt.

    If ``source`` is None, the child gets the file's ``size`` bytes from its parent.
    """

    outlives_refusal = True

    source: Input | None
    limits: Limits
    form: Form | None = None
    kind: ResultKind = ResultKind.MASK
    excerpt: Excerpt | None = None
    size: int = 0


class ProbeBackground(Request[None], frozen=True):
    """Refuse a file that cannot be a background. `Probe` explains ``source`` and ``size``."""

    outlives_refusal = True

    source: Input | None
    limits: Limits
    size: int = 0


class Load(Request[None], frozen=True):
    model: Path
    device: Device = Device()


class Make(Request[Report], frozen=True):
    """Make what ``spec`` asks for, as `masking.pipeline.run` does.

    ``known`` is the cache of network results of an earlier job or attempt, and
    ``known_unfinished`` its `unfinished_cache`. The child copies both to those of ``files.cache``
    and adds new results there. Both are stored after a cancellation, too.
    """

    spec: JobSpec
    files: Files
    resources: Resources
    span: Span | None = None
    clip_start_s: float | None = None
    known: Input | None = None
    known_unfinished: Input | None = None


class Preview(msgspec.Struct, frozen=True):
    mask: Annotated[
        bytes, msgspec.Meta(description="A grey PNG in base64; white is the foreground.")
    ]
    width: int
    height: int


class MaskPicture(Request[Preview], frozen=True):
    """Mask one encoded picture, or correct its encoded mask. All hints apply to this picture."""

    picture: bytes
    spec: JobSpec
    resources: Resources
    mask: bytes | None = None


class MaskStream(Request[None], frozen=True):
    """Mask the JPEGs that the child asks for by `NextFrame`, until a `NoFrame` that is ``last``."""

    outlives_refusal = True

    resources: Resources
    max_pixels: int


class Plan(Request[tuple[SegmentPlan, ...]], frozen=True):
    """Divide a clip into at most ``most`` spans."""

    source: Input
    most: int
    grid: SegmentGrid


class Cut(Request[None], frozen=True):
    source: Input
    span: SegmentPlan
    target: Output


class Join(Request[Written], frozen=True):
    parts: tuple[Input, ...]
    source: Input
    target: Output
    form: Form
    kind: ResultKind = ResultKind.MASK
    keep_sound: bool = True


def result_of[R](request: Request[R], value: msgspec.Raw) -> R:
    kind: type[R] = get_args(get_original_bases(type(request))[0])[0]
    return decoder(kind).decode(value)


def with_paths[S: msgspec.Struct](request: S, mark: str, move: Callable[[Path], Path]) -> S:
    """Apply ``move`` to the `Input` paths if ``mark`` is "input", else to the `Output` paths."""

    def moved(value: object) -> object:
        match value:
            case Path():
                return move(value)
            case tuple():
                return tuple(map(moved, value))
            case Files():
                return with_paths(value, mark, move)
            case _:
                return value

    changes = {name: moved(getattr(request, name)) for name in _marked(type(request), mark)}
    return msgspec.structs.replace(request, **changes)


@cache
def _marked(kind: type[msgspec.Struct], mark: str) -> tuple[str, ...]:
    """Return the names of the fields that have the mark, or are `Files`."""

    def has_mark(hint: object) -> bool:
        if hint is Files or mark in getattr(hint, "__metadata__", ()):
            return True
        return any(map(has_mark, get_args(hint)))

    hints = get_type_hints(kind, include_extras=True)
    return tuple(name for name in kind.__struct_fields__ if has_mark(hints[name]))


class Setup(msgspec.Struct, tag=True, frozen=True):
    confined: bool
    memory_bytes: int
    file_bytes: int
    execution: str
    niceness: int
    read: tuple[Path, ...]
    import_from: tuple[Path, ...]
    landlock_at_most: int | None  # lets tests imitate older kernels


class Ready(msgspec.Struct, tag=True, frozen=True):
    level: Level


class Envelope(msgspec.Struct, tag=True, frozen=True):
    request: msgspec.Raw  # decoded by the OPERATIONS of `Setup.execution`


class ChildProgress(msgspec.Struct, tag=True, frozen=True):
    frames_done: int
    newest_png: bytes = b""  # a small picture of the newest mask; usually empty
    left_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_LEFT_S)] | None = None


class ReadAt(msgspec.Struct, tag=True, frozen=True):
    offset: int
    size: int


class Data(msgspec.Struct, tag=True, frozen=True):
    data: bytes  # at most the size of `ReadAt`; empty at the end of the file


class NextFrame(msgspec.Struct, tag=True, frozen=True):
    """Asks for the next frame of a `MaskStream`, which may take ``wait_s`` to come."""

    wait_s: Annotated[float, msgspec.Meta(ge=0, le=1)]


class StreamedPicture(msgspec.Struct, tag=True, frozen=True):
    """A frame from the parent, or from the child the mask of the frame with this number."""

    number: int  # rises from frame to frame
    jpeg: bytes
    age_s: float = 0.0  # since the frame came


class NoFrame(msgspec.Struct, tag=True, frozen=True):
    last: bool  # the stream has ended


class Success(msgspec.Struct, tag=True, frozen=True):
    value: msgspec.Raw


class Refusal(msgspec.Struct, tag=True, frozen=True):
    reason: str
    details: str
    param: str | None
    limit: float | None
    actual: float | None

    @classmethod
    def of(cls, error: ForemaskError) -> Self:
        # The library's `background` is `background_url` in the API.
        param = error.param
        if param == "background":
            param = "background_url"
        return cls(error.reason, error.details, param, error.limit, error.actual)

    def error(self) -> ForemaskError:
        known = REASONS.get(self.reason)
        if known is None:
            return Internal(f"Something unforeseen happened ({self.reason[:40]}).")
        return known.error(self.details[:2000], self.param, self.limit, self.actual)


class Broken(msgspec.Struct, tag=True, frozen=True):
    kind: str  # the name of an exception class, such as MemoryError
    trace: str


type FromParent = Setup | Envelope | Data | StreamedPicture | NoFrame
type FromChild = (
    Ready | ChildProgress | ReadAt | NextFrame | StreamedPicture | Success | Refusal | Broken
)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"a {type(value).__name__} cannot be sent to another process")


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)


def encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(value))


def decoder[T](kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    return msgspec.msgpack.Decoder(kind, dec_hook=_path)


from_parent: msgspec.msgpack.Decoder[FromParent] = decoder(FromParent.__value__)
from_child: msgspec.msgpack.Decoder[FromChild] = decoder(FromChild.__value__)


def framed(message: FromParent | FromChild | Request[Any]) -> bytes:
    if isinstance(message, Request):
        message = Envelope(encoded(message))
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_bytes(length: bytes) -> int:
    size = int.from_bytes(length, "big")
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {size} bytes; at most {MAX_FRAME_BYTES} are taken")
    return size


class Parent:
    def __init__(self, fd: int) -> None:
        self._received = os.fdopen(fd, "rb", closefd=False)
        self._sent = os.fdopen(fd, "wb", closefd=False)
        self._progress_sent_s = self._picture_sent_s = 0.0

    def receive(self) -> FromParent | None:
        """Wait for the next message. Returns None when the parent has closed the socket."""
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
        """Send a `ChildProgress` at most every 0.2 s, with a picture at most every 1.5 s."""
        now_s = time.monotonic()
        if now_s - self._progress_sent_s < _PROGRESS_EVERY_S:
            return
        self._progress_sent_s = now_s
        png = b""
        if draw_newest is not None and now_s - self._picture_sent_s >= _PICTURE_EVERY_S:
            self._picture_sent_s = now_s
            png = draw_newest()
        if left_s is not None:
            left_s = min(left_s, MAX_LEFT_S)
        self.send(ChildProgress(frames_done, png, left_s))

    def read_at(self, offset: int, size: int) -> bytes:
        self.send(ReadAt(offset, size))
        answer = self.receive()
        if not isinstance(answer, Data):
            sys.exit(1)
        return answer.data[:size]


type Executor = Callable[[Any, Parent], object]
"""Executes a request and returns the result. May raise a ForemaskError."""
