"""Corrects what FFmpeg's muxers say of the frames of an APNG and of a WebP (RFC 9649)."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Final

from foremask.errors import PresetUnsuitable

_SIGNATURE_BYTES: Final = 8
_HEAD_BYTES: Final = 8  # of a chunk: its length and its type
_DELAY_AT: Final = 20  # in a frame control chunk: numerator and denominator, 16 bits each

_MAX_WEBP_BYTES: Final = (1 << 32) - 2
_RIFF_BYTES: Final = 12  # "RIFF", the size, "WEBP"
_HOW_DRAWN_AT: Final = 15  # in a frame's chunk: behind place, size and duration
_REPLACES, _IS_ANIMATION, _HAS_ALPHA = 0x02, 0x02, 0x10


def set_last_delay(path: Path, delay: Fraction) -> None:
    """Show an APNG's last frame for ``delay`` seconds: FFmpeg repeats the delay before it."""
    delay = delay.limit_denominator(1000)
    with path.open("r+b") as file:
        at, control_at = _SIGNATURE_BYTES, None
        file.seek(at)
        while len(head := file.read(_HEAD_BYTES)) == _HEAD_BYTES:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"fcTL":
                control_at = at
            at += _HEAD_BYTES + length + 4
            file.seek(at)
        if control_at is None:
            return
        file.seek(control_at)
        (length,) = struct.unpack(">I", file.read(4))
        chunk = bytearray(file.read(4 + length))
        shown = min(delay.numerator, 0xFFFF), delay.denominator
        struct.pack_into(">HH", chunk, 4 + _DELAY_AT, *shown)
        file.seek(control_at + 4)
        file.write(chunk + struct.pack(">I", zlib.crc32(chunk)))


def replace_frames(path: Path) -> None:
    """Let each frame of a WebP replace the one before: FFmpeg's muxer draws them over one another.

    Raises PresetUnsuitable for more bytes than a WebP may have.
    """
    size = path.stat().st_size
    if size > _MAX_WEBP_BYTES:
        raise PresetUnsuitable(
            f"webp cannot carry this clip: it holds 4 GiB, and this has {size} bytes; use"
            " webm_vp9, mkv_vp9, mov_proresks or png_zip.",
            limit=_MAX_WEBP_BYTES,
            actual=size,
        )
    with path.open("r+b") as file:
        at = _RIFF_BYTES
        file.seek(at)
        while len(head := file.read(_HEAD_BYTES)) == _HEAD_BYTES:
            kind, length = struct.unpack("<4sI", head)
            if kind == b"VP8X":
                flags = file.read(1)[0]
                file.seek(at + _HEAD_BYTES)
                file.write(bytes([flags | (_HAS_ALPHA if flags & _IS_ANIMATION else 0)]))
            elif kind == b"ANMF":
                file.seek(at + _HEAD_BYTES + _HOW_DRAWN_AT)
                file.write(bytes([_REPLACES]))
            at += _HEAD_BYTES + length + length % 2
            file.seek(at)
