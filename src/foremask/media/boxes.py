"""Reads boxes of an MP4 file that FFmpeg does not report."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

ReadAt = Callable[[int, int], bytes]
"""``read_at(offset, size)`` returns ``size`` bytes, or fewer at the end of the file."""

_TO_THE_SAMPLE_ENTRIES: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_PROTECTED: Final = {b"encv", b"enca", b"drms", b"drmi"}
_MAX_BOXES: Final = 20_000
_FEW_BOXES: Final = 6  # ftyp, moov, free, mdat; each may be a request to a remote file's host
_TAIL_BYTES: Final = 1 << 20
_FRAGMENT: Final = b"moof\0\0\0\x10mfhd"  # a fragment begins with the header of its number
_OF_FRAGMENTS: Final = {b"moof", b"sidx", b"styp"}
_TOP_LEVEL: Final = {*_OF_FRAGMENTS, b"ftyp", b"moov", b"mdat", b"mfra", b"emsg", b"prft"}
"""Cameras append data without boxes: its first bytes are no length."""


def survey(read_at: ReadAt, size: int) -> tuple[bool, bool]:
    """Whether the file has a moov box, and whether a track in the first moov box is encrypted."""
    has_header = encrypted = False
    for depth, kind, body, _ in islice(_walk(read_at, 0, size, 0), _MAX_BOXES):
        if has_header and depth == 0:
            break
        has_header |= kind == b"moov"
        if kind == b"stsd":
            encrypted |= read_at(body + 8, 8)[4:8] in _PROTECTED
    return has_header, encrypted


def declared_size(
    read_at: ReadAt, size: int, start: int = 0, most_boxes: int = 50 * _MAX_BOXES
) -> int:
    """Return the end offset of the last known top-level box, from the boxes' declared lengths.

    It is more than ``size`` only if the file was cut off. At most ``most_boxes`` are read, from
    the one at ``start`` on; fragmented files have many.
    """
    return _end_of(_top_level(read_at, size, start, most_boxes))


def declared_size_nearby(read_at: ReadAt, size: int) -> int:
    """Return `declared_size` of the first boxes and of a fragmented file's last fragment.

    It reads 6 boxes and, of a fragmented file, the last MiB and 6 boxes more.
    """
    first = [*_top_level(read_at, size, 0, _FEW_BOXES)]
    is_fragmented = any(kind in _OF_FRAGMENTS for kind, _ in first)
    declared = _end_of(first)
    if declared > size or not is_fragmented:
        return declared
    tail_at = max(0, size - _TAIL_BYTES)
    at = read_at(tail_at, _TAIL_BYTES).rfind(_FRAGMENT) - 4
    if at < 0:
        return declared
    return max(declared, declared_size(read_at, size, tail_at + at, _FEW_BOXES))


def _top_level(read_at: ReadAt, size: int, start: int, most: int) -> Iterator[tuple[bytes, int]]:
    walk = _walk(read_at, start, size, len(_TO_THE_SAMPLE_ENTRIES))
    return ((kind, end) for _, kind, _, end in islice(walk, most))


def _end_of(found: Iterable[tuple[bytes, int]]) -> int:
    return max((end for kind, end in found if kind in _TOP_LEVEL), default=0)


def _walk(
    read_at: ReadAt, start: int, end: int, depth: int
) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield depth, kind, body start and body end of boxes; enter only `_TO_THE_SAMPLE_ENTRIES`."""
    while start < end:
        head = read_at(start, 16)
        length = int.from_bytes(head[:4])
        kind = head[4:8]
        body = start + 8
        if length == 1:  # the length has 64 bits and follows the kind
            length = int.from_bytes(head[8:16])
            body = start + 16
        elif length == 0:  # the box extends to the end
            length = end - start
        box_end = max(body, start + length)
        yield depth, kind, body, box_end
        if depth < len(_TO_THE_SAMPLE_ENTRIES) and kind == _TO_THE_SAMPLE_ENTRIES[depth]:
            yield from _walk(read_at, body, min(box_end, end), depth + 1)
        start = box_end
