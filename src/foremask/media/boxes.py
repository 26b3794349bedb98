"""Reads boxes of an MP4 file that FFmpeg does not report."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

ReadAt = Callable[[int, int], bytes]
"""``read_at(offset, size)`` returns ``size`` bytes, or fewer at the end of the file."""

_TO_THE_SAMPLE_ENTRIES: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_PROTECTED: Final = {b"encv", b"enca", b"drms", b"drmi"}
_MAX_BOXES: Final = 20_000


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


def declared_size(read_at: ReadAt, size: int, most_boxes: int = 50 * _MAX_BOXES) -> int:
    """Return the end offset of the last top-level box, from the boxes' declared lengths.

    At most ``most_boxes`` are read; fragmented files have many.
    """
    boxes = islice(_walk(read_at, 0, size, len(_TO_THE_SAMPLE_ENTRIES)), most_boxes)
    return max((end for _, _, _, end in boxes), default=0)


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
