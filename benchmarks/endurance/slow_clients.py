"""Opens connections that send or take very little, and keeps them open."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from tests.support import synth
from tests.support.origin import gives, listening

from benchmarks.service import caller_of

SENT_BYTES = 6 << 20  # of an upload, before it slows down
DECLARED_BYTES = 512 << 20
STORED_BYTES = 64 << 20
SHOWN_BYTES = 32 << 20
SLOWLY_S = 0.5
SMALL_WINDOW_BYTES = 4096
WAIT_S = 20.0


@dataclass(slots=True)
class Crowd:
    """Connections to an API that are still open, and how many were answered with an error."""

    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    refused: int = 0

    def __str__(self) -> str:
        return f"{len(self.streams)} open, {self.refused} refused"


async def get_form(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Get an upload form; wait while the token's rate does not allow one."""
    while True:
        answer = await client.post("/v2/video/upload", json={})
        if answer.status_code == 200:
            form: dict[str, Any] = answer.json()["result"]
            return form
        await asyncio.sleep(float(answer.headers.get("retry-after", 1)))


async def stored_file(client: httpx2.AsyncClient) -> str:
    """Upload a file of 64 MiB, and return its link."""
    form = await get_form(client)
    answer = await client.post(
        form["upload_url"],
        data=form["upload_fields"],
        files={"file": ("a.mp4", bytes(STORED_BYTES), "video/mp4")},
    )
    answer.raise_for_status()
    return str(form["file_url"])


def upload_head(form: dict[str, Any]) -> bytes:
    fields = form["upload_fields"] | {"Content-Type": "video/mp4"}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    head = (
        "POST /v2/uploads HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {DECLARED_BYTES}\r\n\r\n"
    )
    return "".join([head, *parts, file]).encode()


@asynccontextmanager
async def slow_uploads(port: int, tokens: Sequence[str], count: int) -> AsyncIterator[Crowd]:
    """Upload ``count`` clips, of which each sends 6 MiB at once and then 2 KiB a second."""
    crowd = Crowd([])

    async def begin(token: str) -> None:
        async with caller_of(port, token) as client:
            form = await get_form(client)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(upload_head(form))
        async with asyncio.timeout(WAIT_S):
            for _ in range(SENT_BYTES >> 20):
                writer.write(bytes(1 << 20))
                with suppress(ConnectionError):
                    await writer.drain()
        crowd.streams.append((reader, writer))

    async with _kept_up(crowd, bytes(1024)):
        tasks = [begin(tokens[number % len(tokens)]) for number in range(count)]
        begun = await asyncio.gather(*tasks, return_exceptions=True)
        crowd.refused += sum(isinstance(each, BaseException) for each in begun)
        await _forget_answered(crowd)
        yield crowd


def download_of(url: str) -> bytes:
    parts = urlsplit(url)
    return f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@asynccontextmanager
async def slow_readers(port: int, requests: Sequence[bytes]) -> AsyncIterator[Crowd]:
    """Send each request on a connection of its own, and read the answers at 2 KiB a second."""
    crowd = Crowd([])
    for request in requests:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW_BYTES)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=SMALL_WINDOW_BYTES)
        writer.write(request)
        crowd.streams.append((reader, writer))
    for stream in list(crowd.streams):
        line = b""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(WAIT_S):
                line = await stream[0].readline()
        if b" 200 " not in line:
            _drop(crowd, stream)
    async with _kept_up(crowd, b""):
        yield crowd


@asynccontextmanager
async def shown_clips(port: int, tokens: Sequence[str], root: Path) -> AsyncIterator[Crowd]:
    """Let the API show a clip of 32 MiB to each token, and read it slowly."""
    clip = await asyncio.to_thread(synth.write, root / "shown.mp4")
    data = clip.read_bytes() + SHOWN_BYTES.to_bytes(4, "big") + b"free" + bytes(SHOWN_BYTES - 8)
    async with listening() as origin:
        origin.answers["/a.mp4"] = gives(data)
        body = json.dumps({"video": origin.url("/a.mp4")})
        requests = [
            f"POST /v2/playground/clip HTTP/1.1\r\nHost: a\r\napi_token: {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            for token in tokens
        ]
        async with slow_readers(port, requests) as crowd:
            yield crowd


@asynccontextmanager
async def silent(port: int, count: int) -> AsyncIterator[Crowd]:
    """Open connections, each with half a request's head."""
    crowd = Crowd([])
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        crowd.streams.append((reader, writer))
    try:
        yield crowd
    finally:
        for _, writer in crowd.streams:
            writer.close()


@asynccontextmanager
async def slow_streams(port: int, token: str, count: int) -> AsyncIterator[Crowd]:
    """Open live streams, each with half a frame of 512 KiB, whose rest comes very slowly."""
    crowd = Crowd([])
    handshake = (
        f"GET /?api_token={token} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    frame_bytes = 512 << 10
    frame = b"\x82\xff" + frame_bytes.to_bytes(8, "big") + bytes(4) + bytes(frame_bytes // 2)
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(handshake.encode() + frame)
        crowd.streams.append((reader, writer))
    async with _kept_up(crowd, bytes(1)):
        yield crowd


@asynccontextmanager
async def _kept_up(crowd: Crowd, sent: bytes) -> AsyncIterator[None]:
    """Send ``sent``, or read a KiB, on each connection now and then; close all at the end."""

    async def keep_up() -> None:
        while True:
            await asyncio.sleep(SLOWLY_S)
            for stream in list(crowd.streams):
                reader, writer = stream
                try:
                    if sent:
                        writer.write(sent)
                    else:
                        async with asyncio.timeout(0.01):
                            await reader.read(1024)
                except TimeoutError:
                    pass
                except ConnectionError:
                    _drop(crowd, stream)

    task = asyncio.create_task(keep_up())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        for _, writer in crowd.streams:
            writer.close()


async def _forget_answered(crowd: Crowd) -> None:
    """Drop the uploads that have an answer already: it can only be a refusal."""
    await asyncio.sleep(1.0)
    for stream in list(crowd.streams):
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.01):
                await stream[0].read(1024)
                _drop(crowd, stream)


def _drop(crowd: Crowd, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    stream[1].close()
    crowd.streams.remove(stream)
    crowd.refused += 1
