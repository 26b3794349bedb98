"""The parent, from the child's side: the other end of the socket pair."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from foremask.service.sandbox import messages
from foremask.service.sandbox.messages import (
    LENGTH_BYTES,
    Data,
    FromChild,
    FromParent,
    Progress,
    ReadAt,
)

_PROGRESS_EVERY_S: Final = 0.2
_PICTURE_EVERY_S: Final = 1.5


class Parent:
    """Sends and receives messages, and reads the files that only the parent can reach."""

    def __init__(self, fd: int) -> None:
        self._received = os.fdopen(fd, "rb", closefd=False)
        self._sent = os.fdopen(fd, "wb", closefd=False)
        self._progress_sent_s = self._picture_sent_s = 0.0

    def receive(self) -> FromParent | None:
        """The next message; None when the parent is gone."""
        length = self._received.read(LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            return None
        return messages.from_parent.decode(self._received.read(messages.body_bytes(length)))

    def send(self, message: FromChild) -> None:
        self._sent.write(messages.framed(message))
        self._sent.flush()

    def progress(
        self,
        frames_done: int,
        frames_total: int | None,
        stage: str,
        draw_newest: Callable[[], bytes] | None = None,
        left_s: float | None = None,
    ) -> None:
        """Report the progress, a few times a second at most; less often with a picture."""
        now_s = time.monotonic()
        if now_s - self._progress_sent_s < _PROGRESS_EVERY_S:
            return
        self._progress_sent_s = now_s
        png = b""
        if draw_newest is not None and now_s - self._picture_sent_s >= _PICTURE_EVERY_S:
            self._picture_sent_s = now_s
            png = draw_newest()
        left_s = None if left_s is None else min(left_s, messages.MAX_LEFT_S)
        self.send(Progress(frames_done, frames_total, stage, png, left_s))

    def read_at(self, offset: int, size: int) -> bytes:
        self.send(ReadAt(offset, size))
        answer = self.receive()
        if not isinstance(answer, Data):
            sys.exit(1)
        return answer.data[:size]


type Operation = Callable[[Any, Parent], object]
"""Executes one kind of request; returns its result, or raises a ForemaskError."""
