import cv2
import numpy as np
import pytest

from foremask.types import Alpha, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outline
from foremask.vision.resample import resized

HEIGHT, WIDTH = 90, 160


def disc(
    softness_px: float, height: int = HEIGHT, width: int = WIDTH, radius_px: float = 30.3
) -> Alpha:
    """In the middle, its edge ``softness_px`` wide."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside_px = radius_px - np.hypot(x - width / 2, y - height / 2)
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


def test_flat_areas_are_exactly_black_and_white_whatever_the_texture() -> None:
    luma = np.random.default_rng(3).integers(0, 256, (720, 1280)).astype(np.uint8)
    alpha = np.zeros((180, 320), np.float32)
    alpha[:, 160:] = 0.97
    levels = refine(alpha, luma)
    assert (levels[:, :600] == 0).all()
    assert (levels[:, 680:] == 255).all()


def test_an_edge_of_the_picture_sharpens_the_mask() -> None:
    truth = disc(1, 720, 1280, 200.3)
    luma = np.rint(40 + 170 * truth).astype(np.uint8)
    alpha = resized(truth, 320, 180)
    plain = cv2.resize(alpha, (1280, 720), interpolation=cv2.INTER_LINEAR)
    sharpened = refine(alpha, luma) / 255
    assert np.abs(sharpened - truth).mean() < 0.67 * np.abs(plain - truth).mean()


def test_soft_parts_stay_soft() -> None:
    alpha = np.tile(np.linspace(0, 1, 160, dtype=np.float32), (90, 1))
    levels = refine(alpha, np.full((360, 640), 128, np.uint8))
    assert levels[180, 320] == pytest.approx(128, abs=2)
    assert (np.diff(levels[180].astype(int)) >= 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (15, 15), (479, 853), (360, 640)])
def test_any_size_comes_back_in_its_own_size(height: int, width: int) -> None:
    rows, columns = min(height, 180), min(width, 320)
    levels = refine(np.ones((rows, columns), np.float32), np.zeros((height, width), np.uint8))
    assert levels.shape == (height, width)
    assert (levels == 255).all()


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (719, 1279), (2161, 3841)])
def test_strips_leave_no_seam(height: int, width: int) -> None:
    alpha = np.add.outer(np.linspace(0.1, 0.5, 180), np.linspace(0, 0.4, 320)).astype(np.float32)
    levels = refine(alpha, np.full((height, width), 90, np.uint8)).astype(int)
    assert np.abs(np.diff(levels, axis=0)).max() <= 1
    assert np.abs(np.diff(levels, axis=1)).max() <= 1
