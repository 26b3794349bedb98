"""Shots drawn by code, with flashes, fades, whip pans and other changes that are no cuts."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Rgb

WIDTH, HEIGHT = 384, 216
type Shot = list[Rgb]


def _as_rgb(pixels: NDArray[np.float32] | NDArray[np.float64]) -> Rgb:
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _noise(
    rng: np.random.Generator, width: int, height: int, cell_px: int, blur: float
) -> NDArray[np.float32]:
    """Random values of deviation 1, correlated over about ``cell_px``."""
    coarse = rng.standard_normal((height // cell_px + 2, width // cell_px + 2)).astype(np.float32)
    blurred = cv2.GaussianBlur(coarse, (0, 0), blur)
    plane = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(plane / plane.std(), np.float32)


def leaves(
    seed: int,
    width: int,
    height: int,
    cell_px: int = 1,
    colour: tuple[int, int, int] = (70, 105, 40),
) -> Rgb:
    rng = np.random.default_rng(seed)
    fine = _noise(rng, width, height, cell_px, 0.7)
    light = _noise(rng, width, height, 8, 1)
    brightness = 1 + 0.45 * fine + 0.15 * light
    return _as_rgb(
        np.asarray(colour, np.float32) * brightness[..., None]
        + light[..., None] * np.asarray((18, 4, -8), np.float32)
    )


def place(seed: int, width: int = 560, height: int = 340) -> Rgb:
    rng = np.random.default_rng(seed)
    picture = np.empty((height, width, 3), np.uint8)
    horizon = int(height * rng.uniform(0.3, 0.7))
    picture[:horizon], picture[horizon:] = rng.integers(30, 226, (2, 3))
    for _ in range(14):
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        x, y = (int(value) for value in rng.integers(0, (width, height)))
        wide, high = (int(value) for value in rng.integers(15, 90, 2))
        if rng.random() < 0.5:
            cv2.ellipse(
                picture, (x, y), (wide, high), float(rng.uniform(0, 180)), 0, 360, colour, -1
            )
        else:
            cv2.rectangle(picture, (x - wide, y - high), (x + wide, y + high), colour, -1)
    texture = _noise(rng, width, height, 5, 1)
    return _as_rgb(picture + 12 * texture[..., None])


def view(still: Rgb, x: float, y: float, zoom: float = 1.0, degrees: float = 0.0) -> Rgb:
    matrix = cv2.invertAffineTransform(
        cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, zoom)
    )
    matrix[:, 2] += np.asarray((x, y))
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(still, matrix, (WIDTH, HEIGHT), flags=how, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint8)


def noisy(shot: Sequence[Rgb], deviation: float, seed: int = 0) -> Shot:
    rng = np.random.default_rng(seed)
    return [_as_rgb(picture + rng.standard_normal(picture.shape) * deviation) for picture in shot]


def walk(seed: int, frames: int = 30) -> Shot:
    """Draw a camera that drifts over a place, and an object that moves in front of it."""
    still, thing = place(seed), leaves(seed + 1, 90, 120, 4, (190, 60, 50))
    shot = []
    for frame in range(frames):
        picture = view(still, 40 + 1.5 * frame, 50 + 4 * np.sin(frame / 6))
        left = 40 + 5 * frame % 240
        picture[80:200, left : left + 90] = thing
        shot.append(picture)
    return noisy(shot, 2, seed)


def foliage_pan(seed: int, speed_px: float, frames: int = 40, deviation: float = 5) -> Shot:
    """Draw a pan over leaves; half of them are nearer and 1.5 times as fast."""
    width = int(WIDTH + 1.6 * speed_px * frames + 60)
    far = leaves(seed, width, HEIGHT + 60)
    near = leaves(seed + 1, width, HEIGHT + 60, colour=(95, 120, 50))
    is_near = _noise(np.random.default_rng(seed), width, HEIGHT + 60, 1, 9) > 0.6
    where = np.repeat(is_near[..., None], 3, axis=2).astype(np.uint8) * 255
    shot = []
    for frame in range(frames):
        y = 20 + 3 * np.sin(frame / 5)
        x_near = 1.5 * speed_px * frame + 10
        share = view(where, x_near, y) / np.float32(255)
        seen = view(far, speed_px * frame + 10, y) * (1 - share) + view(near, x_near, y) * share
        shot.append(_as_rgb(seen))
    return noisy(shot, deviation, seed)


def flash(shot: Sequence[Rgb], at: Sequence[int], strengths: Sequence[float]) -> Shot:
    """Light one frame for each strength (1 is white), from each frame in ``at`` on."""
    lit = list(shot)
    for first in at:
        for frame, strength in enumerate(strengths, first):
            lit[frame] = _as_rgb(shot[frame] * (1 - 0.4 * strength) + 255 * strength)
    return lit


def strobe(shot: Sequence[Rgb], period: int, dark: float = 0.02) -> Shot:
    return [
        _as_rgb(picture * dark) if frame >= 8 and frame // period % 2 else picture
        for frame, picture in enumerate(shot)
    ]


def faded(shot: Sequence[Rgb], first: int, frames: int, hold: int, to: int = 0) -> Shot:
    """Fade to the level ``to`` within ``frames``, hold it, and fade back."""
    corners = np.cumsum([first - 1, frames, hold, frames])
    gains = np.interp(np.arange(len(shot)), corners, [1, 0, 0, 1])
    return [
        _as_rgb(picture * gain + to * (1 - gain)) for picture, gain in zip(shot, gains, strict=True)
    ]


def dissolved(first: Sequence[Rgb], second: Sequence[Rgb], frames: int) -> Shot:
    mixed = [
        _as_rgb(one * (1 - share) + other * share)
        for one, other, share in zip(
            first[-frames:], second[:frames], np.linspace(0, 1, frames + 2)[1:-1], strict=True
        )
    ]
    return [*first[:-frames], *mixed, *second[frames:]]


def confetti(shot: Sequence[Rgb], pieces: int, radius_px: int, fall_px: int) -> Shot:
    rng = np.random.default_rng(1)
    places = rng.random((pieces, 2)) * (WIDTH, 2 * HEIGHT)
    colours = rng.integers(0, 256, (pieces, 3))
    drawn = []
    for frame, picture in enumerate(shot):
        strewn = picture.copy()
        for piece in range(int(pieces * min(1, frame / 6))):
            x = places[piece, 0] + 8 * np.sin(frame + piece)
            y = (places[piece, 1] + fall_px * frame) % (2 * HEIGHT) - HEIGHT / 2
            high = radius_px * (0.4 + 0.6 * abs(np.sin(piece + frame * 1.3)))
            colour = tuple(int(level) for level in colours[piece])
            axes = (radius_px, max(1, int(high)))
            cv2.ellipse(strewn, (int(x), int(y)), axes, piece * 37 + frame * 40, 0, 360, colour, -1)
        drawn.append(strewn)
    return drawn


def rain(shot: Sequence[Rgb], drops: int, deviation: float) -> Shot:
    rng = np.random.default_rng(3)
    wet = []
    for picture in shot:
        seen = picture.copy()
        for _ in range(drops):
            x, y, length = (int(value) for value in rng.integers((0, 0, 10), (WIDTH, HEIGHT, 40)))
            cv2.line(seen, (x, y), (x + length // 6, y + length), (200, 205, 215), 1)
        wet.append(seen)
    return noisy(wet, deviation, 3)


def shaken(still: Rgb, reach_px: float) -> Shot:
    moved = np.random.default_rng(1).uniform(-1, 1, (30, 3)) * (reach_px, reach_px, 3)
    return [view(still, 60 + x, 40 + y, 1, degrees) for x, y, degrees in moved]


def zoomed(still: Rgb, rate: float, frames: int = 30) -> Shot:
    return [view(still, 60, 40, rate**frame / 1.6) for frame in range(frames)]


def turned(still: Rgb, degrees: float) -> Shot:
    return [view(still, 60, 40, 1, degrees * frame) for frame in range(30)]


def whip_pan(still: Rgb, peak_px: float, lasts: int = 12, blurred: bool = True) -> Shot:
    x, shot = 0.0, []
    for frame in range(40):
        moves = 12 <= frame < 12 + lasts
        speed = peak_px * np.sin(np.pi * (frame - 12) / lasts) if moves else 0.0
        seen = view(still, 20 + x, 20)
        width = max(1, int(0.8 * speed)) if blurred else 1
        shot.append(np.asarray(cv2.blur(seen, (width, 1)), np.uint8))
        x += speed
    return shot


def passed_by(shot: Sequence[Rgb], thing: Rgb, speed_px: int, width_px: int) -> Shot:
    wide = cv2.blur(cv2.resize(thing, (width_px, HEIGHT)), (max(1, speed_px // 3), 1))
    seen = []
    for frame, picture in enumerate(shot):
        covered, left = picture.copy(), WIDTH - speed_px * max(0, frame - 10)
        begin, end = max(0, left), min(WIDTH, left + width_px)
        if begin < end and frame >= 10:
            covered[:, begin:end] = wide[:, begin - left : end - left]
        seen.append(covered)
    return seen


def broken(shot: Sequence[Rgb], at: Sequence[int], lasts: int = 1) -> Shot:
    """Fill blocks of 16 pixels with colours of other places, from each frame in ``at`` on."""
    rng = np.random.default_rng(1)
    seen = list(shot)
    for frame in [first + more for first in at for more in range(lasts)]:
        ruined = seen[frame].copy()
        for y in range(0, HEIGHT, 16):
            for x in range(0, WIDTH, 16):
                there = rng.integers(HEIGHT), rng.integers(WIDTH)
                ruined[y : y + 16, x : x + 16] = ruined[there]
        seen[frame] = ruined
    return seen


def static() -> Shot:
    levels = np.random.default_rng(5).integers(0, 256, (30, HEIGHT, WIDTH, 1)).astype(np.uint8)
    return [np.repeat(picture, 3, axis=2) for picture in levels]
