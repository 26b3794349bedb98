"""A file object over bytes that another process holds."""

import os
from typing import Final, Protocol

_READ_BYTES: Final = 256 << 10


class Holder(Protocol):
    """The holder of the bytes."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end of the file."""
        ...


class RemoteFile:
    """Reads and seeks like a file, and never returns more than was asked for."""

    def __init__(self, holder: Holder, size: int) -> None:
        self._holder, self._size, self._at = holder, size, 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, and none only at the end."""
        left = max(0, self._size - self._at)
        size = min(left if size < 0 else size, left, _READ_BYTES)
        data = self._holder.read_at(self._at, size) if size else b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at
