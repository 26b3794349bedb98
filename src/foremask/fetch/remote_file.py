"""A file object over bytes that another process holds."""

import os
from collections.abc import Callable
from typing import Final

_READ_BYTES: Final = 256 << 10


class RemoteFile:
    """Reads and seeks like a file, and never returns more than was asked for.

    ``read_at`` takes an offset and a size, and returns no more bytes than that; none at the end.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at, self._size, self._at = read_at, size, 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, and none only at the end."""
        left = max(0, self._size - self._at)
        size = min(left if size < 0 else size, left, _READ_BYTES)
        data = self._read_at(self._at, size) if size else b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at
