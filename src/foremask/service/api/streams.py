"""Masks live streams of frames, each in a confined child process (docs/live.md)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected
from uvicorn.protocols.utils import ClientDisconnected

from foremask import errors
from foremask.fetch.fairness import FairSemaphore
from foremask.options import Limits, Resources
from foremask.service.api.stream_messages import (
    ENDED,
    HEADER,
    Debug,
    ErrorMessage,
    FrameTiming,
    Stop,
    close_code,
    close_reason,
    command_of,
    header_of,
    text_of,
)
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import is_valid
from foremask.service.observability import metrics
from foremask.service.sandbox import messages
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.settings import Settings

IDLE_S = 10.0  # a stream without a frame for so long has ended
PLACE_S = 5.0  # a new stream waits so long for a slot
MOST_WAITING = 8  # streams of one token that wait for a slot
TOKEN_CHECK_S = 10.0  # a token that was revoked ends its streams so soon
LAST_S = 5.0  # the last masks of a stream may take
MOST_UNREAD = 4  # frames that wait for the child
TOO_OLD_S = 0.2  # a frame that waits longer is skipped if there is a newer one
MOST_UNANSWERED = 64  # frames that the child may hold
MAX_MESSAGE_BYTES = messages.MAX_FRAME_BYTES - 1024
READ_FASTER = 4  # frames above the rate are dropped; above this multiple, they are not read

GONE = (WebSocketDisconnect, WebSocketDisconnected, ClientDisconnected)
"""Raised by a send to a client that has closed its stream."""


async def close(socket: WebSocket, error: errors.ForemaskError | ChildDied | None) -> int:
    """Close the stream, and tell its client why; returns the close code."""
    code = ENDED
    reason = ""
    with suppress(*GONE):
        if error is not None:
            if isinstance(error, ChildDied):
                error = errors.Internal("The process that masks this stream broke off.")
            code = close_code(error)
            reason = close_reason(error)
            await socket.send_text(text_of(ErrorMessage.of(error)))
        await socket.close(code, reason)
    return code


class Streams:
    """The slots for streams of one API process."""

    def __init__(
        self,
        pool: MediaPool,
        database: Database,
        find_model: Callable[[], Path],
        settings: Settings,
        memory_bytes: int,
    ) -> None:
        self.pool = pool
        self._database = database
        self.settings = settings
        self._find_model = find_model
        self._memory_bytes = memory_bytes
        held_back = metrics.HELD_BACK.labels("stream").inc
        self._places = FairSemaphore(settings.streams, settings.streams, held_back)

    @property
    def resources(self) -> Resources:
        limits = Limits(memory_bytes=self._memory_bytes)
        return Resources(self.settings.device, self._find_model(), limits)

    async def check_token(self, token_id: UUID) -> None:
        """Look at the token every `TOKEN_CHECK_S`; raise token_invalid when it is not valid."""
        while True:
            await asyncio.sleep(TOKEN_CHECK_S)
            with suppress(errors.ServiceUnavailable):  # the database may be away for a while
                if not await is_valid(self._database, token_id):
                    raise errors.Denied(
                        "the token was revoked, or has expired, while this stream ran",
                        reason="token_invalid",
                    )

    async def run(self, stream: "LiveStream", token_id: UUID) -> None:
        """Mask the stream until it ends. Raises Overloaded if no slot is free."""
        owner = str(token_id)
        most = self.settings.streams
        if not most or self._places.waiting(owner) >= MOST_WAITING:
            raise errors.Overloaded(
                f"This service masks {most} streams at once; try again later.", limit=most
            )
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire(owner)
        except TimeoutError:
            raise errors.Overloaded(
                f"All {most} streams are in use; try again later.", limit=most
            ) from None
        try:
            with metrics.STREAMS.track_inprogress():
                await stream.run(self, token_id)
        finally:
            self._places.release(owner)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame that has come."""

    number: int
    header: bytes
    jpeg: bytes
    came_s: float


class Rate:
    """Allows ``per_s`` events a second, and at most ``burst`` at once."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._allowed = float(burst)
        self._at_s = time.monotonic()

    def wait_s(self) -> float:
        """Count an event. Returns 0 if it is allowed, or else the time until one is."""
        now_s = time.monotonic()
        self._allowed = min(self._burst, self._allowed + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._allowed < 1:
            return (1 - self._allowed) / self._per_s
        self._allowed -= 1
        return 0.0


class LiveStream:
    """One stream: frames that wait for the child, and frames that the child has."""

    def __init__(self, socket: WebSocket, settings: Settings) -> None:
        self.received = 0
        self.masked = 0
        self._socket = socket
        self._settings = settings
        self._unread: deque[Waiting] = deque()
        self._unanswered: dict[int, Waiting] = {}
        self._changed = asyncio.Event()
        self._idle: asyncio.Timeout | None = None  # while messages are read
        self._has_started = False  # the child has asked for a frame
        self._has_ended = False
        self._is_debugged = False
        self._dropped_at_last_mask = 0

    @property
    def dropped(self) -> int:
        """Frames that got no mask, and will get none."""
        return self.received - self.masked - len(self._unread) - len(self._unanswered)

    async def run(self, streams: Streams, token_id: UUID) -> None:
        """Mask frames until the client ends the stream, or an error does; then close the stream.

        Raises ForemaskError or ChildDied. The client is told at once, or by the caller if it had
        ended the stream itself.
        """
        most_s = float(self._settings.stream_time_s)
        reading = asyncio.create_task(self._read())
        masking = asyncio.create_task(self._mask(streams, str(token_id), most_s + 2 * LAST_S))
        checking = asyncio.create_task(streams.check_token(token_id))
        both = {masking, reading}
        try:
            done, _ = await asyncio.wait(
                {*both, checking}, timeout=most_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise errors.BadRequest(
                    f"session limit reached: a stream may last {most_s:g} s.",
                    reason="stream_expired",
                    limit=most_s,
                )
            for ended in (checking, masking, reading):
                if ended in done:
                    ended.result()
                    break
        except (errors.ForemaskError, ChildDied) as error:
            self._unread.clear()
            await close(self._socket, error)
            raise
        finally:
            checking.cancel()
            reading.cancel()
            self._has_ended = True
            self._changed.set()
            await asyncio.wait(both, timeout=LAST_S)  # a child that ends serves the next stream
            masking.cancel()
            await asyncio.wait(both)
            late_error = None
            if not masking.cancelled():
                late_error = masking.exception()
            self._unread.clear()
            self._unanswered.clear()
            metrics.STREAM_FRAMES.labels("dropped").inc(self.dropped)
        if late_error is not None:  # the client had ended the stream before
            raise late_error

    async def _mask(self, streams: Streams, owner: str, most_s: float) -> None:
        await self._changed.wait()  # a client that sends no frame starts no process
        if self._unread:
            request = messages.MaskStream(streams.resources, self._settings.stream_pixels)
            await streams.pool.run(
                request, converse=self._converse, wall_clock_s=most_s, owner=owner
            )

    async def _read(self) -> None:
        """Read messages until the client ends the stream. Raises stream_idle or message_invalid."""
        fps = self._settings.stream_fps
        taken = Rate(fps, MOST_UNREAD)
        read = Rate(READ_FASTER * fps, READ_FASTER * fps)
        try:
            async with asyncio.timeout(IDLE_S) as self._idle:
                while True:
                    message = await self._socket.receive()
                    if message["type"] != "websocket.receive":
                        self._unread.clear()
                        return
                    frame = message.get("bytes")
                    if frame is not None:
                        self._restart_idle()
                        self._take(frame, drops=taken.wait_s() > 0)
                    else:
                        match command_of(message.get("text") or ""):
                            case Stop():
                                return
                            case Debug(enabled):
                                self._is_debugged = enabled
                    await asyncio.sleep(read.wait_s())
        except TimeoutError:
            raise errors.BadRequest(
                f"session timeout: no frame came within {IDLE_S:g} s.",
                reason="stream_idle",
                limit=IDLE_S,
            ) from None
        except GONE:
            return
        finally:
            self._idle = None

    def _restart_idle(self) -> None:
        """Allow `IDLE_S` from now, or from when the child, which is slow to start, is there."""
        if self._idle is None:
            return
        when_s = None
        if self._has_started:
            when_s = asyncio.get_running_loop().time() + IDLE_S
        self._idle.reschedule(when_s)

    def _take(self, message: bytes, *, drops: bool) -> None:
        header = header_of(message)
        self.received += 1
        metrics.STREAM_FRAMES.labels("received").inc()
        if drops:
            return
        jpeg = message[HEADER.size :]
        self._unread.append(Waiting(self.received, header, jpeg, time.monotonic()))
        if len(self._unread) > MOST_UNREAD:
            self._unread.popleft()
        self._changed.set()

    async def _converse(
        self, message: messages.NextFrame | messages.StreamedPicture
    ) -> messages.StreamedPicture | messages.NoFrame | None:
        match message:
            case messages.NextFrame(wait_s):
                return await self._next(wait_s)
            case messages.StreamedPicture(number, jpeg):
                await self._send(number, jpeg)
                return None

    async def _next(self, wait_s: float) -> messages.StreamedPicture | messages.NoFrame:
        if not self._has_started:
            self._has_started = True
            self._restart_idle()
        self._changed.clear()
        if not self._unread and not self._has_ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
        now_s = time.monotonic()
        while len(self._unread) > 1 and now_s - self._unread[0].came_s > TOO_OLD_S:
            self._unread.popleft()
        if not self._unread:
            return messages.NoFrame(self._has_ended)
        first = self._unread.popleft()
        self._unanswered[first.number] = first
        if len(self._unanswered) > MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        return messages.StreamedPicture(first.number, first.jpeg, now_s - first.came_s)

    async def _send(self, number: int, jpeg: bytes) -> None:
        frame = self._unanswered.get(number)
        if frame is None:
            raise ChildDied("the media child sent a mask of no frame")
        for older in [each for each in self._unanswered if each <= number]:
            del self._unanswered[older]
        self.masked += 1
        try:
            await self._socket.send_bytes(frame.header + jpeg)
        except GONE:  # the client has left; `_read` notices it too
            return
        lateness_s = time.monotonic() - frame.came_s
        metrics.STREAM_FRAMES.labels("masked").inc()
        metrics.STREAM_LATENESS.observe(lateness_s)
        if self._is_debugged:
            dropped = self.dropped
            timing = FrameTiming(
                HEADER.unpack(frame.header)[5],
                dropped - self._dropped_at_last_mask,
                {"session_total": round(1000 * lateness_s, 2)},
                len(frame.jpeg),
                len(jpeg),
            )
            self._dropped_at_last_mask = dropped
            with suppress(*GONE):
                await self._socket.send_text(text_of(timing))
