"""Reads an APNG, a WebP, or numbered PNGs with their times."""

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Final

import av
import cv2
import numpy as np

from foremask.errors import CorruptVideo
from foremask.media.png_sequence import TABLE, is_pattern

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_ANIMATION: Final = b"acTL"  # FFmpeg writes one frame as a plain PNG
_HEAD_BYTES: Final = 4096
_RIFF: Final = b"RIFF"
_WEBP_FLAGS_AT: Final = 20  # of the extended format; the kind of file is in bytes 8 to 11
_HAS_ALPHA, _IS_ANIMATION = 0x10, 0x02
_ZIP: Final = b"PK\x03\x04"
_MAX_TABLE_BYTES: Final = 64 << 20
_PNG_HEAD_BYTES: Final = 33  # with its size in pixels
_MAX_HEAD_BYTES: Final = 1 << 20
_BROKEN_ZIP: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""The last for what is encrypted, or of a version or by a method that Python does not know."""
_UNREADABLE: Final = (OSError, KeyError, ValueError, TypeError, *_BROKEN_ZIP)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture and its time; a still, the APNG of a single frame, has no end."""

    width: int
    height: int
    has_alpha: bool
    time_s: float
    end_s: float | None


@dataclass(frozen=True, slots=True)
class PictureFile:
    """An APNG, WebP, zip or directory of PNGs. Times of the first two begin at zero."""

    form: str
    path: Path

    def shown(self, size: tuple[int, int]) -> Iterator[Shown]:
        """Yield each picture in order; raises CorruptVideo where one cannot be read.

        Of numbered PNGs, those of another ``size`` are not decoded.
        """
        if self.form == "apng":
            yield from _animated(self.path)
        elif self.form == "webp":
            yield from _webp(self.path)
        elif self.form == "png_files":
            yield from _numbered(self._opened, size)
        else:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    yield from _numbered(archive.open, size)
            except _BROKEN_ZIP as error:
                raise CorruptVideo(f"{self.path.name} is no zip that can be read.") from error

    def _opened(self, name: str) -> IO[bytes]:
        file = self.path / name
        if not file.is_file():
            raise FileNotFoundError(name)
        return file.open("rb")


def picture_file(path: Path) -> PictureFile | None:
    """The pictures at ``path``; None where it is something else.

    A directory, or a pattern in one such as ``frames/%04d.png``, is numbered files.
    """
    if is_pattern(path.name):
        path = path.parent
    if path.is_dir():
        return PictureFile("png_files", path)
    with path.open("rb") as file:
        head = file.read(len(_PNG))
    if head == _PNG:
        return PictureFile("apng", path)
    if head.startswith(_RIFF) and _head_of(path)[8:12] == b"WEBP":
        return PictureFile("webp", path)
    return PictureFile("png_zip", path) if head.startswith(_ZIP) else None


def _animated(path: Path) -> Iterator[Shown]:
    with path.open("rb") as file:
        is_still = _ANIMATION not in file.read(_HEAD_BYTES)
    form = "png_pipe" if is_still else "apng"
    try:
        with av.open(f"file:{path}", "r", format=form) as opened:
            for frame in opened.decode(video=0):
                base = Fraction(frame.time_base.numerator, frame.time_base.denominator)
                start = (frame.pts or 0) * base
                end = start + (frame.duration or 0) * base
                has_alpha = any(component.is_alpha for component in frame.format.components)
                times = (0.0, None) if is_still else (float(start), float(end))
                yield Shown(frame.width, frame.height, has_alpha, *times)
    except av.FFmpegError as error:
        raise CorruptVideo(f"{path.name} cannot be decoded: {error.strerror}.") from error


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_WEBP_FLAGS_AT + 1)


def _webp(path: Path) -> Iterator[Shown]:
    """Frames and their stored durations: FFmpeg, like browsers, shows short frames longer."""
    head = _head_of(path)
    flags = head[_WEBP_FLAGS_AT] if head[12:16] == b"VP8X" else 0
    has_alpha, is_still = bool(flags & _HAS_ALPHA), not flags & _IS_ANIMATION
    start = Fraction(0)
    try:
        form = "webp_pipe" if is_still else "webp_anim"
        with av.open(f"file:{path}", "r", format=form) as opened:
            base = Fraction(1, 1000)
            for frame in opened.decode(video=0):
                end = start + (frame.duration or 0) * base
                end_s = None if is_still else float(end)
                yield Shown(frame.width, frame.height, has_alpha, float(start), end_s)
                start = end
    except av.FFmpegError as error:
        raise CorruptVideo(f"{path.name} cannot be decoded: {error.strerror}.") from error


def _numbered(opened: Callable[[str], IO[bytes]], size: tuple[int, int]) -> Iterator[Shown]:
    try:
        with opened(TABLE) as file:
            table = _read(file, _MAX_TABLE_BYTES).decode()
    except _UNREADABLE as error:
        raise CorruptVideo(f"There is no {TABLE} beside the pictures.") from error
    most_bytes = 8 * size[0] * size[1] + _MAX_HEAD_BYTES  # 16 bits of four channels
    rows = csv.DictReader(io.StringIO(table))
    for row in _rows(rows):
        name = row.get("file") or ""
        try:
            start_s = float(row["time_s"])
            end_s = start_s + float(row["duration_s"])
            with opened(name) as file:
                head = file.read(_PNG_HEAD_BYTES)
                found = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
                if head.startswith(_PNG) and found != size:
                    yield Shown(*found, True, start_s, end_s)
                    continue
                data = head + _read(file, most_bytes)
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except (*_UNREADABLE, cv2.error) as error:
            raise CorruptVideo(f"{TABLE} names {name!r}, which cannot be read.") from error
        if picture is None:
            raise CorruptVideo(f"{name} is no PNG that can be decoded.")
        height, width = picture.shape[:2]
        yield Shown(width, height, picture.ndim == 3 and picture.shape[2] == 4, start_s, end_s)


def _rows(rows: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise CorruptVideo(f"{TABLE} is no table: {error}.") from error


def _read(file: IO[bytes], most_bytes: int) -> bytes:
    data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes")
    return data
