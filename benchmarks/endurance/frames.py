"""Live streams of tiny frames, without a token: ``python -m benchmarks.endurance.frames``.

The exit code is 1 if the API keeps memory or dies, or if another token waits too long.
"""

import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.endurance.beside import beside
from benchmarks.machine import run

HANDSHAKE = (
    b"GET /?api_token=none HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
BEGUN = b"\x02\x80" + bytes(4)  # a message whose end never comes
EMPTY_PARTS = 20_000 * (b"\x00\x80" + bytes(4))
STRENGTH_S = 2.0


def attack(port: int, _: Path, told: Connection) -> None:
    began, connections, sent_bytes, has_told = time.monotonic(), 0, 0, False
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as raw:
                connections += 1
                raw.sendall(HANDSHAKE)
                raw.recv(4096)
                raw.sendall(BEGUN)
                while True:
                    sent_bytes += raw.send(EMPTY_PARTS)
                    if not has_told and time.monotonic() > began + STRENGTH_S:
                        told.send(f"{connections} connections in turn sent {sent_bytes >> 20} MiB")
                        has_told = True
        except OSError:  # closed
            continue


def main() -> int:
    return beside("frames", attack)


if __name__ == "__main__":
    run(main, __doc__)
