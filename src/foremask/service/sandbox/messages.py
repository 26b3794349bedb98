"""What the media child and its parent say to each other over a socket pair, one frame per message.

The parent trusts nothing that the child sends: it is decoded into these types, and bounded.
"""

from typing import Any

import msgspec

MAX_FRAME_BYTES = 4 << 20
LENGTH_BYTES = 4


class Setup(msgspec.Struct, tag=True, frozen=True):
    """The first word to a new child: what it may touch, and what it will be asked to do."""

    confined: bool
    read: list[str]
    write: list[str]
    address_space_bytes: int
    file_bytes: int
    operations: str
    import_from: list[str]
    landlock_at_most: int | None = None


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The child is confined this far, has loaded its libraries, and waits."""

    landlock: int
    seccomp: bool


class Job(msgspec.Struct, tag=True, frozen=True):
    """Do one operation."""

    operation: str
    args: dict[str, Any]


class Progress(msgspec.Struct, tag=True, frozen=True):
    """A frame is done; ``frames_total`` may be a guess, or None."""

    frames_done: int
    frames_total: int | None
    stage: str


class ReadAt(msgspec.Struct, tag=True, frozen=True):
    """The child wants bytes of a file that only the parent can reach."""

    offset: int
    size: int


class Data(msgspec.Struct, tag=True, frozen=True):
    """The bytes; none at the end of the file."""

    data: bytes


class Result(msgspec.Struct, tag=True, frozen=True):
    """The operation is done; ``value`` is of plain types."""

    value: Any


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The operation ended in an error of the error tree."""

    reason: str
    details: str
    param: str | None
    limit: float | None
    actual: float | None


class Broken(msgspec.Struct, tag=True, frozen=True):
    """The operation ended in an error that nobody foresaw, or for want of memory."""

    kind: str
    trace: str


type FromParent = Setup | Job | Data
type FromChild = Ready | Progress | ReadAt | Result | Refused | Broken

_encoder = msgspec.msgpack.Encoder()
from_parent: msgspec.msgpack.Decoder[FromParent] = msgspec.msgpack.Decoder(Setup | Job | Data)
from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(
    Ready | Progress | ReadAt | Result | Refused | Broken
)


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
