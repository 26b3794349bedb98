"""One job as messages with a child: a request, then progress and reads, then a result or error."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from foremask.errors import Internal, OutputFailed, ServiceUnavailable, TimedOut
from foremask.service.sandbox import messages
from foremask.service.sandbox.child_process import Child, ChildDied
from foremask.service.sandbox.job_directories import MAX_FILES
from foremask.service.sandbox.messages import Broken, Data, Job, Progress, ReadAt, Refused, Result
from foremask.service.sandbox.operations import Request, result_type

OnProgress = Callable[[Progress], Awaitable[object]]
ReadRemote = Callable[[int, int], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Conversation:
    """With ``child``, which may be silent for ``stall_s`` and use ``memory_bytes``."""

    child: Child
    stall_s: float
    memory_bytes: int

    async def ask[R](
        self,
        request: Request[R],
        on_progress: OnProgress | None = None,
        read_at: ReadRemote | None = None,
    ) -> R:
        """Send the request, answer the child until it is done, and return its result.

        Raises as `MediaPool.run` does; the child is no good after that.
        """
        with self._translated():
            await self.child.send(Job(messages.encoded(request)))
        while True:
            with self._translated():
                async with within(self.stall_s, "No frame was done"):
                    message = await self.child.receive()
            match message:
                case Progress() as progress:
                    if on_progress is not None:
                        await on_progress(progress)
                case ReadAt(offset, size) if read_at is not None:
                    data = await read_at(offset, size)
                    with self._translated():
                        await self.child.send(Data(data))
                case Result(value):
                    with self._translated():
                        return messages.decoder(result_type(type(request))).decode(value)
                case Refused(reason=OutputFailed.reason) as refused:  # it writes to our disk
                    raise ServiceUnavailable(refused.details)
                case Refused() as refused:
                    raise refused.error()
                case Broken(kind="MemoryError"):
                    raise self._out_of_memory()
                case Broken(kind, trace):
                    unforeseen = Internal(f"Something unforeseen happened ({kind[:80]}).")
                    unforeseen.add_note(trace)
                    raise unforeseen
                case other:
                    raise ChildDied(f"the media child sent {type(other).__name__}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError, ValueError) as error:  # DecodeError is a ValueError
            if self.child.over_memory_bytes:
                raise self._out_of_memory() from error
            if self.child.over_files:
                raise Internal(
                    f"The clip made its process write more than {MAX_FILES} files.", limit=MAX_FILES
                ) from error
            raise ChildDied("the media child died, or broke off the conversation") from error

    def _out_of_memory(self) -> Internal:
        gib = self.memory_bytes / (1 << 30)
        return Internal(
            f"The clip needs more memory than the {gib:.1f} GiB that one job may use. "
            "Send it smaller, or ask for mp4_h264.",
            limit=self.memory_bytes,
            actual=self.child.over_memory_bytes or None,
        )


@asynccontextmanager
async def within(seconds: float, problem: str) -> AsyncGenerator[None]:
    """Raise TimedOut, which names the problem, when the block takes longer."""
    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():  # raised in the block by something else
            raise
        raise TimedOut(f"{problem} within {seconds:g} s.", limit=seconds) from error
