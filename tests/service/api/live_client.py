"""A client of live streams, which speaks the protocol of the hosted service by itself."""

import json
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from foremask.types import Rgb
from tests.support.patience import PATIENCE_S

HEADER = struct.Struct(">4sBBBBQq")
KIND = (b"BRIA", 3, 1, 1, 1)


@dataclass(frozen=True)
class Mask:
    header: tuple[Any, ...]
    levels: NDArray[np.uint8]

    @property
    def frame_id(self) -> int:
        return int(self.header[5])


def jpeg(picture: Rgb, quality: int = 80) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)[1]
    return encoded.tobytes()


def message(frame_id: int, payload: bytes, pts_us: int = 0) -> bytes:
    return HEADER.pack(*KIND, frame_id, pts_us) + payload


class LiveClient:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.said: list[dict[str, Any]] = []

    def send(self, frame_id: int, payload: bytes, pts_us: int = 0) -> None:
        self.socket.send(message(frame_id, payload, pts_us))

    def say(self, **command: object) -> None:
        self.socket.send(json.dumps(command))

    def masks(self) -> Iterator[Mask]:
        """Yield masks until the stream is closed; texts go to ``said``."""
        while True:
            try:
                got = self.socket.recv(PATIENCE_S)
            except ConnectionClosed:
                return
            if isinstance(got, str):
                self.said.append(json.loads(got))
                continue
            levels = cv2.imdecode(np.frombuffer(got[HEADER.size :], np.uint8), cv2.IMREAD_UNCHANGED)
            yield Mask(HEADER.unpack_from(got), np.asarray(levels, np.uint8))

    def end(self) -> tuple[int, str]:
        """Read to the end; return the close code and its reason."""
        for _ in self.masks():
            pass
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""


@contextmanager
def stream(url: str, token: str | None, **more: Any) -> Generator[LiveClient]:  # noqa: ANN401
    address = url.replace("http", "ws", 1)
    if token is not None:
        address += f"?api_token={token}"
    with connect(address, open_timeout=PATIENCE_S, max_size=None, **more) as socket:
        yield LiveClient(socket)
