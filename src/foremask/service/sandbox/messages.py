"""The messages between a media child and its parent: each is one frame on a socket pair.

The parent trusts nothing that the child sends: it decodes it into these types, and bounds its size.
"""

from pathlib import Path
from typing import Annotated, Self

import msgspec

from foremask.errors import BY_REASON, ForemaskError, Internal
from foremask.service.sandbox.confine import Level

MAX_FRAME_BYTES = 4 << 20
LENGTH_BYTES = 4
MAX_LEFT_S = 1e6


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
    """Execute a request, which is encoded separately, since only the child knows all kinds."""

    request: msgspec.Raw


class Progress(msgspec.Struct, tag=True, frozen=True):
    """A frame is done; ``frames_total`` may be a guess, or None; so may be ``left_s``, seconds.

    ``newest_png`` is, now and then, a small picture of the newest mask; else it is empty.
    """

    frames_done: int
    frames_total: int | None
    stage: str
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
