"""Draws the playground's sample clip: a balloon that drifts over hills; ``python -m benchmarks.quality.sample`` writes it."""

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from foremask.types import Rgb

SAMPLE = Path(__file__).parents[2] / "src/foremask/service/api/static/sample.webm"
WIDTH, HEIGHT, FRAMES, FPS = 960, 540, 60, 30
FINE = 3  # drawn so much larger, then averaged: smooth edges
STRIPES = ((202, 52, 44), (248, 196, 66), (142, 36, 68), (248, 196, 66))
HILLS = (
    ((150, 178, 178), 350, 26, 430, 14),
    ((104, 146, 132), 410, 34, 300, 40),
    ((58, 98, 84), 480, 30, 220, 90),
)
"""Colour, height in the picture, swing, length of a wave, and pixels that it moves in all; far to near."""


def image(moment: float) -> Rgb:
    """The frame at ``moment``, 0 to 1."""
    canvas = _sky()
    for colour, level, swing, length, shift in HILLS:
        columns = np.arange(WIDTH * FINE) / FINE
        phase = (columns + shift * moment) / length
        tops = level + swing * (np.sin(phase * 2.1) + 0.5 * np.sin(phase * 5.3 + 1))
        edge = np.stack([columns, tops], axis=1)
        ground = np.concatenate([edge, [[WIDTH, HEIGHT], [0, HEIGHT]]])
        _fill(canvas, ground, colour)
    _balloon(canvas, 330 + 250 * moment, 190 - 34 * math.sin(moment * math.pi), moment)
    return np.asarray(cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _sky() -> Rgb:
    down = np.linspace(0, 1, HEIGHT * FINE)[:, None, None]
    top, bottom = np.array([112.0, 160.0, 196.0]), np.array([236.0, 222.0, 196.0])
    return np.repeat(top + (bottom - top) * down, WIDTH * FINE, axis=1).astype(np.uint8)


def _balloon(canvas: Rgb, x: float, y: float, moment: float) -> None:
    sway = 0.07 * math.sin(moment * 2 * math.pi)
    turn = np.array([[math.cos(sway), math.sin(sway)], [-math.sin(sway), math.cos(sway)]])

    def place(points: list[tuple[float, float]]) -> "np.ndarray[Any, Any]":
        return np.asarray(np.array(points) @ turn + (x, y))

    def outline(bulge: float) -> list[tuple[float, float]]:
        """One edge of a stripe, top to mouth: ``bulge`` is -1 at the left rim and 1 at the right."""
        crown = np.linspace(0, 2.4, 40)
        wide = [*np.sin(crown), *np.linspace(math.sin(2.4), 0.13, 12)[1:]]
        down = [*(-12 - 112 * np.cos(crown)), *np.linspace(-12 - 112 * math.cos(2.4), 136, 12)[1:]]
        return [(bulge * 112 * x, y) for x, y in zip(wide, down, strict=True)]

    for side in (-1, 1):
        _line(canvas, place([(side * 14, 134), (side * 17, 178)]), (70, 52, 40), 2)
    _fill(canvas, place([(-20, 176), (20, 176), (16, 208), (-16, 208)]), (122, 82, 48))
    _fill(canvas, place([(-21, 173), (21, 173), (20, 181), (-20, 181)]), (84, 56, 34))
    rims = np.sin(np.linspace(-math.pi / 2, math.pi / 2, 11))
    for number, (left, right) in enumerate(pairwise(rims)):
        shade = 1.04 - 0.16 * ((left + right) / 2 + 0.35) ** 2  # the sun stands at the left
        colour = tuple(min(255, int(each * shade)) for each in STRIPES[number % len(STRIPES)])
        _fill(canvas, place(outline(left) + outline(right)[::-1]), colour)
    _fill(canvas, place([(-16, 132), (16, 132), (13, 140), (-13, 140)]), (96, 40, 34))


def _fill(canvas: Rgb, points: "np.ndarray[Any, Any]", colour: tuple[int, ...]) -> None:
    cv2.fillPoly(canvas, [np.round(points * FINE).astype(np.int32)], colour, cv2.LINE_AA)


def _line(canvas: Rgb, points: "np.ndarray[Any, Any]", colour: tuple[int, ...], width: int) -> None:
    ends = [tuple(int(each) for each in point) for point in np.round(points * FINE)]
    cv2.line(canvas, ends[0], ends[1], colour, width * FINE, cv2.LINE_AA)


def frames() -> Iterator[Rgb]:
    """Every frame of the clip."""
    for number in range(FRAMES):
        yield image(number / (FRAMES - 1))


def write(path: Path) -> Path:
    """Encode the clip."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libvpx-vp9", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        video.codec_context.options = {"crf": "34", "b": "0", "deadline": "good", "cpu-used": "1"}
        for number, rgb in enumerate(frames()):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


if __name__ == "__main__":
    written = write(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
    print(f"{written}: {written.stat().st_size / 1000:.1f} kB")
