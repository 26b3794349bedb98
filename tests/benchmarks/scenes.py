"""Drawn clips of which it is known what stays visible: a textured square on a textured ground."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from foremask.types import Levels, Rgb

WIDTH, HEIGHT, FRAMES = 240, 136, 80
TOP, SIDE = 36, 64  # of the square
PILLAR = slice(110, 150)


def texture(seed: int, height: int, width: int, low: int, high: int) -> Rgb:
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.asarray(low + smooth * (high - low), np.uint8)


@dataclass
class Scene:
    frames: list[Rgb] = field(default_factory=list)
    masks: list[Levels] = field(default_factory=list)


def walk(
    start: int = 40,
    step: int = 1,
    pan: int = 0,
    pillar: bool = False,
    frames: int = FRAMES,
    seed: int = 1,
) -> Scene:
    """The square goes ``step`` pixels a frame, the camera ``pan``; a pillar may stand before it."""
    ground = texture(seed, HEIGHT, WIDTH + abs(pan) * frames + 1, 0, 130)
    square = texture(seed + 1, SIDE, SIDE, 120, 255)
    post = texture(seed + 2, HEIGHT, PILLAR.stop - PILLAR.start, 0, 130)
    scene = Scene()
    for number in range(frames):
        picture = ground[:, pan * number : pan * number + WIDTH].copy()
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        left = start + step * number
        first, last = max(0, left), min(WIDTH, left + SIDE)
        if first < last:
            picture[TOP : TOP + SIDE, first:last] = square[:, first - left : last - left]
            mask[TOP : TOP + SIDE, first:last] = 255
        if pillar:
            picture[:, PILLAR] = post
            mask[:, PILLAR] = 0
        scene.frames.append(picture)
        scene.masks.append(mask)
    return scene
