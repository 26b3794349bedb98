"""A closer look: where it is taken, and which of its regions are believed."""

from dataclasses import replace

import numpy as np
import pytest

from foremask.options import Quality
from foremask.types import Image
from foremask.vision.image import ArrayImage, Cropped
from foremask.vision.network.session import InputSize, NetworkOutput
from foremask.vision.temporal.closer import CLOSER, MASK, infer_closer, judge_closer
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images

ROWS, COLUMNS = 90, 160


class RedNetwork:
    """Red is foreground; of a whole picture it sees only what is left of ``blind_from``."""

    runtime = "drawn"
    any_size = True

    def __init__(self, blind_from: float = 1.0) -> None:
        self.crops: list[Cropped] = []
        self.sizes: list[InputSize | None] = []
        self._blind_from = blind_from

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """Judge one picture, and note how it was shown."""
        rgb = image.rgb(128, 128).astype(int)
        red = (rgb[..., 0] > rgb[..., 1] + 60).astype(np.float32)
        self.sizes.append(size)
        if isinstance(image, Cropped):
            self.crops.append(image)
        else:
            red[:, round(128 * self._blind_from) :] = 0
        return NetworkOutput(red, ())


def square(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    found = np.zeros((ROWS, COLUMNS), np.float32)
    found[top:bottom, left:right] = 1
    return found


def picture(subject: np.ndarray) -> np.ndarray:
    return np.where(subject[..., None] > 0, (200, 30, 30), (40, 90, 40)).astype(np.uint8)


def levels(mask: np.ndarray) -> np.ndarray:
    return (mask * 255).astype(np.uint8)


def test_a_look_covers_the_mask_and_a_margin_and_is_put_back_where_it_was_taken() -> None:
    """Box 40 x 30 at (60, 30): a margin of 0.25 x 40 + 0.02 x 160 = 13 pixels on each side."""
    subject = square(60, 30, 100, 60)
    network = RedNetwork()
    seen = infer_closer(network, ArrayImage(picture(subject)), levels(subject))
    assert seen is not None
    assert (seen.rows, seen.columns) == (slice(17, 73), slice(47, 113))
    assert network.sizes == [(768, 768)]
    restored = seen.over(levels(np.zeros_like(subject)))
    assert float(np.abs(restored / 255 - subject).mean()) < 0.01


def test_nothing_is_looked_at_where_the_mask_is_empty() -> None:
    """No box, no inference."""
    network = RedNetwork()
    empty = np.zeros((ROWS, COLUMNS), np.uint8)
    assert infer_closer(network, ArrayImage(picture(empty)), empty) is None
    assert network.sizes == []


def scene(mask: np.ndarray, closer: np.ndarray, truth: np.ndarray, neighbours: int) -> list[Scene]:
    """Anchors that do not move, all alike; the classifier and the colours know the subject."""
    still = np.zeros((ROWS, COLUMNS, 2), np.float32)
    full = np.ones((ROWS, COLUMNS), np.float32)
    link = Link(still, full, full, 4)
    count = neighbours + 1
    return [
        Scene(
            picture(truth),
            {MASK: mask, CLOSER: closer},
            np.zeros((ROWS, COLUMNS), np.float32),
            np.where(truth > 0, 3, -3).astype(np.float32),
            {offset: link for offset in (-1, 1) if 0 <= index + offset < count},
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("neighbours", [0, 2])
def test_a_part_that_only_the_closer_look_sees_is_believed_if_it_looks_like_the_subject(
    neighbours: int,
) -> None:
    """A leg of the subject's colour is added; what has the colours of the ground is not."""
    body, leg, ground = square(60, 20, 100, 60), square(90, 60, 100, 80), square(62, 60, 80, 76)
    truth = np.maximum(body, leg)
    scenes = scene(body, np.maximum(truth, ground), truth, neighbours)
    odds = judge_closer(
        scenes, [np.where(each.logit > 0, 2, -2).astype(np.float32) for each in scenes]
    )
    for each in odds:
        np.testing.assert_array_equal(each > 0, truth > 0)


def test_a_closer_look_that_sees_nothing_does_not_take_the_subject_away() -> None:
    """Mask, colours, classifier and neighbours are against it."""
    body = square(60, 20, 100, 60)
    scenes = scene(body, np.zeros_like(body), body, 2)
    odds = judge_closer(scenes, [np.where(body > 0, 4, -4).astype(np.float32)] * 3)
    for each in odds:
        np.testing.assert_array_equal(each > 0, body > 0)


@pytest.mark.slow
def test_every_anchor_is_looked_at_closer_once() -> None:
    """Of a still picture there are as many crops as whole pictures, and one more.

    There are two windows, and the anchor between them is looked at for both.
    """
    subject = square(60, 20, 100, 60)
    network = RedNetwork()
    tier = replace(TIERS[Quality.FAST], closer_above=0)
    masks = list(mask_images([ArrayImage(picture(subject))] * 200, network, tier))
    assert len(masks) == 200
    assert len(network.crops) == len(network.sizes) - len(network.crops) + 1
    assert float(np.abs(masks[100] - subject).mean()) < 0.02
