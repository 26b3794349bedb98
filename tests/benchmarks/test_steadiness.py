"""The measures without a truth, on drawn clips whose faults are known."""

import pytest
from benchmarks.quality.steadiness import Steadiness, steadiness

from foremask.types import Levels
from tests.benchmarks import scenes


def measured(scene: scenes.Scene, masks: list[Levels]) -> Steadiness:
    return steadiness(scene.frames, masks)[0]


def assert_faultless(result: Steadiness) -> None:
    assert result.ghost == result.jumps == 0
    assert max(result.vanish, result.appear) < 0.5


@pytest.mark.parametrize(
    "walk",
    [{}, {"start": 88, "step": 0, "pan": 2}, {"step": 4}, {"start": -64, "step": 3},
     {"start": 10, "step": 2, "pillar": True}],
    ids=["it walks", "the camera pans", "it leaves", "it comes", "it is occluded"],
)  # fmt: skip
def test_right_masks_have_no_fault_whatever_the_subject_does(walk: dict[str, int]) -> None:
    scene = scenes.walk(**walk)  # type: ignore[arg-type]
    result = measured(scene, scene.masks)
    assert_faultless(result)
    assert result.followed > 80 or walk


def test_a_cut_is_no_fault() -> None:
    one, other = scenes.walk(frames=40), scenes.walk(start=140, step=-1, frames=40, seed=9)
    both = scenes.Scene(one.frames + other.frames, one.masks + other.masks)
    assert_faultless(measured(both, both.masks))


def test_a_flicker_jumps_twice_each_time() -> None:
    scene = scenes.walk()
    masks = [mask * (number % 8 != 0 or number == 0) for number, mask in enumerate(scene.masks)]
    result = measured(scene, masks)
    assert result.jumps == 18
    assert result.vanish == pytest.approx(result.appear, rel=0.1)
    assert result.vanish == pytest.approx(100 * 9 / 79, rel=0.1)


def test_a_square_that_is_half_grey_is_a_ghost() -> None:
    scene = scenes.walk()
    masks = [mask if number % 2 else mask // 2 for number, mask in enumerate(scene.masks)]
    assert measured(scene, masks).ghost > 100
