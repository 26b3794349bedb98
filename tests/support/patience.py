"""Waits for what a test has caused: it ends with the event, and has a cap that no machine needs."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 150.0
"""How long a test waits for something that will come: fewer seconds are a test of the machine."""


async def until[T](ask: Callable[[], Awaitable[T] | T], is_so: Callable[[T], object] = bool) -> T:
    """The first answer for which ``is_so``; TimeoutError when none comes."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = ask()
            found: T = await answer if inspect.isawaitable(answer) else answer
            if is_so(found):
                return found
            await asyncio.sleep(0.02)


def wait_until[T](condition: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    return found
