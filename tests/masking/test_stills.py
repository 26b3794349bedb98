"""One picture that is masked again and again, with other hints each time."""

import numpy as np
import pytest

from foremask.hints.kinds import Point
from foremask.masking.stills import (
    MOST_ANSWERS,
    MOST_CROPS,
    OnePicture,
    correct_mask,
    mask_frame,
)
from foremask.media.frames import frame_of
from foremask.options import JobSpec, Resources
from foremask.types import Image
from foremask.vision.image import Cropped
from tests.support.networks import Drawn


def test_what_points_have_asked_of_a_picture_does_not_grow_without_bound() -> None:
    picture = OnePicture(frame_of(np.zeros((48, 64, 3), np.uint8), 0), Drawn())
    for number in range(MOST_ANSWERS):
        picture.cache.put(f"thing {number}", np.zeros((48, 64), np.uint8))
    picture.forget_answers()
    assert picture.cache.get("thing 0") is not None
    picture.cache.put("one more", np.zeros((48, 64), np.uint8))
    picture.forget_answers()
    assert picture.cache.get("thing 0") is None


def test_a_picture_is_inferred_once_and_of_its_crops_the_newest_are_kept() -> None:
    """Each box has one, of 1 MiB; a child may mask one picture fifty times."""
    frame = frame_of(np.zeros((48, 64, 3), np.uint8), 0)
    network = Drawn()
    picture = OnePicture(frame, network)
    crops = [Cropped(frame, (0.0, 0.0, 0.5, (n + 1) / 200)) for n in range(3 * MOST_CROPS)]
    asked: list[Image] = [frame, *crops, *crops[-MOST_CROPS:], frame]
    for image in asked:
        picture.infer(image)
    assert network.asked == [frame, *crops]
    picture.infer(crops[0])
    assert network.asked[-1] == crops[0]


@pytest.mark.weights
def test_a_picture_that_was_corrected_is_masked_as_if_it_had_not_been() -> None:
    """A correction needs no classifier; a mask of the same picture does."""
    rgb = np.zeros((96, 128, 3), np.uint8)
    rgb[30:70, 40:90, 0] = 255
    picture, untouched = (OnePicture(frame_of(rgb, 0), Drawn()) for _ in range(2))
    nothing = np.zeros((96, 128), np.uint8)
    corrected = correct_mask(picture, nothing, JobSpec(hints=(Point(60, 50),)), Resources())
    assert corrected[50, 60] == 255
    after_it = mask_frame(picture.frame, JobSpec(), Resources(), picture)
    assert after_it[50, 60] == 255
    fresh = mask_frame(untouched.frame, JobSpec(), Resources(), untouched)
    np.testing.assert_array_equal(after_it, fresh)
