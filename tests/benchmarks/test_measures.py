import cv2
import numpy as np
import pytest
from benchmarks.quality import scores
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


def cut() -> Scene:
    (frames, masks), (more, their) = walk(), walk(140, -1, seed=9)
    return frames[:40] + more[:40], masks[:40] + their[:40]


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene",
    [walk(), walk(88, 0, pan=2), walk(step=4), walk(-64, 3), walk(10, 2, pillar=True), cut()],
    ids=["it walks", "the camera pans", "it leaves", "it comes", "it is occluded", "a cut"],
)
def test_right_masks_have_no_fault_whatever_the_subject_does(scene: Scene) -> None:
    result, *_ = steadiness(*scene)
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
    assert result.j == result.f == result.j_worst == 100
    assert result.mae == pytest.approx(1000 * 2 * 200 / 2400 / 4)


def test_two_empty_masks_agree_and_a_missing_one_is_zero() -> None:
    empty = np.zeros((40, 60), bool)
    assert scores.region_similarity(empty, empty) == scores.contour_accuracy(empty, empty) == 1
    assert scores.contour_accuracy(empty, square(10)) == 0
    assert scores.region_similarity(square(10), square(15)) == pytest.approx(1 / 3)
