"""One picture that is masked again and again, with other hints each time."""

import numpy as np

from foremask.masking.stills import MOST_ANSWERS, MOST_CROPS, OnePicture
from foremask.media.frames import frame_of
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
