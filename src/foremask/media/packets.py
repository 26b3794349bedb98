"""Defines the type of encoded packets, and raises disk errors as OutputFailed."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import av
from av.packet import Packet

from foremask.errors import OutputFailed

type AnyPacket = Packet[Any]

_OF_THE_DISK: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def writing(what: str = "The mask") -> Iterator[None]:
    """Raise disk errors as OutputFailed, whose details begin with ``what``.

    After such an error, write no more: FFmpeg crashes if it could not write the header.
    """
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise OutputFailed(f"{what} cannot be written: {error.strerror}.") from error
