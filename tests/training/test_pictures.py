"""What labels of training pictures mean."""

import numpy as np
import pytest
from training.pictures import UNKNOWN, VOC_OUTLINE, voc_classes

# RGB, as the development kit of VOC 2012 lists them
COLOURS = {
    0: (0, 0, 0),
    1: (128, 0, 0),  # aeroplane
    2: (0, 128, 0),  # bicycle
    8: (64, 0, 0),  # cat
    9: (192, 0, 0),  # chair
    10: (64, 128, 0),  # cow
    12: (64, 0, 128),  # dog
    15: (192, 128, 128),  # person
    16: (0, 64, 0),  # potted plant
    20: (0, 64, 128),  # screen
}


@pytest.mark.parametrize("number", COLOURS)
def test_the_colours_of_voc_are_the_numbers_of_its_classes(number: int) -> None:
    bgr = np.array([[COLOURS[number][::-1]]], np.uint8)
    assert voc_classes(bgr).tolist() == [[number]]


def test_the_outlines_of_voc_belong_to_no_class() -> None:
    assert voc_classes(np.array([[VOC_OUTLINE]], np.uint8)).tolist() == [[UNKNOWN]]


def test_masks_without_colours_are_numbers_already() -> None:
    numbers = np.array([[0, 15, UNKNOWN]], np.uint8)
    assert voc_classes(numbers) is numbers
