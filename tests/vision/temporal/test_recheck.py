"""Unsure decisions are looked at again by a network that has seen the decided mask."""

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import pytest

from foremask.options import Quality
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage
from foremask.vision.network.finder import Click
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.temporal.recheck import is_uncertain, thick_parts
from foremask.vision.temporal.regions import Scene
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from tests.support.networks import Drawn, KnowsNoThing, red
from tests.vision.temporal.test_windows import HEIGHT, WIDTH, disc, moving_disc, overlap

FRAMES = 13
SHOWN = list(moving_disc(FRAMES))
IMAGES = [image for image, _ in SHOWN]


class FindsRed(KnowsNoThing):
    """Finds all that is red, whatever the earlier mask shows."""

    def __init__(self) -> None:
        self.earlier: list[Alpha] = []

    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        self.earlier.append(earlier)
        return np.asarray(cv2.resize(red(image), earlier.shape[::-1]), np.float32)


def left_half(scenes: Sequence[Scene], *, sure_by: float) -> list[Alpha]:
    """Decides, with these log odds, that only the left half of what is red is the subject."""
    decided = []
    for scene in scenes:
        inside = scene.mean() > 0.5
        columns = np.flatnonzero(inside.any(axis=0))
        inside[:, int(columns.mean()) :] = False
        decided.append(np.where(inside, sure_by, -sure_by).astype(np.float32))
    return decided


def masks_of(
    finder: FindsRed | None, sure_by: float, store: dict[str, np.ndarray] | None = None
) -> list[Alpha]:
    judge = partial(left_half, sure_by=sure_by)
    tier = TIERS[Quality.BALANCED]
    cache = None if store is None else NetworkCache(store)
    return list(mask_images(IMAGES, Drawn(), tier, judge, finder=finder, cache=cache))


def test_a_part_that_an_unsure_decision_has_lost_comes_back() -> None:
    finder = FindsRed()
    without = masks_of(None, 1.0)
    again = masks_of(finder, 1.0)
    for (_, truth), half, whole in zip(SHOWN, without, again, strict=True):
        assert overlap(half, truth) < 0.6
        assert overlap(whole, truth) > 0.9
    assert max(float((each > 0.5).mean()) for each in finder.earlier) < 0.7  # crops of the half


def test_where_the_decision_is_sure_the_network_is_not_asked() -> None:
    finder = FindsRed()
    np.testing.assert_array_equal(masks_of(finder, 4.0), masks_of(None, 4.0))
    assert finder.earlier == []


def test_answers_are_kept_and_masks_are_the_same_without_asking_again() -> None:
    store: dict[str, np.ndarray] = {}
    first = FindsRed()
    masks = masks_of(first, 1.0, store)
    second = FindsRed()
    np.testing.assert_array_equal(masks_of(second, 1.0, store), masks)
    assert first.earlier
    assert second.earlier == []


@pytest.mark.parametrize(
    ("sure_by", "area", "expected"),
    [(1.9, 1.0, True), (2.1, 1.0, False), (1.9, 0.0, False)],
)
def test_a_decision_is_uncertain_where_small_log_odds_cover_more_than_the_subject(
    sure_by: float, area: float, *, expected: bool
) -> None:
    inside = disc(WIDTH / 2, HEIGHT / 2, 40 * area)
    assert is_uncertain(np.where(inside, sure_by, -sure_by).astype(np.float32)) is expected


def test_uncertain_ground_of_less_than_one_and_a_half_subjects_is_left() -> None:
    log_odds = np.full((100, 100), -5, np.float32)
    log_odds[:10] = 5  # 1,000 pixels
    log_odds[20:34] = -1  # 1,400
    assert not is_uncertain(log_odds)
    log_odds[34:36] = -1
    assert is_uncertain(log_odds)


def test_thin_parts_of_a_place_are_dropped_and_thick_ones_kept_whole() -> None:
    place = np.zeros((60, 80), bool)
    place[5:9, 5:70] = True  # four pixels high
    thick = np.zeros_like(place)
    thick[20:40, 10:30] = True
    thick[28:30, 30:60] = True  # a thin arm of the thick part
    np.testing.assert_array_equal(thick_parts(place | thick), thick)
    assert not thick_parts(np.zeros_like(place)).any()


def test_a_picture_in_another_size_than_the_mask_grid_is_rechecked_too() -> None:
    large = [ArrayImage(image.rgb(1280, 720)) for image in IMAGES]
    finder = FindsRed()
    judge = partial(left_half, sure_by=1.0)
    (mask, *_) = mask_images(large, Drawn(), TIERS[Quality.FAST], judge, finder=finder)
    assert overlap(mask, SHOWN[0][1]) > 0.9
