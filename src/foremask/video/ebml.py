"""Reads, and in one place writes, the few Matroska elements that FFmpeg leaves out."""

from collections.abc import Callable, Iterator
from typing import Final

ReadAt = Callable[[int, int], bytes]

_DOC_TYPE: Final = b"\x42\x82"
_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_CUES: Final = b"\x1c\x53\xbb\x6b"
_TIMESTAMP, _BLOCK_GROUP, _SIMPLE_BLOCK = 0xE7, 0xA0, 0xA3
_TAIL_BYTES: Final = 1 << 20
_MAX_TAIL_BYTES: Final = 16 << 20


def number(data: bytes, at: int) -> tuple[int, int]:
    """A size at an offset, and how many bytes it takes; ValueError where there is none."""
    if at >= len(data) or not data[at]:
        raise ValueError("no EBML number here")
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        raise ValueError("the EBML number is cut off")
    value = data[at] & (0xFF >> length)
    return int.from_bytes(bytes((value,)) + data[at + 1 : at + length]), length


def doc_type(head: bytes) -> bytes:
    """``webm``, ``matroska``, or whatever the header says; empty where it says nothing."""
    at = head.find(_DOC_TYPE, 0, 128)
    if at < 0:
        return b""
    try:
        size, length = number(head, at + 2)
    except ValueError:
        return b""
    return head[at + 2 + length : at + 2 + length + size].rstrip(b"\0")


def last_block_ticks(read_at: ReadAt, size: int) -> int | None:
    """The timestamp of the latest block in the file's tail, in ticks (as a rule of 1 ms).

    For live recordings, whose header has no duration. The tail grows until it holds a cluster.
    """
    tail, start = b"", size
    while start > 0 and len(tail) < _MAX_TAIL_BYTES:
        step = min(_TAIL_BYTES, start)
        start -= step
        tail = read_at(start, step) + tail
        at = len(tail)
        while (at := tail.rfind(_CLUSTER, 0, at)) >= 0:
            ticks = list(_cluster_ticks(tail, at + 4))
            if ticks:
                return max(ticks)
    return None


def _cluster_ticks(data: bytes, at: int) -> Iterator[int]:
    """Timestamps of the blocks of the cluster whose size stands at an offset, as far as it goes."""
    base = None
    try:
        at += number(data, at)[1]
        while data[at : at + 4] not in (_CLUSTER, _CUES):
            kind = data[at]
            length, width = number(data, at + 1)
            body = at + 1 + width
            if kind == _TIMESTAMP:
                base = int.from_bytes(data[body : body + length])
            elif kind == _SIMPLE_BLOCK and base is not None:
                track_width = number(data, body)[1]
                offset = data[body + track_width : body + track_width + 2]
                yield base + int.from_bytes(offset, signed=True)
            elif kind == _BLOCK_GROUP and base is not None:
                yield base
            elif base is None:
                return
            at = body + length
    except (ValueError, IndexError):
        return
