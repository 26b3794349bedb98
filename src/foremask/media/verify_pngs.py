"""Compares a sequence of PNGs, in a directory or a zip, with its source."""

import csv
import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Final

from foremask.errors import CorruptVideo, PromiseBroken
from foremask.media.frames import Frame
from foremask.media.pictures import read_picture
from foremask.media.png_sequence import COLUMNS, TABLE
from foremask.media.promises import ROUNDING_S, PromiseKept, check, check_moment
from foremask.media.reader import NamedReader, VideoReader
from foremask.options import ResultKind

_ZIP_HEADS: Final = (b"PK\x03\x04", b"PK\x05\x06")  # of a zip, and of an empty one
_PNG_HEAD: Final = struct.Struct(">8s4x4sII")  # signature, name of the first chunk, width, height
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_ROW_BYTES: Final = 1024  # A name has at most 255 bytes, a time about 20.
_MAX_NOTES_BYTES: Final = 1 << 20  # Text, a colour profile and the like in one PNG.
# Both ends of a frame are rounded to a millionth of a second in the table.
_TABLE_END_S: Final = 3 * ROUNDING_S


@dataclass(frozen=True, slots=True)
class _Row:
    file: str
    start_s: float
    duration_s: float


def is_sequence(mask: Path) -> bool:
    """Whether ``mask`` is a directory, or a zip from its first byte on."""
    if mask.is_dir():
        return True
    with mask.open("rb") as file:
        return file.read(4) in _ZIP_HEADS


def verify_pngs(source: Path, mask: Path, kind: ResultKind) -> Iterator[PromiseKept]:
    """Check names, number, sizes, alpha and times of the PNGs; raises PromiseBroken.

    The memory is that of one frame and one PNG, whatever the zip declares.
    """
    if kind is ResultKind.MASK:
        details = (
            "A mask is a video. Ask for the kind cutout for a sequence of PNGs, "
            "or composite for the folder of a matting tool."
        )
        raise PromiseBroken(details, param="container")
    with _opened_folder(mask) as folder, NamedReader(source) as reader:
        yield PromiseKept("container", "PNG sequence")
        yield from _compared(reader, folder, kind)


@contextmanager
def _opened_folder(mask: Path) -> Iterator[Path | zipfile.Path]:
    try:
        if mask.is_dir():
            yield mask
            return
        with zipfile.ZipFile(mask) as archive:
            _check_archive(archive, mask.stat().st_size)
            yield zipfile.Path(archive)
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        details = f"{mask.name} cannot be read as a sequence of PNGs: {error}."
        raise PromiseBroken(details, param="container") from error


def _check_archive(archive: zipfile.ZipFile, size_bytes: int) -> None:
    """Raise PromiseBroken if the files in the zip would take more bytes than the zip has."""
    declared_bytes = 0
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            details = f"{entry.filename} is compressed; foremask stores files in a zip as they are."
            raise PromiseBroken(details, param="container")
        declared_bytes += entry.file_size
    if declared_bytes > size_bytes:
        details = f"The zip has {size_bytes} bytes, and declares {declared_bytes}."
        raise PromiseBroken(details, param="container", limit=size_bytes, actual=declared_bytes)


def _compared(
    reader: VideoReader, folder: Path | zipfile.Path, kind: ResultKind
) -> Iterator[PromiseKept]:
    count = 0
    worst_s = 0.0
    names = set[str]()
    size = ""
    end_s = 0.0
    for frame, row in zip_longest(reader, _rows(folder)):
        if frame is None or row is None:
            longer = "source" if row is None else "table"
            raise PromiseBroken(f"The {longer} goes on after {count} frames.", param="frames")
        if row.file in names:
            raise PromiseBroken(f"{TABLE} names {row.file} twice.", param="frames")
        names.add(row.file)
        _check_png(folder, row.file, frame, kind)
        moved_s = float(frame.moved * frame.time_base)
        off_s = check_moment(count, row.start_s, frame.unmoved_s, 2 * ROUNDING_S, moved_s)
        worst_s = max(worst_s, off_s)
        end_s = row.start_s + row.duration_s
        size = f"{frame.width}x{frame.height}"
        count += 1
    yield PromiseKept("frames", str(count))
    yield PromiseKept("size", size)
    if kind is ResultKind.CUTOUT:
        yield PromiseKept("alpha", f"{count} frames")
    yield PromiseKept("pts", f"within {1000 * worst_s:.3f} ms")
    wanted_end_s = float(reader.end or 0)
    is_near = abs(end_s - wanted_end_s) <= _TABLE_END_S
    found = f"ends at {end_s:.6f} s"
    yield check("last duration", is_near, found, f"ends at {wanted_end_s:.6f} s")


def _rows(folder: Path | zipfile.Path) -> Iterator[_Row]:
    path = folder / TABLE
    if not path.is_file():
        raise PromiseBroken(f"There is no {TABLE}.", param="container")
    with path.open("rb") as table:
        lines = iter(partial(table.readline, _MAX_ROW_BYTES), b"")
        rows = csv.reader(line.decode() for line in lines)
        try:
            head = next(rows, None)
            for file, start_s, duration_s in rows:
                yield _Row(file, float(start_s), float(duration_s))
        except (ValueError, csv.Error) as error:
            details = f"Line {rows.line_num} of {TABLE} cannot be read: {error}."
            raise PromiseBroken(details, param="frames") from error
    if head != COLUMNS:
        raise PromiseBroken(f"{TABLE} does not begin with {','.join(COLUMNS)}.", param="frames")


def _check_png(folder: Path | zipfile.Path, name: str, frame: Frame, kind: ResultKind) -> None:
    inner = PurePosixPath(name)
    is_inside = not inner.is_absolute() and ".." not in inner.parts
    if not is_inside or not name.lower().endswith(".png"):
        raise PromiseBroken(f"{TABLE} names {name!r}, which is no PNG inside.", param="frames")
    path = folder / name
    if not path.is_file():
        raise PromiseBroken(f"{TABLE} names {name}, and it is not there.", param="frames")
    with path.open("rb") as file:
        head = file.read(_PNG_HEAD.size).ljust(_PNG_HEAD.size, b"\0")
        signature, chunk, width, height = _PNG_HEAD.unpack(head)
        if signature != _PNG_SIGNATURE or chunk != b"IHDR":
            raise PromiseBroken(f"{name} is no PNG.", param="frames")
        wanted = f"{frame.width}x{frame.height} in frame {frame.index}"
        is_same = (width, height) == (frame.width, frame.height)
        check("size", is_same, f"{width}x{height} in {name}", wanted)  # before it is decoded
        most_bytes = _most_bytes(width, height)
        data = head + file.read(most_bytes)
    if not data.endswith(_PNG_END):
        raise PromiseBroken(f"{name} is cut off, or has over {most_bytes} bytes.", param="frames")
    try:
        decoded = read_picture(io.BytesIO(data)).decoded
    except CorruptVideo as error:
        raise PromiseBroken(f"{name} cannot be decoded.", param="frames") from error
    has_alpha = any(component.is_alpha for component in decoded.format.components)
    if kind is ResultKind.CUTOUT and not has_alpha:
        raise PromiseBroken(f"{name} has no alpha: it is {decoded.format.name}.", param="alpha")


def _most_bytes(width: int, height: int) -> int:
    """Twice the pixels' bytes, with four channels of 16 bits, and room for text and profiles."""
    return 2 * (8 * width + 1) * height + _MAX_NOTES_BYTES
