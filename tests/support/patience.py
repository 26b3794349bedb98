"""Waits for what a test has caused: it ends with the event, and has a cap that no machine needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypedDict

PATIENCE_S = 150.0
"""How long a test waits for something that will come: fewer seconds are a test of the machine."""


class OfDatabases(TypedDict):
    patience_s: float
    call_s: float


PATIENT: OfDatabases = {"patience_s": PATIENCE_S, "call_s": 2 * PATIENCE_S}
"""For a `Database` of a test: within its usual 2 s a busy machine may open no connection."""


async def until[T](ask: Callable[[], Awaitable[T]], is_so: Callable[[T], object] = bool) -> T:
    """The first answer for which ``is_so``; TimeoutError when none comes."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so(found := await ask()):  # noqa: ASYNC110  # a database has no events
            await asyncio.sleep(0.02)
    return found


async def until_so(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # of files and counters there are no events
            await asyncio.sleep(0.02)


def wait_until[T](condition: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    return found
