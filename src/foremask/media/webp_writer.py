"""Writes an animated WebP with straight alpha: every frame has its own picture and duration.

FFmpeg's own animation encoder merges frames that are alike, and keeps all of them in memory. So
libwebp makes stills, and their chunks become frames here. Format: RFC 9649.
"""

import hashlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.errors import Internal, PresetUnsuitable
from foremask.facts import Clip, SoundTrack, Written
from foremask.media.frames import Frame
from foremask.media.write_errors import writing
from foremask.types import DeepRgb, Levels, Rgb

type Pixels = NDArray[np.uint8]
"""(H, W, 4) blue, green, red, alpha."""

_OPTIONS: Final = {"quality": "90", "compression_level": "2"}
"""Of the colours. Alpha is without loss. Level 4 takes 1.6 times as long for 5 % fewer bytes."""
_RIFF_BYTES: Final = 12  # "RIFF", the size, "WEBP"
_MOST_BYTES: Final = (1 << 32) - 2 + 8
_HAS_ALPHA, _IS_ANIMATION = 0x10, 0x02
_REPLACES: Final = 0x02  # a frame is not blended with the one before
_LONGEST_MS: Final = (1 << 24) - 1
_MS: Final = 1000


class WebpWriter:
    """Writes one animation; as a context manager it leaves no open file behind.

    Pictures stand upright: a WebP has no rotation. Times count from zero in milliseconds.
    """

    def __init__(self, target: Path, clip: Clip) -> None:
        self._clip, self._target = clip, target
        with writing():
            self._file = target.open("wb")
        self._encoder: Any = None
        self._held: tuple[int, bytes, bytes] | None = None  # its start, its size, its chunks
        self._frames = 0
        self._origin = Fraction(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, colours: Rgb | DeepRgb, levels: Levels | None, frame: Frame) -> None:
        upright = frame.orientation.to_upright
        red, green, blue = cv2.split(np.ascontiguousarray(upright(colours)))
        opaque = levels is None
        alpha = np.full_like(red, 255) if levels is None else np.ascontiguousarray(upright(levels))
        picture = np.ascontiguousarray(cv2.merge([blue, green, red, alpha]), np.uint8)
        moment = frame.pts * frame.time_base
        if self._encoder is None:
            self._origin = moment
            self._begin(picture.shape[1], picture.shape[0], opaque=opaque)
        start_ms = round((moment - self._origin) * _MS)
        if self._held is not None:
            start_ms = max(start_ms, self._held[0] + 1)  # frames closer together than it can count
        self._flush(start_ms)
        self._held = start_ms, *self._still(picture)

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written:
        """Write the rest.

        ``end_pts``, in ``time_base``, is the end of the last frame (None: as usual).
        """
        if self._held is None:
            raise Internal("no picture was written")
        usual_ms = self._held[0] + round(_MS / Fraction(self._clip.fps or 25))
        end = Fraction(usual_ms, _MS)
        if end_pts is not None:
            end = end_pts * time_base - self._origin
        end_ms = max(round(end * _MS), self._held[0] + 1)
        self._flush(end_ms)
        with writing():
            size = self._file.tell()
            self._file.seek(4)
            self._file.write(struct.pack("<I", size - 8))
            self._file.close()
        with self._target.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Written(
            frames_out=self._frames,
            duration_s=end_ms / _MS,
            duration_drift_ms=float(end_ms - end * _MS),
            audio=tuple(
                SoundTrack(track.codec, None, "dropped", "a WebP has no sound", track.language)
                for track in self._clip.audio
            ),
            sound_warnings=(),
            sha256=sha256,
            bytes=size,
        )

    def _begin(self, width: int, height: int, *, opaque: bool) -> None:
        codec: Any = av.CodecContext.create("libwebp", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "bgra"
        codec.time_base, codec.options = Fraction(1, _MS), _OPTIONS
        self._encoder = codec
        flags = _IS_ANIMATION | (0 if opaque else _HAS_ALPHA)
        canvas = struct.pack("<I", flags) + _three(width - 1) + _three(height - 1)
        whole = b"RIFF\0\0\0\0WEBP" + _chunk(b"VP8X", canvas) + _chunk(b"ANIM", bytes(6))
        with writing():
            self._file.write(whole)  # for ever, on a transparent canvas

    def _still(self, picture: Pixels) -> tuple[bytes, bytes]:
        """The size and the chunks of a still, for one frame of the animation."""
        drawn = av.VideoFrame.from_ndarray(picture, "bgra")
        drawn.pts = self._frames
        packets = self._encoder.encode(drawn)
        if len(packets) != 1:
            raise Internal(f"libwebp made {len(packets)} packets of a picture")
        height, width = picture.shape[:2]
        kept = (b"ALPH", b"VP8 ", b"VP8L")
        chunks = [each for kind, each in _chunks(bytes(packets[0])) if kind in kept]
        return _three(width - 1) + _three(height - 1), b"".join(chunks)

    def _flush(self, until_ms: int) -> None:
        """Write the frame that is held: it is shown up to ``until_ms``."""
        if self._held is None:
            return
        start_ms, size, chunks = self._held
        shown_ms = _three(min(until_ms - start_ms, _LONGEST_MS))
        frame = _chunk(b"ANMF", bytes(6) + size + shown_ms + bytes([_REPLACES]) + chunks)
        if self._file.tell() + len(frame) > _MOST_BYTES:
            raise PresetUnsuitable(
                f"webp cannot carry this clip: it holds 4 GiB, and they are full at frame"
                f" {self._frames}; use webm_vp9, mkv_vp9, mov_proresks or png_zip.",
                limit=_MOST_BYTES,
            )
        with writing():
            self._file.write(frame)
        self._frames += 1


def _three(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _chunks(still: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a WebP, each with its head and its padding."""
    at = _RIFF_BYTES
    while at < len(still):
        kind, size = struct.unpack_from("<4sI", still, at)
        after = at + 8 + size + size % 2
        yield kind, still[at:after]
        at = after
