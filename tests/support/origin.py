"""A web server on loopback that sends the bytes that a test wants, and counts connections."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

type Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Origin:
    host: str
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    scheme: str = "http"
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, path: str = "/clip.mp4", host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {
                    name.lower(): text.strip()
                    for name, _, text in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Request(method, target, headers, body)
                self.requests.append(request)
                await self.answers[target.partition("?")[0]](request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def listening(
    host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Origin]:
    origin = Origin(host, scheme="https" if tls else "http")
    server = await asyncio.start_server(origin.serve, host, 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for writer in [*origin.writers]:  # Server.close_clients is not in Python 3.12
            writer.close()
        await server.wait_closed()


def head(status: str = "200 OK", /, **headers: str | int) -> bytes:
    """Make a response's head; the argument ``Content_Length`` is the header Content-Length."""
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def says(*pieces: bytes, pause_s: float = 0) -> Answer:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.close()

    return answer


def redirects(target: str) -> Answer:
    return says(head("302 Found", Location=target, Content_Length=0))


def gives(data: bytes, /, **headers: str) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        wanted = request.headers.get("range")
        old = "if-range" in request.headers and request.headers["if-range"] not in (
            headers.get("ETag"),
            headers.get("Last_Modified"),
        )
        if wanted is None or old:
            writer.write(head(Content_Length=len(data), **headers) + data)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        piece = data[int(first) : int(last) + 1]
        if not piece:
            size = f"bytes */{len(data)}"
            writer.write(head("416 No", Content_Range=size, Content_Length=0))
            return
        reported = f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}"
        writer.write(
            head("206 Part", Content_Range=reported, Content_Length=len(piece), **headers) + piece
        )

    return answer
