"""What masks cannot do yet, to look at: ``python -m benchmarks.quality.gallery`` draws hard scenes and masks them.

Each row of the picture is the middle of one scene: source, mask, overlay, cut-out. Everything is
drawn by code, so the picture may be shown; docs/quality.md says what is wrong in each row.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from foremask.options import Device, Quality, Runtime
from foremask.types import Rgb
from foremask.vision.drawing import row_of, stacked
from foremask.vision.image import ArrayImage
from foremask.vision.matting.backdrop import with_backdrops
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outline
from foremask.vision.network.devices import network_at
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

IMAGE_FILE = Path(__file__).parents[2] / "docs/pictures/limits.webp"
WIDTH, HEIGHT, FRAMES = 640, 360, 36
FINE = 2  # drawn so much larger, then averaged: smooth edges

type Paint = Callable[[Rgb, float], None]
"""Puts the subject of a scene on the ground, at a moment from 0 to 1; the canvas is `FINE` times as large."""


def ground(seed: int, low: tuple[int, int, int], high: tuple[int, int, int]) -> Rgb:
    """Texture at four scales, between two colours."""
    rng = np.random.default_rng(seed)
    size = WIDTH * FINE, HEIGHT * FINE
    depth = np.zeros((size[1], size[0], 1), np.float32)
    for cells in (6, 14, 40, 120):
        patch = rng.random((cells * 9 // 16 + 1, cells)).astype(np.float32)
        depth[..., 0] += cv2.resize(patch, size, interpolation=cv2.INTER_CUBIC) / 4
    depth = np.clip((depth - 0.5) * 2 + 0.5, 0, 1)
    mixed = np.rint(np.array(low) * (1 - depth) + np.array(high) * depth)
    return np.asarray(mixed, np.uint8)


def _spot(x: float, y: float) -> tuple[int, int]:
    return round(x * FINE), round(y * FINE)


def ball(canvas: Rgb, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    """A shaded ball."""
    for step in range(8):
        light = 0.7 + 0.05 * step
        shade = tuple(min(255, round(each * light)) for each in colour)
        off = radius * 0.05 * step
        cv2.circle(
            canvas,
            _spot(x - off, y - off),
            round((radius - 2 * off) * FINE),
            shade,
            -1,
            cv2.LINE_AA,
        )


def kite(canvas: Rgb, moment: float) -> None:
    """A kite on a line of one pixel."""
    x, y = 260 + 120 * moment, 90 + 20 * math.sin(6 * moment)
    cv2.line(canvas, _spot(60, 350), _spot(x, y + 40), (235, 235, 235), FINE, cv2.LINE_AA)
    corners = [(x, y - 50), (x + 34, y), (x, y + 50), (x - 34, y)]
    cv2.fillPoly(canvas, [np.array([_spot(*each) for each in corners])], (214, 60, 50), cv2.LINE_AA)


def glass(canvas: Rgb, moment: float) -> None:
    """A bubble that one sees through."""
    centre, radius = _spot(240 + 160 * moment, 180), 80 * FINE
    clear = canvas.copy()
    cv2.circle(clear, centre, radius, (225, 240, 250), -1, cv2.LINE_AA)
    canvas[:] = cv2.addWeighted(canvas, 0.75, clear, 0.25, 0)
    cv2.circle(canvas, centre, radius, (240, 248, 255), FINE, cv2.LINE_AA)


def crowd(canvas: Rgb, moment: float) -> None:
    """Eight balls, one of which moves."""
    for number in range(8):
        jump = 60 * abs(math.sin(5 * moment)) if number == 3 else 0
        ball(canvas, 70 + 72 * number, 220 - jump, 30, (70, 110, 200))


def camouflage(canvas: Rgb, moment: float) -> None:
    """A disc of the ground's own texture."""
    patch = np.roll(canvas, (90, 260), axis=(0, 1))
    inside = np.zeros(canvas.shape[:2], np.uint8)
    cv2.circle(inside, _spot(200 + 240 * moment, 190), 70 * FINE, 255, -1, cv2.LINE_AA)
    canvas[inside > 127] = patch[inside > 127]


def rush(canvas: Rgb, moment: float) -> None:
    """A ball that is in the picture for five frames only."""
    ball(canvas, 320 + (moment - 0.5) * FRAMES * 110, 200, 34, (220, 160, 40))


SCENES: tuple[tuple[Paint, Rgb], ...] = (
    (kite, ground(1, (90, 140, 190), (150, 190, 225))),
    (glass, ground(2, (60, 90, 50), (150, 170, 110))),
    (crowd, ground(3, (120, 110, 100), (180, 170, 155))),
    (camouflage, ground(4, (70, 80, 50), (150, 150, 100))),
    (rush, ground(5, (80, 100, 110), (140, 160, 170))),
)


def frames(paint: Paint, background: Rgb) -> Iterator[ArrayImage]:
    """The scene, frame by frame."""
    for number in range(FRAMES):
        canvas = background.copy()
        paint(canvas, number / (FRAMES - 1))
        size = WIDTH, HEIGHT
        yield ArrayImage(
            np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), np.uint8)
        )


def middle_row(paint: Paint, background: Rgb) -> Rgb:
    """The middle frame and what is made of it."""
    images = list(frames(paint, background))
    network = network_at(model_path(), Device(Runtime.CPU))
    alphas = mask_images(images, network, TIERS[Quality.BALANCED])
    surrounded = with_backdrops(zip(images, alphas, strict=True))
    image, alpha, backdrop = next(itertools.islice(surrounded, FRAMES // 2, None))
    luma = np.asarray(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    levels = refine(resolve_outline(alpha, image, backdrop), luma)
    half = WIDTH // 2, HEIGHT // 2
    mask = np.repeat(cv2.resize(levels, half, interpolation=cv2.INTER_AREA)[..., None], 3, axis=2)
    return row_of(image.rgb(*half), np.asarray(mask, np.uint8))


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGE_FILE)
    args = parser.parse_args()
    rows = [middle_row(*scene) for scene in SCENES]
    cv2.imwrite(str(args.out), stacked(rows)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 82])
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
