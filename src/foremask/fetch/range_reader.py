"""A remote file, read in pieces."""

import re
from collections.abc import AsyncGenerator

import httpcore2
import httpx2

from foremask.errors import UrlStatus, UrlUnreachable
from foremask.fetch import connections
from foremask.fetch.connections import Answer, named

BLOCK_BYTES = 64 << 10
MAX_READ_BYTES = 1 << 20
BUDGET_BYTES = 16 << 20

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class RangeUnavailable(Exception):
    """The probe needs bytes that cannot be read in ranges: the downloaded file decides."""


class RangeReader:
    """A remote file, read in blocks that are cached; made by `Outbound.open_range_reader`.

    ``size`` is None where the origin does not say; ``ranged`` is whether it honours Range.
    """

    def __init__(self, pool: httpcore2.AsyncConnectionPool, url: httpx2.URL, param: str) -> None:
        self._pool, self._url, self._param = pool, url, param
        self._blocks: dict[int, bytes] = {}
        self._head = b""
        self._read_until = 0
        self._ahead_bytes = BLOCK_BYTES
        self._version = b""
        self.size: int | None = None
        self.ranged = False
        self.etag = ""
        self.bytes_read = 0

    async def open(self, max_bytes: int) -> None:
        first = [(b"Range", b"bytes=0-%d" % (BLOCK_BYTES - 1))]
        async with connections.get(self._pool, self._url, first) as answer:
            self._url = answer.url
            self.etag = answer.header("etag")
            strong = self.etag if self.etag.startswith('"') else answer.header("last-modified")
            self._version = strong.encode("latin-1")
            self.ranged = answer.status == httpx2.codes.PARTIAL_CONTENT
            self.size = _whole(answer, 0) if self.ranged else answer.length
            connections.check_size(self.size, max_bytes)
            head = await answer.read(BLOCK_BYTES if self.ranged else MAX_READ_BYTES)
        connections.check_content(head)
        self.bytes_read += len(head)
        if self.ranged:
            self._blocks[0] = head
            self._read_until = BLOCK_BYTES
        else:
            self._head = head
            if len(head) < MAX_READ_BYTES:
                self.size = len(head)

    async def read_at(self, offset: int, n: int) -> bytes:
        """At most ``n`` bytes from ``offset`` on, a MiB at most; fewer, or none, only at the end.

        Raises RangeUnavailable over the budget or where the origin ignores Range, and UrlStatus
        when the file has changed since it was opened.
        """
        n = min(n, MAX_READ_BYTES)
        if self.size is not None:
            n = min(n, self.size - offset)
        if n <= 0 or offset < 0:
            return b""
        if not self.ranged:
            if self.size != len(self._head) and offset + n > len(self._head):
                raise RangeUnavailable
            return self._head[offset : offset + n]
        first, last = offset // BLOCK_BYTES, (offset + n - 1) // BLOCK_BYTES
        missing = [index for index in range(first, last + 1) if index not in self._blocks]
        if missing:
            await self._fetch(missing[0] * BLOCK_BYTES, (missing[-1] + 1) * BLOCK_BYTES)
        data = b"".join(self._blocks[index] for index in range(first, last + 1))
        start = offset - first * BLOCK_BYTES
        return data[start : start + n]

    async def stream(self) -> AsyncGenerator[bytes]:
        """The whole file, uncached; raises as `read_at`, and where the file's size is unknown."""
        if self.size is None or not self.ranged:
            if self.size != len(self._head):
                raise RangeUnavailable
            yield self._head
            return
        self._blocks.clear()
        for start in range(0, self.size, MAX_READ_BYTES):
            yield await self._range(start, min(start + MAX_READ_BYTES, self.size))

    async def _fetch(self, start: int, stop: int) -> None:
        """Fetch the blocks of [start, stop); sequential reads fetch twice as many each time."""
        straight_on = start == self._read_until
        self._ahead_bytes = (
            min(2 * self._ahead_bytes, MAX_READ_BYTES) if straight_on else BLOCK_BYTES
        )
        if straight_on:
            stop = max(stop, start + self._ahead_bytes)
        self._read_until = stop
        if self.size is not None:
            stop = min(stop, self.size)
        if self.bytes_read + stop - start > BUDGET_BYTES:
            raise RangeUnavailable
        data = await self._range(start, stop)
        self.bytes_read += len(data)
        for at in range(0, len(data), BLOCK_BYTES):
            self._blocks[(start + at) // BLOCK_BYTES] = data[at : at + BLOCK_BYTES]

    async def _range(self, start: int, stop: int) -> bytes:
        wanted = [(b"Range", b"bytes=%d-%d" % (start, stop - 1))]
        if self._version:
            wanted.append((b"If-Range", self._version))
        with named(self._param):
            async with connections.send(self._pool, "GET", self._url, wanted) as answer:
                connections.check_status(answer)
                is_range = answer.status == httpx2.codes.PARTIAL_CONTENT
                whole = _whole(answer, start) if is_range else None
                if whole != self.size or answer.header("etag") != self.etag:
                    raise UrlStatus("The file changed while it was read; send the request again.")
                data = await answer.read(stop - start)
            if len(data) < stop - start:
                raise UrlUnreachable(
                    f"The origin sent {len(data)} of {stop - start} bytes from byte {start} on."
                )
        return data


def _whole(answer: Answer, start: int) -> int:
    """The size of the whole file, of which the answer is the range from ``start`` on."""
    given = _CONTENT_RANGE.fullmatch(answer.header("content-range"))
    if given is None or int(given[1]) != start or given[3] == "*":
        raise UrlStatus(
            "The origin answers a range request with another range than the one asked for.",
            actual=answer.status,
        )
    return int(given[3])
