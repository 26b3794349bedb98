"""A web server on loopback with one file of weights, which can be cut off, moved or refused."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler

from tests.support.http_server import Handler, serving

CONTENT = bytes(range(256)) * 400
PATH = "/releases/own.onnx"


class FileServer:
    """What the server answers, and what it was asked: (path, range) of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.content = CONTENT
        self.cuts = list[int]()  # of the next answers, how many bytes come before the end
        self.statuses = list[int]()  # of the next answers
        self.takes_ranges = True
        self.moved_to = ""
        self.asked = list[tuple[str, str | None]]()


class _Answers(Handler, BaseHTTPRequestHandler):
    def __init__(self, *args: object, server_of: FileServer) -> None:
        self.server_of = server_of
        super().__init__(*args)  # type: ignore[arg-type]  # socket, address and server

    def do_GET(self) -> None:
        served = self.server_of
        asked = self.headers["Range"]
        served.asked.append((self.path, asked))
        if served.moved_to and self.path == PATH:
            self.send_response(302)
            self.send_header("Location", served.moved_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not served.takes_ranges:
            asked = None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        status = served.statuses.pop(0) if served.statuses else 206 if asked else 200
        body = served.content[start:]
        self.send_response(status)
        if status == 206:
            total = len(served.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)


@contextmanager
def file_server(tls: ssl.SSLContext | None = None) -> Generator[FileServer]:
    served = FileServer()
    with serving(partial(_Answers, server_of=served), tls) as url:
        served.url = url
        yield served
