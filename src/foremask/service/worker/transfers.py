"""Transfers to and from the store in the background of a step."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

AT_ONCE = 3  # a store is far away more often than it is narrow


class Transfers:
    """A few moves at a time; made by `background_transfers`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group, self._free = group, asyncio.Semaphore(AT_ONCE)

    async def begin[**P](
        self, move: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        await self._free.acquire()
        self._group.create_task(self._do(move, *args, **kwargs))

    async def _do[**P](
        self, move: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        try:
            await move(*args, **kwargs)  # made here: a task that never begins leaves nothing behind
        finally:
            self._free.release()


@asynccontextmanager
async def background_transfers() -> AsyncGenerator[Transfers]:
    """Transfers beside the block; it ends when all are done.

    The first that fails cancels the others and the block, with its error.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield Transfers(group)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
