"""Small clips, drawn by code: one for each thing that can be right or wrong with a clip."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.stream import VideoStream

RATE = 25


def write(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int = 10,
    size: tuple[int, int] = (64, 48),
    rate: int = RATE,
    pixel_format: str = "yuv420p",
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """A white disc that moves to the right, ``frames`` frames of it; with a tone where asked."""
    width, height = size
    with av.open(str(path), "w", options=options or {}) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=rate))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.time_base = Fraction(1, rate)
        tone = container.add_stream("aac", rate=48_000, layout="mono") if sound else None
        rows, columns = np.mgrid[:height, :width]
        for number in range(frames):
            middle = width * (number + 1) / (frames + 1)
            disc = (rows - height / 2) ** 2 + (columns - middle) ** 2 < (height / 4) ** 2
            grey = np.where(disc, 255, 40).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.stack([grey] * 3, axis=-1), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            samples = 1024
            for start in range(0, 48_000 * frames // rate, samples):
                wave = np.sin(np.arange(start, start + samples) * 2 * np.pi * 440 / 48_000)
                sample = av.AudioFrame.from_ndarray(
                    wave[None].astype(np.float32), format="fltp", layout="mono"
                )
                sample.sample_rate, sample.pts = 48_000, start
                container.mux(tone.encode(sample))
            container.mux(tone.encode(None))
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        tone: Any = container.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, 48_000, 1024):
            silence = np.zeros((1, 1024), np.float32)
            sample = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            sample.sample_rate, sample.pts = 48_000, start
            container.mux(tone.encode(sample))
        container.mux(tone.encode(None))
    return path


def encrypted(path: Path) -> Path:
    key = "0123456789abcdef0123456789abcdef"
    return write(
        path,
        options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": key,
            "encryption_kid": key,
        },
    )


def without_moov(path: Path) -> Path:
    """The first half of an mp4 that keeps its index at the end."""
    whole = write(path.with_suffix(".whole.mp4"), frames=50).read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


DRAWN: dict[str, Callable[[Path], Path]] = {
    "good.mp4": lambda path: write(path, sound=True),
    "one-frame.mp4": lambda path: write(path, frames=1),
    "long.mp4": lambda path: write(path, frames=61 * 2, rate=2),
    "many.mp4": partial(write, frames=7202, size=(16, 16), rate=1000),
    "just-60-s.mp4": lambda path: write(path, frames=60 * 2, rate=2),
    "wide.mp4": lambda path: write(
        path, codec="mjpeg", frames=1, size=(16_016, 16), pixel_format="yuvj420p"
    ),
    "matroska.mkv": write,
    "named-mp4.mp4": lambda path: write(path.with_suffix(".mkv")).rename(path),
    "flash.flv": write,
    "stream.ts": lambda path: write(path, codec="libx264"),
    "mpeg4.mp4": lambda path: write(path, codec="mpeg4"),
    "sound.mp4": sound_only,
    "encrypted.mp4": encrypted,
    "no-moov.mp4": without_moov,
    "empty.mp4": empty,
}
"""Every clip that the origin serves, by its name there."""
