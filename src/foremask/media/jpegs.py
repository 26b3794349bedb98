"""Decodes a live stream's JPEG frames, and encodes its masks as grey JPEGs."""

from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type

from foremask.errors import BadRequest
from foremask.media.frames import Frame, Orientation
from foremask.types import Levels

MASK_QUALITY: Final = 85
MAX_SCANS: Final = 32  # a progressive JPEG has about 10, and each costs time like a whole picture
_PER_SECOND: Final = Fraction(1, 1_000_000)
_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers before a picture's size
_SCAN: Final = 0xDA
_COMPONENTS: Final = (1, 3)  # grey, and YCbCr or RGB


class JpegDecoder:
    """Decodes JPEGs of at most ``max_pixels``, which come from strangers."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1
        # Without "explode", FFmpeg conceals what is missing.
        self._decoder.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}

    def decode(self, jpeg: bytes, number: int) -> Frame:
        """Return the picture as frame ``number``. Raises message_invalid or frame_too_large."""
        width, height, components = _size_of(jpeg)
        if width * height > self._max_pixels:
            raise BadRequest(
                f"A frame is {width}x{height}; at most {self._max_pixels} pixels in all are taken.",
                reason="frame_too_large",
                limit=self._max_pixels,
                actual=width * height,
            )
        if components not in _COMPONENTS:
            raise BadRequest(
                f"A JPEG has {components} components; send YCbCr or grey.", reason="message_invalid"
            )
        scans = jpeg.count(bytes([0xFF, _SCAN]))
        if scans > MAX_SCANS:
            raise BadRequest(
                f"A JPEG has {scans} scans; at most {MAX_SCANS} are taken.",
                reason="message_invalid",
                limit=MAX_SCANS,
                actual=scans,
            )
        try:
            (decoded,) = self._decoder.decode(av.Packet(jpeg))
        except (av.FFmpegError, ValueError):
            raise BadRequest("A frame's JPEG is broken.", reason="message_invalid") from None
        orientation = Orientation()
        if matrix := decoded.side_data.get(Type.DISPLAYMATRIX):
            orientation = Orientation.from_matrix(tuple(np.frombuffer(bytes(matrix), "<i4")))
        return Frame(decoded, number, number, None, _PER_SECOND, orientation)


def _size_of(jpeg: bytes) -> tuple[int, int, int]:
    """Return width, height and the number of components, which precede the picture's data."""
    at = 2
    while jpeg[:2] == b"\xff\xd8" and at + 10 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == _SCAN:
            break
        if marker in _SIZES:
            height = int.from_bytes(jpeg[at + 5 : at + 7], "big")
            width = int.from_bytes(jpeg[at + 7 : at + 9], "big")
            if width and height:
                return width, height, jpeg[at + 9]
            break
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise BadRequest(
        "A frame's payload is not a JPEG with a size in its header.", reason="message_invalid"
    )


def grey_jpeg(levels: Levels) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, MASK_QUALITY]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(levels), options)
    return encoded.tobytes()
