"""Masks single pictures while a person waits: in a child of its own, started at the first one."""

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, Self

from foremask.machine.memory import share_of_memory
from foremask.options import Limits, MaskOptions
from foremask.service.fairness import FairSemaphore
from foremask.service.observability import metrics
from foremask.service.sandbox.operations import MaskPicture, PictureMask
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.service.service_errors import Overloaded
from foremask.service.settings import Sandbox
from foremask.weights.catalogue import side_car_of

PLACE_S = 5.0
WALL_CLOCK_S = 60.0


class Previewer(Protocol):
    """Masks one picture."""

    async def mask(self, picture: bytes, options: MaskOptions, owner: str) -> PictureMask:
        """Raises CorruptVideo, FieldInvalid, Overloaded or ModelUnavailable."""
        ...


class ChildPreviewer:
    """The real one. It takes the memory of one network once it has been asked."""

    def __init__(self, scratch: Path, sandbox: Sandbox, find_model: Callable[[], Path]) -> None:
        self._scratch, self._sandbox, self._find_model = scratch, sandbox, find_model
        self._stack = AsyncExitStack()
        self._places = FairSemaphore(1, 1, metrics.HELD_BACK.labels("preview").inc)
        self._starting = asyncio.Lock()
        self._pool: MediaPool | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def mask(self, picture: bytes, options: MaskOptions, owner: str) -> PictureMask:
        """As of any `Previewer`."""
        model = self._find_model()
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire(owner)
        except TimeoutError:
            raise Overloaded(
                f"No picture could be masked within {PLACE_S:g} s: others are. Send it again.",
                limit=1,
            ) from None
        try:
            pool = await self._started(model)
            with tempfile.NamedTemporaryFile(dir=self._scratch) as file:
                await asyncio.to_thread(file.write, picture)
                file.flush()
                request = MaskPicture(
                    Path(file.name),
                    MaskOptions(
                        quality=options.quality,
                        hints=options.hints,
                        model=model,
                        limits=Limits(),
                    ),
                )
                return await pool.run(request, wall_clock_s=WALL_CLOCK_S, owner=owner)
        except ChildDied:
            raise Overloaded("The picture could not be masked in time; send it again.") from None
        finally:
            self._places.release(owner)

    async def _started(self, model: Path) -> MediaPool:
        async with self._starting:
            if self._pool is None:
                self._pool = await self._stack.enter_async_context(
                    MediaPool(
                        self._scratch / "preview",
                        sandbox=self._sandbox,
                        readable=[model, side_car_of(model)],
                        memory_bytes=share_of_memory(1),
                    )
                )
            return self._pool
