"""Reads a background from a file: a picture, or a video that begins anew where it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

from foremask.errors import BackgroundInvalid, ClipRefused, FieldInvalid
from foremask.media.demux import Source
from foremask.media.frames import Frame
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.options import Limits
from foremask.types import Rgb

_HEAD_BYTES: Final = 12
_MAX_PICTURE_BYTES: Final = 64 << 20
_MAX_PICTURE_PIXELS: Final = 100_000_000
_DEMUXERS: Final = {b"\x89PNG\r\n\x1a\n": "png_pipe", b"\xff\xd8\xff": "jpeg_pipe"}
_OTHER_PICTURES: Final = (b"BM", b"II*\0", b"MM\0*")  # of one's own: OpenCV reads bmp and tiff, too


def _demuxer_of(head: bytes) -> str | None:
    """That of a picture that callers of the service may send: jpg, png or webp."""
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp_pipe"
    return next((name for start, name in _DEMUXERS.items() if head.startswith(start)), None)


def is_picture(path: Path) -> bool:
    """Whether the file begins as a picture does."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return _demuxer_of(head) is not None or head.startswith(_OTHER_PICTURES)


def check_background(file: Source, limits: Limits) -> None:
    """Raise BackgroundInvalid for what is neither a picture nor a video within ``limits``.

    A picture is decoded, of a video the header is read.
    """
    file.seek(0)
    demuxer = _demuxer_of(file.read(_HEAD_BYTES))
    if demuxer is not None:
        _check_picture(file, demuxer)
        return
    try:
        probe(file, limits)
    except ClipRefused as error:
        raise BackgroundInvalid.of(error) from error


def _check_picture(file: Source, demuxer: str) -> None:
    size = file.seek(0, 2)
    if size > _MAX_PICTURE_BYTES:
        raise BackgroundInvalid(
            f"The background picture has {size} bytes; at most {_MAX_PICTURE_BYTES} are taken.",
            param="background_url",
            limit=_MAX_PICTURE_BYTES,
            actual=size,
        )
    file.seek(0)
    bound = {"max_pixels": str(_MAX_PICTURE_PIXELS)}
    try:
        with av.open(file, "r", format=demuxer, options=bound) as opened:
            next(opened.decode(video=0))
    except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
        raise BackgroundInvalid(
            "The background picture cannot be decoded, or has more than"
            f" {_MAX_PICTURE_PIXELS} pixels.",
            param="background_url",
            limit=_MAX_PICTURE_PIXELS,
        ) from error


def read_picture(path: Path) -> Rgb:
    """The upright picture in a file; raises FieldInvalid where there is none."""
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise FieldInvalid(f"The background {path.name} is no picture.", param="background")
    return np.asarray(picture, np.uint8)


class BackgroundVideo:
    """The frames of a video by the time that has passed; close it, or use it in a ``with``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = self._opened()
        self._frames: Iterator[Frame] = iter(self._reader)
        self._shown = self._first = self._next_frame()
        self._ahead: Frame | None = self._next_frame_or_none()
        self._round_start = Fraction(0)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def at(self, elapsed: Fraction) -> Frame:
        """The frame that is shown ``elapsed`` seconds after the start; times must not go back."""
        while True:
            end = self._end()
            due = elapsed - self._round_start
            if self._ahead is not None:
                if due < self._since_start(self._ahead):
                    return self._shown
                self._shown, self._ahead = self._ahead, self._next_frame_or_none()
            elif due < end:
                return self._shown
            else:
                self._round_start += end
                self._reader.close()
                self._reader = self._opened()
                self._frames = iter(self._reader)
                self._shown = self._first = self._next_frame()
                self._ahead = self._next_frame_or_none()

    def _since_start(self, frame: Frame) -> Fraction:
        return (frame.pts - self._first.pts) * frame.time_base

    def _end(self) -> Fraction:
        """How long a round lasts; known when its last frame is shown."""
        base, end_pts = self._reader.time_base, self._reader.end_pts
        last = self._since_start(self._shown)
        if end_pts is None:
            return last + base
        return max((end_pts - self._first.pts) * base, last + base)

    def _opened(self) -> VideoReader:
        try:
            return VideoReader(self._path)
        except ClipRefused as error:
            raise self._named(error) from error

    def _named(self, error: ClipRefused) -> ClipRefused:
        details = f"The background {self._path.name}: {error.details}"
        return type(error)(details, param="background", limit=error.limit, actual=error.actual)

    def _next_frame(self) -> Frame:
        frame = self._next_frame_or_none()
        if frame is None:
            raise FieldInvalid(
                f"The background {self._path.name} has no frame.", param="background"
            )
        return frame

    def _next_frame_or_none(self) -> Frame | None:
        try:
            return next(self._frames, None)
        except ClipRefused as error:
            raise self._named(error) from error


@contextmanager
def background_video(path: Path) -> Iterator[BackgroundVideo]:
    """Open a video for the length of a block."""
    video = BackgroundVideo(path)
    try:
        yield video
    finally:
        video.close()
