"""Small clips, drawn by code: one for each thing that can be right or wrong with a clip."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

from tests.support import synth


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
