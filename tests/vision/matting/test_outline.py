import cv2
import numpy as np
import pytest

from foremask.options import Despill
from foremask.types import Alpha, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.matting import matte
from foremask.vision.matting.guided_filter import refine
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


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (480, 854), (719, 1279)])
def test_rows_without_a_subject_change_nothing_in_the_others(height: int, width: int) -> None:
    """They are left out, unless a speck in the corners needs them: the disc's mask is the same."""
    luma = np.random.default_rng(5).integers(0, 256, (height, width)).astype(np.uint8)
    alpha = disc(3, 180, 320)
    speckled = alpha.copy()
    speckled[[0, -1], 0] = 1
    levels = refine(alpha, luma)
    all_rows = refine(speckled, luma)
    away = np.s_[:, width // 10 :]
    np.testing.assert_array_equal(levels[away], all_rows[away])
    assert all_rows[0, 0] > 127
    assert levels[0].max() == 0


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (719, 1279), (2161, 3841)])
def test_strips_leave_no_seam(height: int, width: int) -> None:
    alpha = np.add.outer(np.linspace(0.1, 0.5, 180), np.linspace(0, 0.4, 320)).astype(np.float32)
    levels = refine(alpha, np.full((height, width), 90, np.uint8)).astype(int)
    assert np.abs(np.diff(levels, axis=0)).max() <= 1
    assert np.abs(np.diff(levels, axis=1)).max() <= 1


# The matte tools of a caller


def square() -> Levels:
    levels = np.zeros((60, 60), np.uint8)
    levels[20:40, 20:40] = 255
    return levels


@pytest.mark.parametrize("grow_px", [-3.0, -1.5, -0.25, 0.0, 0.25, 1.0, 2.5])
def test_growing_moves_each_side_of_the_outline_by_so_many_pixels(grow_px: float) -> None:
    width_px = matte.grown(square(), grow_px)[30].sum() / 255
    assert width_px == pytest.approx(20 + 2 * grow_px, abs=0.01)


def test_growing_reaches_the_border_and_shrinking_does_not_eat_from_it() -> None:
    levels = np.full((20, 20), 255, np.uint8)
    assert matte.grown(levels, -3).min() == 255
    assert matte.feathered(levels, 5).min() == 255


def test_a_feather_is_a_ramp_of_twice_its_width_and_keeps_the_middle_of_the_edge() -> None:
    levels = np.zeros((9, 100), np.uint8)
    levels[:, :50] = 255
    row = matte.feathered(levels, 8)[4] / 255
    assert (row[49] + row[50]) / 2 == pytest.approx(0.5, abs=0.01)
    assert row[41] == pytest.approx(0.98, abs=0.015)
    assert row[58] == pytest.approx(0.02, abs=0.015)


def test_points_and_gamma_stretch_what_lies_between() -> None:
    levels = np.array([[0, 51, 102, 204, 255]], np.uint8)
    stretched = matte.with_points(levels, 0.2, 0.8, 1)
    assert stretched.tolist() == [[0, 0, 85, 255, 255]]
    assert matte.with_points(levels, 0, 1, 2).tolist() == [[0, 114, 161, 228, 255]]


def test_parts_that_are_too_small_go_whole_and_others_stay_as_they_are() -> None:
    levels = square()
    levels[5:8, 5:8] = 100  # nine cells, three and a half pixels
    assert matte.without_small_parts(levels, 3).tolist() == levels.tolist()
    assert matte.without_small_parts(levels, 4).tolist() == square().tolist()
    assert not matte.without_small_parts(square(), 401).any()


def test_despill_takes_only_the_surplus_of_one_colour() -> None:
    colours = np.array([[[200, 200, 20], [80, 80, 80], [90, 200, 60]]], np.uint8)
    found = matte.despilled(colours, Despill.GREEN)[0].tolist()
    assert found == [[200, 200, 20], [80, 80, 80], [90, 90, 60]]
    assert matte.despilled(colours[:, :, ::-1].copy(), Despill.BLUE)[0].tolist()[1] == [80, 80, 80]
