"""Reads Matroska elements that FFmpeg does not report, and writes the display size."""

import re
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

from foremask.errors import Internal
from foremask.media.boxes import ReadAt

# IDs of elements: RFC 9559.
_SEGMENT: Final = b"\x18\x53\x80\x67"
_TRACKS: Final = b"\x16\x54\xae\x6b"
_TRACK: Final = b"\xae"
_VIDEO: Final = b"\xe0"
_WIDTH: Final = b"\xb0"
_HEIGHT: Final = b"\xba"
_DISPLAY_WIDTH: Final = b"\x54\xb0"
_DISPLAY_HEIGHT: Final = b"\x54\xba"
_DISPLAY_UNIT: Final = b"\x54\xb2"
_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_CUES: Final = b"\x1c\x53\xbb\x6b"
_TIMESTAMP: Final = b"\xe7"
_BLOCK_GROUP: Final = b"\xa0"
_SIMPLE_BLOCK: Final = b"\xa3"
_CRC: Final = b"\xbf"
_VOID: Final = b"\xec"
_AT_THE_END: Final = {
    *(_CLUSTER, _CUES, _TIMESTAMP, _BLOCK_GROUP, _SIMPLE_BLOCK, _CRC, _VOID),
    *(b"\xa7", b"\xab", b"\xaf"),  # of a cluster: Position, PrevSize, EncryptedBlock
    *(b"\x12\x54\xc3\x67", b"\x11\x4d\x9b\x74"),  # of the segment: Tags, SeekHead
    *(b"\x10\x43\xa7\x70", b"\x19\x41\xa4\x69"),  # Chapters, Attachments
}
_CLUSTER_START: Final = re.compile(
    _CLUSTER
    + rb"(?:[\x80-\xff]|[\x40-\x7f].|[\x20-\x3f].{2}|[\x10-\x1f].{3}|[\x08-\x0f].{4}"
    + rb"|[\x04-\x07].{5}|[\x02\x03].{6}|\x01.{7})(?:\xe7[\x81-\x88]|\xbf\x84)",
    re.DOTALL,
)
"""A cluster's ID, its size, and its timestamp or CRC; four bytes of a frame may be like the ID."""
_OVERLAP_BYTES: Final = 16
_MAX_ELEMENTS: Final = 100_000
_DOCUMENT_BYTES: Final = 64  # The document's header and the segment's are shorter.
_HEAD_BYTES: Final = 1 << 20  # The tracks are in the first few hundred bytes.
_TAIL_BYTES: Final = 1 << 20  # Read at once, from the end.
_MAX_TAIL_BYTES: Final = 16 << 20  # A cluster of FFmpeg's has at most 5 MiB, a browser's less.


def declared_size(read_at: ReadAt, size: int, tail_bytes: int = _MAX_TAIL_BYTES) -> int:
    """Return the segment's end offset, or if it is not declared, that of the last element.

    It is more than ``size`` only if the file was cut off. Live recordings do not declare the
    segment's size, and some not the clusters': of ``tail_bytes``, the elements behind the start of
    the last cluster are read. It is 0 if nothing is declared.
    """
    head = read_at(0, _DOCUMENT_BYTES)
    try:
        length, width = _number(head, 4)
        at = 4 + width + length + 4  # after the header's body and the segment's ID
        length, width = _number(head, at)
    except ValueError:
        return 0
    if head[at - 4 : at] != _SEGMENT:
        return 0
    if not _is_unknown(length, width):
        return at + width + length
    return _end_of_last_cluster(read_at, size, tail_bytes)


def _is_unknown(size: int, width: int) -> bool:
    return size == (1 << 7 * width) - 1


def _end_of_last_cluster(read_at: ReadAt, size: int, tail_bytes: int) -> int:
    for start, tail in _growing_tail(read_at, size, tail_bytes):
        new = tail[: _TAIL_BYTES + _OVERLAP_BYTES]
        found = [each.start() for each in _CLUSTER_START.finditer(new)]
        if found:
            return start + _declared_end(tail, found[-1])
    return 0


def _growing_tail(read_at: ReadAt, size: int, most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the file's last MiB and where it starts, then its last two MiB, and so on."""
    tail = b""
    start = size
    while start > 0 and len(tail) < most_bytes:
        step = min(_TAIL_BYTES, start)
        start -= step
        tail = read_at(start, step) + tail
        yield start, tail


def _declared_end(data: bytes, at: int) -> int:
    """Return the end of the last element from the cluster at an offset on, which may be unknown."""
    end = 0
    for _ in range(_MAX_ELEMENTS):
        if at >= len(data):
            break
        width = 9 - data[at].bit_length()
        kind = data[at : at + width]
        if kind not in _AT_THE_END:  # a recorder's own data, or zeros
            break
        try:
            length, number_width = _number(data, at + width)
        except ValueError:
            break
        at += width + number_width
        if not _is_unknown(length, number_width):
            at += length
            end = at
        elif kind != _CLUSTER:
            break
    return end


def _number(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return the EBML number at an offset and its length; raises ValueError if invalid."""
    if at >= len(data):
        raise ValueError("no EBML number here")
    length = 9 - data[at].bit_length()
    if length > 8 or at + length > len(data):
        raise ValueError("no EBML number here")
    value = data[at] & (0xFF >> length)
    return int.from_bytes(bytes((value,)) + data[at + 1 : at + length]), length


def last_block_ticks(read_at: ReadAt, size: int) -> int | None:
    """Return the latest block timestamp of the file's last 16 MiB, in ticks (usually 1 ms)."""
    for _, tail in _growing_tail(read_at, size, _MAX_TAIL_BYTES):
        at = len(tail)
        while (at := tail.rfind(_CLUSTER, 0, at)) >= 0:
            ticks = list(_cluster_ticks(tail, at + 4))
            if ticks:
                return max(ticks)
    return None


def _cluster_ticks(data: bytes, at: int) -> Iterator[int]:
    base = None
    try:
        for kind, (body, end) in _elements(data, at + _number(data, at)[1], len(data)):
            if kind == _TIMESTAMP:
                base = int.from_bytes(data[body:end])
            elif base is None or kind in (_CLUSTER, _CUES):
                return
            elif kind == _SIMPLE_BLOCK:
                offset_at = body + _number(data, body)[1]  # after the track number
                yield base + int.from_bytes(data[offset_at : offset_at + 2], signed=True)
            elif kind == _BLOCK_GROUP:
                yield base
    except ValueError:
        return


def set_aspect(path: Path, aspect: Fraction) -> None:
    """Replace a Void element by a display size that gives the pixel aspect: docs/adr/0010."""
    with path.open("r+b") as file:
        head = bytearray(file.read(_HEAD_BYTES))
        tracks_at, tracks_end = _find(head, (_SEGMENT, _TRACKS))
        video_at, video_end = _find(head, (_SEGMENT, _TRACKS, _TRACK, _VIDEO))
        _, track_end = _find(head, (_SEGMENT, _TRACKS, _TRACK))
        inside = dict(_elements(head, video_at, video_end))
        void_at, void_end = dict(_elements(head, video_end, track_end)).get(_VOID, (0, 0))
        void_at -= 9  # the element's header: one byte of ID, eight of size
        width = _integer(head, inside[_WIDTH])
        height = _integer(head, inside[_HEIGHT])
        wide = max(1, round(width * aspect))
        display = _DISPLAY_WIDTH + b"\x83" + wide.to_bytes(3)
        display += _DISPLAY_HEIGHT + b"\x82" + height.to_bytes(2)
        if void_end - void_at != len(display) or head[video_at - 1] + len(display) > 0xFE:
            raise Internal("the WebM muxer left no room for the display size")
        if _DISPLAY_UNIT in inside:  # FFmpeg wrote "unknown"; a 0 means pixels
            head[inside[_DISPLAY_UNIT][0]] = 0
        head[video_at - 1] += len(display)
        head[video_end:void_end] = display + head[video_end:void_at]
        body = dict(_elements(head, tracks_at, tracks_end))
        if _CRC in body:
            at, end = body[_CRC]
            head[at:end] = zlib.crc32(head[end:tracks_end]).to_bytes(4, "little")
        file.seek(0)
        file.write(head)


def _integer(data: bytearray, body: tuple[int, int]) -> int:
    start, end = body
    return int.from_bytes(data[start:end])


def _elements(
    data: bytes | bytearray, at: int, end: int
) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield the ID of each element between two offsets, and the start and end of its body."""
    while at < end:
        width = 9 - data[at].bit_length()
        kind = bytes(data[at : at + width])
        size, length = _number(data, at + width)
        body = at + width + length
        yield kind, (body, body + size)
        at = body + size


def _find(data: bytes | bytearray, kinds: tuple[bytes, ...]) -> tuple[int, int]:
    at = 0
    end = len(data)
    for wanted in kinds:
        for kind, body in _elements(data, at, end):
            if kind == wanted:
                at, end = body
                break
        else:
            raise Internal("the WebM muxer wrote something unforeseen")
    return at, end
