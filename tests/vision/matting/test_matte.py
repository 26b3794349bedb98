import numpy as np
import pytest

from foremask.options import Despill
from foremask.types import Levels
from foremask.vision.matting import matte


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
