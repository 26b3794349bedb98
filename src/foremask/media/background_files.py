"""Reads a background from a file: a picture, or a video that is looped."""

from collections.abc import Generator
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
    """Raise BackgroundInvalid unless ``file`` is a picture or a video within ``limits``.

    A picture is decoded; of a video, only the header is read.
    """
    file.seek(0)
    check = probe if picture_demuxer(file.read(HEAD_BYTES)) is None else read_picture
    try:
        check(file, limits)
    except ClipRefused as error:
        raise BackgroundInvalid.of(error) from error


def read_background(path: Path) -> Rgb:
    """Read a picture file as an upright array; raises FieldInvalid if it is not a picture."""
    try:
        frame = read_picture(path)
    except ClipRefused as error:
        details = f"The background {path.name} is no picture."
        raise FieldInvalid(details, param="background") from error
    return frame.rgb(frame.width, frame.height)


class BackgroundVideo:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames = self._repeated()
        self._shown, self._ahead = next(self._frames), next(self._frames)

    def close(self) -> None:
        self._frames.close()

    def at(self, elapsed: Fraction) -> Frame:
        """The frame to show ``elapsed`` seconds after the start; ``elapsed`` must not decrease."""
        while elapsed >= self._ahead[0]:
            self._shown, self._ahead = self._ahead, next(self._frames)
        return self._shown[1]

    def _repeated(self) -> Generator[tuple[Fraction, Frame]]:
        """Loop for ever; yield each frame and its time in seconds since the first loop began."""
        start = Fraction(0)
        try:
            while True:
                with VideoReader(self._path) as reader:
                    first_pts, at = None, start
                    for frame in reader:
                        first_pts = frame.pts if first_pts is None else first_pts
                        at = start + (frame.pts - first_pts) * reader.time_base
                        yield at, frame
                    length = (reader.end or 0) - (first_pts or 0) * reader.time_base
                    start = max(start + length, at + reader.time_base)
        except ClipRefused as error:
            details = f"The background {self._path.name}: {error.details}"
            numbers = {"limit": error.limit, "actual": error.actual}
            raise type(error)(details, param="background", **numbers) from error
