"""A semaphore whose places are shared fairly between owners, such as API tokens."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from foremask.errors import Overloaded

MOST_OWNERS = 10_000  # whose latest turns are remembered


class FairSemaphore:
    """A semaphore of ``places``, at most ``per_owner`` of them for one owner; for one event loop.

    A free place goes to the waiting owner that holds the fewest; if several do, to the one whose
    last place was given longest ago. ``on_wait`` is called for each caller that has to wait.
    """

    def __init__(
        self, places: int, per_owner: int, on_wait: Callable[[], object] | None = None
    ) -> None:
        self._free, self.per_owner, self._on_wait = places, per_owner, on_wait
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._turns = 0
        self._last_turn: dict[str, int] = {}

    async def acquire(self, owner: str) -> None:
        """Wait for a place and take it; a cancelled wait takes none."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._hand_out()
        if not turn.done() and self._on_wait is not None:
            self._on_wait()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(owner)
            else:
                self._forget(owner, turn)
            raise

    @asynccontextmanager
    async def place(self, owner: str, seconds: float, done: str) -> AsyncGenerator[None]:
        """Hold a place during the block.

        Raises Overloaded, which says what could not be ``done``, when none is free in ``seconds``.
        """
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
        return len(self._waiting.get(owner, ()))

    def release(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free:
            ready = [each for each in self._waiting if self._held[each] < self.per_owner]
            if not ready:
                return
            owner = min(ready, key=lambda each: (self._held[each], self._last_turn.get(each, 0)))
            turn = self._waiting[owner].popleft()
            if not self._waiting[owner]:
                del self._waiting[owner]
            if not turn.done():
                self._free -= 1
                self._held[owner] += 1
                self._turns += 1
                self._last_turn[owner] = self._turns
                turn.set_result(None)
        if len(self._last_turn) > MOST_OWNERS:
            self._last_turn = {}

    def _forget(self, owner: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[owner]
