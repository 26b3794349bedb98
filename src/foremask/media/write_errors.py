"""Tells a disk that does not take a mask from a muxer that does not."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import av

from foremask.errors import OutputFailed

_OF_THE_DISK: Final = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
}


@contextmanager
def writing() -> Iterator[None]:
    """Within it, an error of the disk becomes OutputFailed; any other passes.

    Write no more into that output afterwards: FFmpeg crashes in muxers whose header failed.
    """
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise OutputFailed(f"The mask cannot be written: {error.strerror}.") from error
