import tracemalloc

import cv2
import numpy as np
import pytest

from foremask.types import Levels, Rgb
from foremask.vision.matting.foreground import Behind, foreground_colours
from tests.benchmarks.test_measures import texture

HEIGHT, WIDTH = 180, 240
FRONT, BACK = texture(1, HEIGHT, WIDTH, 120, 255), texture(2, HEIGHT, WIDTH, 0, 130)


def hair(blur_px: int) -> Levels:
    """A disc with 150 hairs, some thinner than a pixel; ``blur_px`` of motion blur."""
    drawn = np.zeros((4 * HEIGHT, 4 * WIDTH), np.uint8)
    centre = np.array([2 * WIDTH, 2 * HEIGHT])
    cv2.circle(drawn, centre.tolist(), 140, 255, -1)
    for angle in np.random.default_rng(3).uniform(0, 2 * np.pi, 150):
        tip = centre + 310 * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(drawn, centre.tolist(), tip.astype(int).tolist(), 255, 3)
    levels = cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(levels, (blur_px, 1)), np.uint8)


def mixed(foreground: Rgb, background: Rgb, levels: Levels) -> Rgb:
    alpha = levels[:, :, None] / 255
    return np.rint(alpha * foreground + (1 - alpha) * background).astype(np.uint8)


def error(colours: Rgb, levels: Levels, where: tuple[slice, ...] = ()) -> float:
    band = (levels[where] > 0) & (levels[where] < 255)
    return float(np.abs(colours[where][band].astype(int) - FRONT[where][band]).mean())


@pytest.mark.parametrize("blur_px", [1, 15])
def test_the_band_has_half_the_error_of_the_pictures_own_colours_or_less(blur_px: int) -> None:
    levels = hair(blur_px)
    picture = mixed(FRONT, BACK, levels)
    estimated = foreground_colours(picture, levels)
    assert error(estimated, levels) < 0.5 * error(picture, levels)


def test_a_known_background_makes_the_band_better_still() -> None:
    levels = hair(9)
    picture = mixed(FRONT, BACK, levels)
    half = (WIDTH // 2, HEIGHT // 2)
    known = np.full(half[::-1], 255, np.uint8)
    known[:, : WIDTH // 4] = 0
    colours = np.asarray(cv2.resize(BACK, half, interpolation=cv2.INTER_AREA), np.uint8)
    colours[known == 0] = 0
    without = foreground_colours(picture, levels)
    found = foreground_colours(picture, levels, Behind(colours, known))
    left, right = np.s_[:, : WIDTH // 2 - 2], np.s_[:, WIDTH // 2 + 2 :]
    assert np.array_equal(found[left], without[left])
    assert error(found, levels, right) < 0.8 * error(without, levels, right)


def test_what_is_surely_foreground_keeps_its_colours_and_the_picture_is_not_changed() -> None:
    picture, levels = texture(4, HEIGHT, WIDTH, 0, 255), hair(9)
    before = picture.copy()
    estimated = foreground_colours(picture, levels)
    assert np.array_equal(estimated[levels == 255], picture[levels == 255])
    assert np.array_equal(picture, before)


def test_nothing_of_the_background_is_left_where_alpha_is_zero() -> None:
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[60:120, 80:160] = 255
    picture = np.where(levels[:, :, None] > 0, (200, 20, 20), (20, 200, 20)).astype(np.uint8)
    estimated = foreground_colours(picture, levels)
    assert (estimated[:, :, 1] <= 24).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (33, 2)])
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_any_size_and_any_alpha_will_do(size: tuple[int, int], level: int) -> None:
    picture = np.full((*size, 3), 90, np.uint8)
    estimated = foreground_colours(picture, np.full(size, level, np.uint8))
    assert estimated.shape == picture.shape
    if level:
        assert np.abs(estimated.astype(int) - 90).max() <= 1


def test_a_wholly_soft_picture_takes_no_more_than_20_bytes_a_pixel() -> None:
    levels = np.full((1080, 1920), 128, np.uint8)
    picture = np.zeros((*levels.shape, 3), np.uint8)
    tracemalloc.start()
    foreground_colours(picture, levels)
    assert tracemalloc.get_traced_memory()[1] < 20 * levels.size
    tracemalloc.stop()
