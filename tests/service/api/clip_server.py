"""A web server as callers have them, with each way in which an origin can disappoint."""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support import http_server
from tests.support.http_server import Handler

SLOW_S = 12.0


class _Files(Handler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:  # noqa: N802
        name = self.path.lstrip("/")
        if given := re.fullmatch(r"status/(\d+)", name):
            self._send(int(given[1]), b"no", "text/plain")
        elif name == "page.mp4":
            self._send(200, b"<!doctype html><title>Sign in</title>", "text/html")
        elif name == "data.mp4":
            self._send(200, b'{"error": "expired"}', "application/json")
        elif name.startswith("playlist"):
            self._send(200, b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n/etc/passwd\n", "video/mp4")
        elif name == "huge.mp4":
            self._send(200, b"", "video/mp4", size=(1 << 30) + 1)
        elif name == "private":
            self._send(302, b"", "text/plain", location="http://10.1.2.3/clip.mp4")
        elif given := re.fullmatch(r"hop/(\d+)", name):
            left = int(given[1])
            self._send(302, b"", "text/plain", location=f"/hop/{left - 1}" if left else "/good.mp4")
        elif name == "two-faced.mp4":  # a clip to whoever asks for a range, an inner page to others
            if "Range" in self.headers:
                self._file("good.mp4")
            else:
                self._send(302, b"", "text/plain", location="/inner")
        elif name == "inner":
            self._send(200, b"\x00\x01the inner page's secret", "application/octet-stream")
        elif name.startswith("slow/"):
            time.sleep(SLOW_S)
            self._file(name.removeprefix("slow/"))
        else:
            self._file(name)

    def _file(self, name: str) -> None:
        path = self.folder / name
        if not path.is_file():
            self._send(404, b"no such file", "text/plain")
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not data:
            self._send(200, data, "video/mp4")
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        self._send(206, data[start:stop], "video/mp4", span=f"bytes {start}-{stop - 1}/{len(data)}")

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str,
        *,
        size: int | None = None,
        location: str = "",
        span: str = "",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        if location:
            self.send_header("Location", location)
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = size is not None


@contextmanager
def serving(folder: Path) -> Generator[str]:
    with http_server.serving(type("Files", (_Files,), {"folder": folder})) as url:
        yield url
