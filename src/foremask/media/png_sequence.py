"""Writes numbered PNGs and a table of their times into a directory or a zip."""

import csv
import hashlib
import io
import re
import zipfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np

from foremask.errors import FieldInvalid, Internal
from foremask.facts import Clip, Written
from foremask.media.frames import Frame
from foremask.media.mask_file import left_out
from foremask.media.packets import writing
from foremask.types import DeepRgb, Levels, Rgb

TABLE: Final = "frames.csv"
COLUMNS: Final = ["file", "time_s", "duration_s"]
DEFAULT_PATTERN: Final = "%05d.png"
_NUMBER: Final = re.compile(r"%0?(\d{0,3})d")
_MAX_NAME_BYTES: Final = 255  # NAME_MAX of Linux and of its usual file systems
_FAST: Final = (cv2.IMWRITE_PNG_COMPRESSION, 3)


def is_pattern(name: str) -> bool:
    return name.lower().endswith(".png") and len(_NUMBER.findall(name)) == 1


def check_pattern(name: str) -> None:
    """Raise FieldInvalid if the names would be longer than file systems allow."""
    length = len(numbered(name, 1).encode())
    if length > _MAX_NAME_BYTES:
        details = (
            f"The names of the pictures would have {length} bytes; {_MAX_NAME_BYTES} are the most."
        )
        raise FieldInvalid(details, param="target", limit=_MAX_NAME_BYTES, actual=length)


def numbered(pattern: str, number: int) -> str:
    return _NUMBER.sub(lambda found: f"{number:0{int(found[1] or 0)}d}", pattern, count=1)


def numbering(pattern: str) -> re.Pattern[str]:
    """A regular expression for the names of a sequence's pictures and of its table."""
    before, after = _NUMBER.sub("\0", pattern, count=1).split("\0")
    return re.compile(rf"{re.escape(before)}\d+{re.escape(after)}|{re.escape(TABLE)}")


def colour_png(colours: Rgb | DeepRgb, levels: Levels | None) -> bytes:
    channels = list(cv2.split(np.ascontiguousarray(colours[:, :, ::-1])))
    if levels is not None:
        alpha = np.ascontiguousarray(levels)
        channels.append(alpha if colours.dtype == np.uint8 else alpha * np.uint16(257))
    done, encoded = cv2.imencode(".png", cv2.merge(channels), _FAST)
    if not done:
        raise Internal("OpenCV does not write a PNG")
    return encoded.tobytes()


class PngSequenceWriter:
    """Writes upright PNGs, numbered from ``first_number``, and a table of their times.

    ``target`` is an existing directory or, with ``into_zip``, the zip to create.
    """

    def __init__(
        self, target: Path, clip: Clip, pattern: str, first_number: int = 1, *, into_zip: bool
    ) -> None:
        self._first_number = first_number
        self._target = target
        self._clip = clip
        self._pattern = pattern
        self._zip = None
        if into_zip:
            with writing():
                self._zip = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)
        self._digest: Any = hashlib.sha256()
        self._bytes = 0
        self._moments: list[Fraction] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            with suppress(OSError):  # if `finish` has not closed it, the zip is not kept
                self._zip.close()

    def write(self, colours: Rgb | DeepRgb, levels: Levels | None, frame: Frame) -> None:
        upright = frame.orientation.to_upright
        png = colour_png(upright(colours), None if levels is None else upright(levels))
        self.add(numbered(self._pattern, self._first_number + len(self._moments)), png)
        self._moments.append(frame.pts * frame.time_base)

    def finish(self, end: Fraction | None) -> Written:
        """Write the table and close the zip; ``end`` is the last frame's end in seconds."""
        if not self._moments:
            raise Internal("no picture was written")
        if end is None:
            end = self._moments[-1] + 1 / Fraction(self._clip.fps or 25)
        self.add(TABLE, self._table(end))
        sha256 = self._digest.hexdigest()
        if self._zip is not None:
            with writing():
                self._zip.close()
            self._bytes = self._target.stat().st_size
            with self._target.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Written(
            frames_out=len(self._moments),
            duration_s=float(end - self._moments[0]),
            duration_drift_ms=0.0,
            audio=left_out(self._clip, "pictures have no sound"),
            sound_warnings=(),
            sha256=sha256,
            bytes=self._bytes,
        )

    def _table(self, end: Fraction) -> bytes:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        ends = [*self._moments[1:], end]
        first = self._first_number
        for number, (start, stop) in enumerate(zip(self._moments, ends, strict=True), first):
            name = numbered(self._pattern, number)
            rows.writerow([name, f"{float(start):.6f}", f"{float(stop - start):.6f}"])
        return text.getvalue().encode()

    def add(self, name: str, data: bytes) -> None:
        self._digest.update(data)
        self._bytes += len(data)
        with writing():
            if self._zip is not None:
                self._zip.writestr(name, data)
            else:
                (self._target / name).write_bytes(data)
