"""Reads a background from a file: a picture, or a video that begins anew where it ends."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from foremask.errors import BackgroundInvalid, ClipRefused, FieldInvalid
from foremask.media.demux import Source
from foremask.media.frames import Frame
from foremask.media.pictures import HEAD_BYTES, picture_demuxer, read_picture
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.options import Limits
from foremask.types import Rgb


def check_background(file: Source, limits: Limits) -> None:
    """Raise BackgroundInvalid for what is neither a picture nor a video within ``limits``.

    A picture is decoded, of a video the header is read.
    """
    file.seek(0)
    is_video = picture_demuxer(file.read(HEAD_BYTES)) is None
    try:
        if is_video:
            probe(file, limits)
        else:
            read_picture(file, limits)
    except ClipRefused as error:
        raise BackgroundInvalid.of(error) from error


def read_background(path: Path) -> Rgb:
    """The upright picture in a file; raises FieldInvalid where there is none."""
    try:
        frame = read_picture(path)
    except ClipRefused as error:
        details = f"The background {path.name} is no picture."
        raise FieldInvalid(details, param="background") from error
    return frame.rgb(frame.width, frame.height)


class BackgroundVideo:
    """A video background, read by elapsed time, to be closed."""

    _shown: Frame
    _first: Frame
    _ahead: Frame | None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._round_start = Fraction(0)
        self._begin()

    def close(self) -> None:
        self._reader.close()

    def at(self, elapsed: Fraction) -> Frame:
        """The frame that is shown ``elapsed`` seconds after the start; times must not go back."""
        while True:
            end = self._end()
            due = elapsed - self._round_start
            if self._ahead is not None:
                if due < self._since_start(self._ahead):
                    return self._shown
                self._shown, self._ahead = self._ahead, self._next_frame()
            elif due < end:
                return self._shown
            else:
                self._round_start += end
                self._reader.close()
                self._begin()

    def _since_start(self, frame: Frame) -> Fraction:
        return (frame.pts - self._first.pts) * frame.time_base

    def _end(self) -> Fraction:
        base, end_pts = self._reader.time_base, self._reader.end_pts
        last = self._since_start(self._shown)
        if end_pts is None:
            return last + base
        return max((end_pts - self._first.pts) * base, last + base)

    def _begin(self) -> None:
        try:
            self._reader = VideoReader(self._path)
        except ClipRefused as error:
            raise self._named(error) from error
        self._frames: Iterator[Frame] = iter(self._reader)
        first = self._next_frame()
        if first is None:
            details = f"The background {self._path.name} has no frame."
            raise FieldInvalid(details, param="background")
        self._shown = self._first = first
        self._ahead = self._next_frame()

    def _named(self, error: ClipRefused) -> ClipRefused:
        details = f"The background {self._path.name}: {error.details}"
        return type(error)(details, param="background", limit=error.limit, actual=error.actual)

    def _next_frame(self) -> Frame | None:
        try:
            return next(self._frames, None)
        except ClipRefused as error:
            raise self._named(error) from error
