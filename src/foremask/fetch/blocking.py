"""The guarded client for callers without an event loop: the command line."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from foremask.fetch.client import Outbound
from foremask.fetch.connections import Network

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
