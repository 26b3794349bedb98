"""A semaphore whose slots are shared fairly between owners, such as API tokens."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from foremask.errors import Overloaded


class FairSemaphore:
    """A semaphore for one event loop; each owner holds at most ``per_owner`` of its ``slots``.

    A free slot goes to the waiting owner that holds the fewest slots. Among equals it goes to the
    owner that was given its last slot longest ago. ``on_wait`` is called for each caller that has
    to wait.
    """

    def __init__(
        self, slots: int, per_owner: int, on_wait: Callable[[], object] | None = None
    ) -> None:
        self._free = slots
        self.per_owner = per_owner
        self._on_wait = on_wait
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._turns = 0
        self._last_turn: dict[str, int] = {}

    async def acquire(self, owner: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((owner, turn))
        self._hand_out()
        if not turn.done() and self._on_wait is not None:
            self._on_wait()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.release(owner)
            elif (owner, turn) in self._waiting:
                self._waiting.remove((owner, turn))
            raise

    @asynccontextmanager
    async def slot(self, owner: str, seconds: float, done: str) -> AsyncGenerator[None]:
        """Hold a slot during the block. Raises Overloaded if none is free within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.acquire(owner)
        except TimeoutError:
            raise Overloaded(
                f"It could not be {done} within {seconds:g} s: others are. Send it again.",
                limit=self.per_owner,
            ) from None
        try:
            yield
        finally:
            self.release(owner)

    def waiting(self, owner: str) -> int:
        return sum(each == owner for each, _ in self._waiting)

    def release(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free:
            ready = [each for each in self._waiting if self._held[each[0]] < self.per_owner]
            if not ready:
                return
            first = min(ready, key=lambda it: (self._held[it[0]], self._last_turn.get(it[0], 0)))
            self._waiting.remove(first)
            owner, turn = first
            if not turn.done():
                self._free -= 1
                self._held[owner] += 1
                self._turns += 1
                self._last_turn[owner] = self._turns
                turn.set_result(None)
