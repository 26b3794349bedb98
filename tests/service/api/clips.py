"""Small clips with everything that can be right or wrong, and a web server that disappoints."""

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

from tests.support import http_server, synth
from tests.support.http_server import Handler


def write(
    path: Path,
    *,
    codec: str = "h264",
    frames: int = 10,
    size: tuple[int, int] = (64, 48),
    rate: int = 25,
    pixel_format: str = "yuv420p",
    sound: bool = False,
    **muxer_options: str,
) -> Path:
    spec = synth.Spec(
        *size,
        pts=tuple(range(frames)),
        time_base=Fraction(1, rate),
        last_duration=1,
        codec=codec,
        pixel_format=pixel_format,
        sound=(synth.Tone(seconds=frames / rate),) if sound else (),
        muxer_options=muxer_options,
    )
    return synth.write(path, spec)


KEY = "0123456789abcdef0123456789abcdef"


def without_moov(path: Path) -> Path:
    """The first half of an mp4 that keeps its index at the end."""
    whole = write(path.with_suffix(".whole.mp4"), frames=50).read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    return path


DRAWN: dict[str, Callable[[Path], object]] = {
    "good.mp4": partial(write, sound=True),
    "one-frame.mp4": partial(write, frames=1),
    "long.mp4": partial(write, frames=61 * 2, rate=2),
    "many.mp4": partial(write, frames=7202, size=(16, 16), rate=1000),
    "just-60-s.mp4": partial(write, frames=60 * 2, rate=2),
    "wide.mp4": partial(write, codec="mjpeg", frames=1, size=(16_016, 16), pixel_format="yuvj420p"),
    "matroska.mkv": write,
    "named-mp4.mp4": lambda path: write(path.with_suffix(".mkv")).rename(path),
    "flash.flv": write,
    "stream.ts": write,
    "mpeg4.mp4": partial(write, codec="mpeg4"),
    "sound.mp4": synth.sound_only,
    "encrypted.mp4": partial(
        write, encryption_scheme="cenc-aes-ctr", encryption_key=KEY, encryption_kid=KEY
    ),
    "no-moov.mp4": without_moov,
    "empty.mp4": Path.touch,
}

ANSWERS = {
    "page.mp4": (b"<!doctype html><title>Sign in</title>", "text/html"),
    "data.mp4": (b'{"error": "expired"}', "application/json"),
    "playlist.m3u8": (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n/etc/passwd\n", "video/mp4"),
    "inner": (b"\x00\x01the inner page's secret", "application/octet-stream"),
}
"""``two-faced.mp4`` is a clip to whoever asks for a range, and the inner page to others."""


class _Files(Handler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:  # noqa: N802
        name, _, number = self.path.lstrip("/").partition("/")
        if name in ANSWERS:
            self._send(200, *ANSWERS[name])
        elif name == "status":
            self._send(int(number), b"no", "text/plain")
        elif name == "huge.mp4":
            self._send(200, b"", "video/mp4", Content_Length=str((1 << 30) + 1))
            self.close_connection = True
        elif name == "private":
            self._redirect("http://10.1.2.3/clip.mp4")
        elif name == "hop":
            self._redirect(f"/hop/{int(number) - 1}" if int(number) else "/good.mp4")
        elif name == "two-faced.mp4" and "Range" not in self.headers:
            self._redirect("/inner")
        elif name == "slow":
            time.sleep(12)  # longer than a probe may take
            self._file(number)
        else:
            self._file("good.mp4" if name == "two-faced.mp4" else self.path.lstrip("/"))

    def _redirect(self, location: str) -> None:
        self._send(302, b"", "text/plain", Location=location)

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
        span = f"bytes {start}-{stop - 1}/{len(data)}"
        self._send(206, data[start:stop], "video/mp4", Content_Range=span)

    def _send(self, status: int, body: bytes, kind: str, **more: str) -> None:
        self.send_response(status)
        for name, text in ({"Content_Type": kind, "Content_Length": str(len(body))} | more).items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(folder: Path) -> Generator[str]:
    with http_server.serving(type("Files", (_Files,), {"folder": folder})) as url:
        yield url
