"""A WebSocket connection that reads a message only when it is wanted, and ends slow readers."""

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from foremask.errors import BadRequest
from foremask.service.api.stream_messages import close_code, close_reason

STALLED_S = 10.0  # a client that takes less than 64 KiB in this time is too slow
FRAMES = 1000  # each costs the event loop some 5 µs, however small it is
LEAST_FRAME_BYTES = 256  # mean size of all further frames
PARSED_BYTES = 16 << 10  # at once
LINGER_S = 1.0  # unread bytes at a close would reset the connection and lose the reason
LINGER_BYTES = 16 << 20
_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # uvicorn would log the address of each connection


class StreamConnection(WebSocketsSansIOProtocol):
    _stall: asyncio.TimerHandle | None = None
    _has_failed = False
    _lingered_bytes = 0
    _frames = 0
    _payload_bytes = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.logger = _log

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.read_paused = True  # until the token is checked and a slot is free
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), PARSED_BYTES):
            if self._has_failed:
                self._linger(len(data) - at)
                return
            super().data_received(data[at : at + PARSED_BYTES])

    def _linger(self, received_bytes: int) -> None:
        self._lingered_bytes += received_bytes
        if self._lingered_bytes > LINGER_BYTES:
            self.transport.abort()

    def handle_events(self) -> None:
        for event in self.conn.events:
            if isinstance(event, Frame):
                self._frames += 1
                self._payload_bytes += len(event.data)
        super().handle_events()
        if self._frames > FRAMES + self._payload_bytes / LEAST_FRAME_BYTES:
            self._end_tiny_frames()

    def _end_tiny_frames(self) -> None:
        mean_bytes = self._payload_bytes / self._frames
        error = BadRequest(
            f"The frames of this connection have {mean_bytes:.0f} bytes; at least"
            f" {LEAST_FRAME_BYTES} are needed.",
            reason="message_invalid",
            limit=LEAST_FRAME_BYTES,
        )
        self.conn.fail(close_code(error), close_reason(error))
        if self.conn.close_sent is None:  # the handshake is not answered yet
            self._has_failed = True
            self.transport.abort()
        else:
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Close with the code that the library has chosen, such as 1009, and read on a while."""
        self._has_failed = True
        sent = self.conn.close_sent
        assert sent is not None  # noqa: S101
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": sent.code, "reason": sent.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)

    async def receive(self) -> ASGIReceiveEvent:
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        return await self.queue.get()

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        if self.close_sent:  # by `_end_slow`, or when the service stops
            raise ClientDisconnected
        await super().send(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALLED_S, self._end_slow)

    def resume_writing(self) -> None:
        self._unset_stall()
        super().resume_writing()

    def _unset_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _end_slow(self) -> None:
        """Close the connection behind what is not sent yet, and soon without it."""
        self._stall = None
        if self.close_sent or self.transport.is_closing():
            self.transport.abort()
            return
        error = BadRequest(
            f"No mask was taken for {STALLED_S:g} s.", reason="stream_idle", limit=STALLED_S
        )
        code = close_code(error)
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": code, "reason": error.details}
        )
        self.conn.send_close(code, error.details)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)
