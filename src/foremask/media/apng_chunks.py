"""Sets how long the last frame of an APNG is shown: FFmpeg's muxer repeats the delay before it."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Final

_SIGNATURE_BYTES: Final = 8
_HEAD_BYTES: Final = 8  # of a chunk: its length and its type
_DELAY_AT: Final = 20  # in a frame control chunk: numerator and denominator, 16 bits each


def set_last_delay(path: Path, delay: Fraction) -> None:
    """Write ``delay``, in seconds, into the last frame control chunk of the file."""
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
