import numpy as np
import pytest
from benchmarks.quality import scores


def square(x: int) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[10:20, x : x + 10] = True
    return mask


def test_a_contour_is_matched_within_its_tolerance_and_not_beyond() -> None:
    assert scores.contour_accuracy(square(11), square(10)) == 1
    shifted = scores.contour_accuracy(square(12), square(10))
    assert 0.4 < shifted < 0.8


def test_the_last_row_is_compared_only_sideways() -> None:
    """As in DAVIS's seg2bmap: the lowest row has no lower neighbour."""
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True
    assert scores.contour(mask)[:, 2].all()
    assert np.count_nonzero(scores.contour(mask)) == 4


def test_an_error_that_comes_and_goes_flickers_and_a_constant_one_does_not() -> None:
    truth = [np.zeros((4, 4), np.float32)] * 3
    assert scores.temporal_error([t + 0.25 for t in truth], truth) == 0
    masks = [truth[0], truth[1] + 0.5, truth[2]]
    assert scores.temporal_error(masks, truth) == pytest.approx(50)


def test_the_first_and_the_last_frame_do_not_count_for_j() -> None:
    """DAVIS leaves both out; MAE counts them."""
    right, wrong = square(10).astype(np.float32), square(40).astype(np.float32)
    result = scores.score([wrong, right, right, wrong], [right] * 4)
    assert result.j == result.f == result.j_recall == 100
    assert result.mae == pytest.approx(1000 * 2 * 200 / 2400 / 4)


def test_j_of_half_shifted_squares_is_one_third() -> None:
    assert scores.region_similarity(square(10), square(15)) == pytest.approx(1 / 3)


def test_two_empty_masks_agree_and_a_missing_one_is_zero() -> None:
    empty = np.zeros((40, 60), bool)
    assert scores.region_similarity(empty, empty) == scores.contour_accuracy(empty, empty) == 1
    assert scores.contour_accuracy(empty, square(10)) == 0
