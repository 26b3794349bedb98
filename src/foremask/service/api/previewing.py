"""Masks single pictures for previews, in a child of its own that is started at the first one."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from foremask.errors import FieldInvalid, JobCancelled, Overloaded, TimedOut
from foremask.fetch.fairness import FairSemaphore
from foremask.hints.kinds import Hint
from foremask.machine.memory import share_of_memory
from foremask.options import Limits, MaskOptions, Quality
from foremask.service.observability import metrics
from foremask.service.sandbox.operations import MaskPicture, PictureMask
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.settings import Sandbox
from foremask.weights.catalogue import side_car_of

PLACE_S = 45.0  # for a turn among tokens, of which each has one picture in work
WALL_CLOCK_S = 30.0
MOST_HINTS = 16  # each point is two windows for the network: 0.6 s of a core


class Previewer:
    """Masks single pictures, in a child that holds one network after its first picture.

    A token's picture that waits makes way for its newer one.
    """

    def __init__(
        self,
        scratch: Path,
        sandbox: Sandbox,
        find_model: Callable[[], Path],
        memory_bytes: int | None = None,
    ) -> None:
        self._scratch, self._sandbox, self._find_model = scratch, sandbox, find_model
        self._memory_bytes = memory_bytes or share_of_memory(1)
        self._stack = AsyncExitStack()
        self._places = FairSemaphore(1, 1, metrics.HELD_BACK.labels("preview").inc)
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._starting = asyncio.Lock()
        self._pool: MediaPool | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def mask(
        self, picture: bytes, quality: Quality, hints: Sequence[Hint], owner: str
    ) -> PictureMask:
        _check_cost(hints)
        model = self._find_model()
        await self._turn(owner)
        try:
            pool = await self._started(model)
            limits = Limits(memory_bytes=self._memory_bytes)
            options = MaskOptions(quality=quality, hints=tuple(hints), model=model, limits=limits)
            request = MaskPicture(picture, options)
            return await pool.run(request, wall_clock_s=WALL_CLOCK_S, owner=owner)
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

    async def _started(self, model: Path) -> MediaPool:
        async with self._starting:
            if self._pool is None:
                self._pool = await self._stack.enter_async_context(
                    MediaPool(
                        self._scratch / "preview",
                        sandbox=self._sandbox,
                        readable=[model, side_car_of(model)],
                        memory_bytes=self._memory_bytes,
                    )
                )
            return self._pool


def _check_cost(hints: Sequence[Hint]) -> None:
    if len(hints) > MOST_HINTS:
        raise FieldInvalid(
            f"{len(hints)} hints were given; a preview takes {MOST_HINTS}, a job more.",
            param="hints",
            limit=MOST_HINTS,
            actual=len(hints),
        )
