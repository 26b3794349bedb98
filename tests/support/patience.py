"""Waits of tests, which end with an event, or with an error after a time that no machine needs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypedDict

PATIENCE_S = 150.0


class OfDatabases(TypedDict):
    patience_s: float
    call_s: float


PATIENT: OfDatabases = {"patience_s": PATIENCE_S, "call_s": 2 * PATIENCE_S}
"""Arguments for `Database`: a busy machine may not open a connection within the usual 2 s."""


async def until[T](ask: Callable[[], Awaitable[T]], is_so: Callable[[T], object] = bool) -> T:
    """Return the first answer for which ``is_so`` is true. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so(found := await ask()):  # noqa: ASYNC110  # a database has no events
            await asyncio.sleep(0.02)
    return found


async def until_so(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # of files and counters there are no events
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run ``work`` beside the block, and cancel it at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def wait_until[T](condition: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    return found
