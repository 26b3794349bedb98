"""The messages and close codes of a live stream, as the hosted service has them: docs/live.md."""

import struct
from typing import Final, Literal

import msgspec

from foremask import errors

HEADER: Final = struct.Struct(">4sBBBBQq")
"""Magic, version, application, media, codec, frame id, and presentation time in microseconds."""
MAGIC: Final = b"BRIA"
VERSION: Final = 3
REMOVE_BACKGROUND: Final = 1
VIDEO: Final = 1
JPEG: Final = 1
MAX_TEXT: Final = 4096
MAX_REASON_BYTES: Final = 123  # RFC 6455: a close frame has at most 125 bytes

ENDED: Final = 1000
_POLICY: Final = 1008


def close_code(error: errors.ForemaskError) -> int:
    match error:
        case errors.BadRequest(reason="stream_expired"):
            return 4003
        case errors.BadRequest(reason="stream_idle"):
            return 4008
        case errors.Busy():
            return 1013
        case errors.Failed():
            return 1011
        case _:
            return _POLICY


def close_reason(error: errors.ForemaskError) -> str:
    return error.details.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


def header_of(message: bytes) -> bytes:
    """Return the header of a message that carries a video frame. Raises message_invalid."""
    if len(message) <= HEADER.size:
        raise errors.BadRequest(
            f"A message has {len(message)} bytes; a frame has {HEADER.size} of header and a JPEG.",
            reason="message_invalid",
            limit=HEADER.size,
            actual=len(message),
        )
    magic, *kind, _, _ = HEADER.unpack_from(message)
    if magic != MAGIC:
        raise errors.BadRequest(
            "A message does not begin with the four bytes BRIA.", reason="message_invalid"
        )
    wanted = (VERSION, REMOVE_BACKGROUND, VIDEO, JPEG)
    for name, got, want in zip(
        ("version", "application", "media", "codec"), kind, wanted, strict=True
    ):
        if got != want:
            raise errors.BadRequest(
                f"A message has {name} {got}; only {name} {want} is taken.",
                reason="message_invalid",
                limit=want,
                actual=got,
            )
    return message[: HEADER.size]


class Stop(msgspec.Struct, tag="stop", frozen=True):
    pass


class Debug(msgspec.Struct, tag="debug", frozen=True):
    enabled: bool


type Command = Stop | Debug
_commands: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Stop | Debug)


def command_of(text: str) -> Command:
    """Raises message_invalid."""
    if len(text) > MAX_TEXT:
        raise errors.BadRequest(
            f"A text message has {len(text)} characters; at most {MAX_TEXT} are taken.",
            reason="message_invalid",
            limit=MAX_TEXT,
            actual=len(text),
        )
    try:
        return _commands.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise errors.BadRequest(
            'A text message is neither {"type": "stop"} nor {"type": "debug", "enabled": true}.',
            reason="message_invalid",
        ) from None


class ErrorMessage(msgspec.Struct, tag="error", frozen=True, omit_defaults=True):
    message: str
    reason: str
    code: int  # with which the connection is closed
    limit: float | None = None
    actual: float | None = None

    @classmethod
    def of(cls, error: errors.ForemaskError) -> "ErrorMessage":
        return cls(error.details, error.reason, close_code(error), error.limit, error.actual)


class FrameTiming(msgspec.Struct, tag="frame_timing", frozen=True):
    """Follows each mask after a `Debug` message."""

    frame_id: int
    frames_dropped_since_last: int
    server_ms: dict[Literal["session_total"], float]
    bytes_in: int
    bytes_out: int


def text_of(message: ErrorMessage | FrameTiming) -> str:
    return msgspec.json.encode(message).decode()
