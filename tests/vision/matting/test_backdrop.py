from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from foremask.types import Alpha, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES, Backdrop, with_backdrops
from foremask.vision.matting.outline import resolve_outline

WIDTH, HEIGHT = 240, 136
RED = np.array([200, 40, 30], np.float32)


def ground(seed: int) -> NDArray[np.float32]:
    """Blotches in all colours, larger than the picture by 40 on each side."""
    values = np.random.default_rng(seed).integers(
        0, 256, ((HEIGHT + 80) // 8, (WIDTH + 80) // 8, 3)
    )
    size = WIDTH + 80, HEIGHT + 80
    return np.asarray(cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_CUBIC))


def bare(number: int, seed: int = 5) -> NDArray[np.float32]:
    """The background of frame ``number``: the camera pans 1.5 pixels and turns 0.5° a frame."""
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0.5 * number, 1.0)
    turn[:, 2] += np.array([-40 - 1.5 * number, -40])
    return np.clip(cv2.warpAffine(ground(seed), turn, (WIDTH, HEIGHT)), 0, 255)


def disc(number: int) -> Alpha:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside_px = 20 - np.hypot(x - 40 - 9 * number, y - HEIGHT / 2)
    return np.asarray(np.clip(inside_px + 0.5, 0, 1), np.float32)


def shown(number: int, seed: int = 5) -> Rgb:
    alpha = disc(number)[..., None]
    return np.rint(alpha * RED + (1 - alpha) * bare(number, seed)).astype(np.uint8)


def clip(frames: int = 12) -> Iterator[tuple[ArrayImage, Alpha]]:
    return ((ArrayImage(shown(number)), disc(number)) for number in range(frames))


def backdrops(pairs: Iterator[tuple[ArrayImage, Alpha]]) -> list[Backdrop]:
    return [backdrop for _, _, backdrop in with_backdrops(pairs)]


def test_what_the_subject_hides_is_taken_from_frames_that_show_it() -> None:
    cells = np.nonzero(disc(6) > 0)
    background = backdrops(clip())[6].background(cells)
    truth = bare(6)[cells] / 255
    assert background.known.mean() > 0.99
    assert np.abs(background.colour - truth)[background.known].mean() < 0.02
    assert background.variance[background.known].max() < 0.01


def test_a_subject_that_never_leaves_hides_what_is_behind_it() -> None:
    pairs = ((ArrayImage(shown(0)), disc(0)) for _ in range(6))
    backdrop = backdrops(pairs)[3]
    assert not backdrop.background(np.nonzero(disc(0) > 0.9)).known.any()
    far_away = np.nonzero(disc(9) > 0.9)
    assert backdrop.background(far_away).known.all()


def test_nothing_is_seen_across_a_cut() -> None:
    shots = [(number, 5) for number in range(3)] + [(number, 77) for number in range(9, 12)]
    pairs = ((ArrayImage(shown(*each)), disc(each[0])) for each in shots)
    second = backdrops(pairs)[3]
    everywhere = np.nonzero(np.ones((HEIGHT, WIDTH), np.bool_))
    background = second.background(everywhere)
    truth = bare(9, 77)[everywhere] / 255
    assert background.known.any()
    assert np.abs(background.colour - truth)[background.known].mean() < 0.02


def test_a_ground_that_is_another_in_each_frame_is_not_believed() -> None:
    rng = np.random.default_rng(9)
    one_ground = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    same = ((ArrayImage(one_ground), disc(number)) for number in range(6))
    others = (
        (ArrayImage(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)), disc(number))
        for number in range(6)
    )
    cells = np.nonzero(disc(3) > 0.5)
    assert backdrops(same)[3].background(cells).known.any()
    assert not backdrops(others)[3].background(cells).known.any()


def test_an_outline_over_a_colourful_ground_is_found_by_what_is_behind_it() -> None:
    blurred = np.asarray(cv2.blur(disc(6), (9, 9)), np.float32)
    images = [ArrayImage(shown(number)) for number in range(12)]
    pairs = (
        (each, np.asarray(cv2.blur(disc(number), (9, 9)), np.float32))
        for number, each in enumerate(images)
    )
    backdrop = backdrops(pairs)[6]
    without = np.abs(resolve_outline(blurred, images[6]) - disc(6)).mean()
    with_it = np.abs(resolve_outline(blurred, images[6], backdrop) - disc(6)).mean()
    assert with_it < 0.5 * without


@pytest.mark.parametrize("ahead_frames", [0, 3])
def test_it_reads_as_far_ahead_as_it_may_and_keeps_order(ahead_frames: int) -> None:
    read = 0

    def counted() -> Iterator[tuple[ArrayImage, Alpha]]:
        nonlocal read
        for pair in clip(10):
            read += 1
            yield pair

    for number, (image, _, backdrop) in enumerate(with_backdrops(counted(), ahead_frames)):
        assert read == min(10, number + 1 + ahead_frames)
        assert backdrop.rgb is image.pixels
        assert len(backdrop.views) <= BACKDROP_REACH_FRAMES + 1 + ahead_frames


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (17, 16)])
def test_pictures_of_a_few_pixels_have_no_backdrop(rows: int, columns: int) -> None:
    alpha = np.full((rows, columns), 0.5, np.float32)
    image = ArrayImage(np.full((rows, columns, 3), 77, np.uint8))
    for backdrop in backdrops(iter([(image, alpha)] * 3)):
        assert not backdrop.background(np.nonzero(alpha > 0)).known.any()
