"""The guarded client for callers without an event loop: the command line."""

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from foremask.fetch.addresses import Network
from foremask.fetch.client import Downloaded, Outbound, deadline
from foremask.fetch.range_reader import RangeReader

READ_S = 30.0


def download_file(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    deadline_s: float = 3600.0,
    allow_private: Iterable[Network] = (),
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> Downloaded:
    """`Outbound.download` into the file ``path``."""

    async def fetch() -> Downloaded:
        async with Outbound(allow_private=allow_private) as outbound:
            return await outbound.download(
                url, sink, max_bytes=max_bytes, deadline_s=deadline_s, on_bytes=on_bytes
            )

    with path.open("wb") as sink:
        return asyncio.run(fetch())


class Ranges:
    """A remote file of ``size`` bytes (None: unknown), read in pieces; made by `open_ranges`."""

    def __init__(self, loop: asyncio.Runner, reader: RangeReader) -> None:
        self._loop, self._reader = loop, reader
        self.size = reader.size

    def read_at(self, offset: int, size: int) -> bytes:
        """As `RangeReader.read_at`, and UrlUnreachable where it takes longer than ``READ_S``."""
        return self._loop.run(self._read(offset, size))

    async def _read(self, offset: int, size: int) -> bytes:
        async with deadline("video", READ_S):
            return await self._reader.read_at(offset, size)


@contextmanager
def open_ranges(
    url: str, *, max_bytes: int, allow_private: Iterable[Network] = ()
) -> Generator[Ranges]:
    """`Outbound.open_range_reader`, opened within ``READ_S``."""
    held = AsyncExitStack()

    async def opened() -> RangeReader:
        outbound = await held.enter_async_context(Outbound(allow_private=allow_private))
        async with deadline("video", READ_S):
            return await held.enter_async_context(
                outbound.open_range_reader(url, max_bytes=max_bytes)
            )

    with asyncio.Runner() as loop:
        try:
            yield Ranges(loop, loop.run(opened()))
        finally:
            loop.run(held.aclose())
