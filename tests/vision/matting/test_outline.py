import numpy as np
import pytest

from foremask.types import Alpha, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.matting.outline import resolve_outline

HEIGHT, WIDTH = 90, 160


def disc(softness_px: float) -> Alpha:
    """In the middle, radius 30.3, its edge ``softness_px`` wide."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside_px = 30.3 - np.hypot(x - WIDTH / 2, y - HEIGHT / 2)
    return np.asarray(np.clip(inside_px / softness_px + 0.5, 0, 1), np.float32)


def painted(alpha: Alpha, front: Rgb, background: Rgb) -> ArrayImage:
    mixed = alpha[..., None] * front + (1 - alpha[..., None]) * background
    return ArrayImage(np.rint(mixed).astype(np.uint8))


def plain(*colour: int) -> Rgb:
    return np.full((HEIGHT, WIDTH, 3), colour, np.uint8)


def noise(seed: int) -> Rgb:
    values = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3))
    return values.astype(np.uint8)


def test_a_blurred_outline_goes_back_to_where_the_colours_meet() -> None:
    truth, blurred = disc(1), disc(8)
    resolved = resolve_outline(blurred, painted(truth, plain(200, 60, 40), plain(30, 90, 120)))
    assert np.abs(resolved - truth).mean() < 0.1 * np.abs(blurred - truth).mean()


def test_an_outline_that_is_soft_in_the_picture_stays_soft() -> None:
    truth = disc(8)
    resolved = resolve_outline(truth, painted(truth, plain(200, 60, 40), plain(30, 90, 120)))
    np.testing.assert_allclose(resolved, truth, atol=0.06)


def test_colours_that_are_on_both_sides_decide_nothing() -> None:
    blurred = disc(8)
    resolved = resolve_outline(blurred, painted(disc(1), noise(1), noise(2)))
    undecided = (blurred > 0.05) & (blurred < 0.95)
    assert np.abs(resolved - blurred)[undecided].mean() < 0.05


def test_what_the_mask_is_sure_of_never_changes() -> None:
    blurred = disc(8)
    resolved = resolve_outline(
        blurred, painted(1 - disc(1), plain(200, 60, 40), plain(30, 90, 120))
    )
    sure = (blurred > 0.95) | (blurred < 0.05)
    np.testing.assert_array_equal(resolved[sure], blurred[sure])


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (HEIGHT, WIDTH)])
def test_without_two_sides_the_mask_stays(level: float, rows: int, columns: int) -> None:
    alpha = np.full((rows, columns), level, np.float32)
    image = ArrayImage(np.full((rows, columns, 3), 77, np.uint8))
    np.testing.assert_array_equal(resolve_outline(alpha, image), alpha)
