"""Tests measures without a truth on drawn clips of a square, all with texture."""

import cv2
import numpy as np
import pytest
from benchmarks.quality.steadiness import steadiness

from foremask.types import Levels, Rgb

WIDTH, HEIGHT, FRAMES = 240, 136, 80
TOP, SIDE = 36, 64  # of the square
PILLAR = slice(110, 150)
type Scene = tuple[list[Rgb], list[Levels]]


def texture(seed: int, height: int, width: int, low: int, high: int) -> Rgb:
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.asarray(low + smooth * (high - low), np.uint8)


def walk(
    start: int = 40, step: int = 1, pan: int = 0, pillar: bool = False, seed: int = 1
) -> Scene:
    ground = texture(seed, HEIGHT, WIDTH + pan * FRAMES + 1, 0, 130)
    square = texture(seed + 1, SIDE, SIDE, 120, 255)
    post = texture(seed + 2, HEIGHT, PILLAR.stop - PILLAR.start, 0, 130)
    frames, masks = list[Rgb](), list[Levels]()
    for number in range(FRAMES):
        picture = ground[:, pan * number : pan * number + WIDTH].copy()
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        left = start + step * number
        first, last = max(0, left), min(WIDTH, left + SIDE)
        if first < last:
            picture[TOP : TOP + SIDE, first:last] = square[:, first - left : last - left]
            mask[TOP : TOP + SIDE, first:last] = 255
        if pillar:
            picture[:, PILLAR], mask[:, PILLAR] = post, 0
        frames.append(picture)
        masks.append(mask)
    return frames, masks


@pytest.mark.parametrize(
    "scene",
    [walk(), walk(88, 0, pan=2), walk(step=4), walk(-64, 3), walk(10, 2, pillar=True)],
    ids=["it walks", "the camera pans", "it leaves", "it comes", "it is occluded"],
)
def test_right_masks_have_no_fault_whatever_the_subject_does(scene: Scene) -> None:
    result, *_ = steadiness(*scene)
    assert result.ghost == result.jumps == 0
    assert max(result.vanish, result.appear) < 0.5


def test_a_cut_is_no_fault() -> None:
    (frames, masks), (more, their) = walk(), walk(140, -1, seed=9)
    result, *_ = steadiness(frames[:40] + more[:40], masks[:40] + their[:40])
    assert result.ghost == result.jumps == 0
    assert max(result.vanish, result.appear) < 0.5


def test_a_flicker_jumps_twice_each_time() -> None:
    frames, masks = walk()
    gone = [mask * (number % 8 != 0 or number == 0) for number, mask in enumerate(masks)]
    result, *_ = steadiness(frames, gone)
    assert result.jumps == 18
    assert result.vanish == pytest.approx(result.appear, rel=0.1)
    assert result.vanish == pytest.approx(100 * 9 / 79, rel=0.1)


def test_a_square_that_is_half_grey_is_a_ghost() -> None:
    frames, masks = walk()
    grey = [mask if number % 2 else mask // 2 for number, mask in enumerate(masks)]
    assert steadiness(frames, grey)[0].ghost > 100
