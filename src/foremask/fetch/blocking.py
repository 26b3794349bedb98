"""The guarded client for callers without an event loop: the command line."""

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from foremask.fetch.client import Outbound, deadline
from foremask.fetch.range_reader import RangeReader
from foremask.fetch.remote_file import RemoteFile
from foremask.fetch.urls import Network

READ_S = 30.0
DOWNLOAD_S = 3600.0


def download_file(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    allow_private: Iterable[Network] = (),
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> None:
    """`Outbound.download` into the file ``path``."""

    async def fetch() -> None:
        async with Outbound(allow_private=allow_private) as outbound:
            await outbound.download(
                url, file.write, max_bytes=max_bytes, deadline_s=DOWNLOAD_S, on_bytes=on_bytes
            )

    with path.open("wb") as file:
        asyncio.run(fetch())


@contextmanager
def open_ranges(
    url: str, *, max_bytes: int, allow_private: Iterable[Network] = ()
) -> Generator[RemoteFile | None]:
    """The file at ``url``, read in pieces; None where its size is unknown.

    Raises as `Outbound.open_range_reader`, and UrlUnreachable where it, or a piece, takes longer
    than ``READ_S``.
    """
    held = AsyncExitStack()

    async def opened() -> RangeReader:
        outbound = await held.enter_async_context(Outbound(allow_private=allow_private))
        async with deadline("video", READ_S):
            return await held.enter_async_context(
                outbound.open_range_reader(url, max_bytes=max_bytes)
            )

    async def read(offset: int, size: int) -> bytes:
        async with deadline("video", READ_S):
            return await reader.read_at(offset, size)

    with asyncio.Runner() as loop:
        try:
            reader = loop.run(opened())
            if reader.size is None:
                yield None
            else:
                yield RemoteFile(lambda offset, size: loop.run(read(offset, size)), reader.size)
        finally:
            loop.run(held.aclose())
