"""Masks single pictures for previews, whose callers take turns."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from foremask.errors import JobCancelled, Overloaded, TimedOut
from foremask.fetch.fairness import FairSemaphore
from foremask.hints.kinds import Hint
from foremask.options import Limits, MaskOptions, Quality
from foremask.service.observability import metrics
from foremask.service.sandbox.operations import MaskPicture, PictureMask
from foremask.service.sandbox.pool import ChildDied, MediaPool

PLACE_S = 45.0  # for a turn among tokens, of which each has one picture in work
WALL_CLOCK_S = 30.0


class Previewer:
    """Masks single pictures, in the one child of a pool that may read the network.

    A token's picture that waits makes way for its newer one.
    """

    def __init__(self, pool: MediaPool, find_model: Callable[[], Path], memory_bytes: int) -> None:
        self._pool, self._find_model, self._memory_bytes = pool, find_model, memory_bytes
        self._places = FairSemaphore(1, 1, metrics.HELD_BACK.labels("preview").inc)
        self._waiting: dict[str, asyncio.Task[None]] = {}

    async def mask(
        self, picture: bytes, quality: Quality, hints: Sequence[Hint], owner: str
    ) -> PictureMask:
        limits = Limits(memory_bytes=self._memory_bytes)
        options = MaskOptions(
            quality=quality, hints=tuple(hints), model=self._find_model(), limits=limits
        )
        await self._turn(owner)
        try:
            request = MaskPicture(picture, options)
            return await self._pool.run(request, wall_clock_s=WALL_CLOCK_S, owner=owner)
        except (ChildDied, TimedOut):
            raise Overloaded("The picture could not be masked in time; send it again.") from None
        finally:
            self._places.release(owner)

    async def _turn(self, owner: str) -> None:
        """Wait for the place; an older wait of the same owner is cancelled."""
        if older := self._waiting.get(owner):
            older.cancel()
        turn = self._waiting[owner] = asyncio.create_task(self._places.acquire(owner))
        try:
            async with asyncio.timeout(PLACE_S):
                await turn
        except (asyncio.CancelledError, TimeoutError) as ended:
            if turn.done() and not turn.cancelled():  # its turn came at this very moment
                self._places.release(owner)
            if self._waiting.get(owner) is not turn:
                raise JobCancelled("A newer picture of this token is masked instead.") from None
            if isinstance(ended, asyncio.CancelledError):  # the caller has gone
                raise
            raise Overloaded(
                f"No picture could be masked within {PLACE_S:g} s: others are. Send it again.",
                limit=1,
            ) from None
        finally:
            if self._waiting.get(owner) is turn:
                del self._waiting[owner]
