"""Detects truncated files, which may decode without an error."""

from typing import BinaryIO, Final

from foremask.media import ebml
from foremask.media.demux import Container

_TAIL_BYTES: Final = 64
_HEAD_BYTES: Final = 64
_UNKNOWN_SIZE_BITS: Final = 7


def is_cut_off(file: BinaryIO, container: Container) -> bool:
    """Whether the file ends inside a box of MP4, inside WebM's segment, or before gif's last byte.

    AVI is not checked: its sizes are often wrong, and its header counts frames.
    """
    size = file.seek(0, 2)
    match container:
        case Container.MP4 | Container.MOV:
            return _boxes_end(file, size) > size
        case Container.WEBM | Container.MKV:
            return _segment_end(file) > size
        case Container.GIF:
            file.seek(max(0, size - _TAIL_BYTES))
            return not file.read().rstrip(b"\0").endswith(b";")
        case Container.AVI | Container.OTHER:
            return False


def _boxes_end(file: BinaryIO, size: int) -> int:
    """The offset at which the last box ends, by its declared size."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length == 0:  # as long as the file
            return size
        at += max(8, length)
    return at


def _segment_end(file: BinaryIO) -> int:
    """The offset at which the segment ends, by its declared size; 0 if none (live recordings)."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    try:
        at = 4
        length, width = ebml.number(head, at)
        at += width + length + 4  # the header's body, and the segment's kind
        length, width = ebml.number(head, at)
    except ValueError:
        return 0
    unknown = (1 << (_UNKNOWN_SIZE_BITS * width)) - 1
    return 0 if length == unknown else at + width + length
