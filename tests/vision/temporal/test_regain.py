"""A thing that the mask loses for some anchors comes back by one point: drawn, with exact flow."""

import numpy as np
import pytest

from foremask.vision.temporal.correction import Click, Shown
from foremask.vision.temporal.regain import regained
from foremask.vision.temporal.regions import Link
from tests.vision.temporal.test_windows import HEIGHT, WIDTH, background, disc

ANCHORS, STEP_PX, RADIUS = 9, 4, 20
LOST = range(3, 7)


def place(anchor: int) -> np.ndarray:
    """Where the disc is."""
    return disc(80 + STEP_PX * anchor, 90, RADIUS)


def shown(anchor: int, *, negative: bool, dark: bool) -> Shown:
    """The mask has the disc except on some anchors; with ``negative`` only on these."""
    rgb = background(1)
    rgb[place(anchor)] = (40, 40, 40) if dark and anchor in LOST else (200, 30, 40)
    picked = (anchor in LOST) == negative
    mask = (place(anchor) & picked).astype(np.float32)
    return Shown(rgb, mask, [mask], mask, mask, [])


def links(anchor: int) -> dict[int, Link]:
    """All of the picture goes with the disc."""
    full = np.ones((HEIGHT, WIDTH), np.float32)
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    return {
        offset: Link(flow + np.array([offset * STEP_PX, 0], np.float32), full, full, 4)
        for offset in (-1, 1)
        if 0 <= anchor + offset < ANCHORS
    }


@pytest.mark.parametrize("negative", [False, True])
def test_a_point_brings_a_lost_thing_back_on_all_anchors_that_have_lost_it(negative: bool) -> None:
    """In, where the mask has it before and after; out, where it has it in between only."""
    everything = [shown(anchor, negative=negative, dark=False) for anchor in range(ANCHORS)]
    click = Click(90, 80 + STEP_PX * 5 + 4, not negative)
    found = list(regained(click, 5, everything, [links(anchor) for anchor in range(ANCHORS)]))
    assert {anchor for anchor, _ in found} == set(LOST)
    for anchor, changed in found:
        truth = place(anchor)
        assert (changed & truth).sum() / (changed | truth).sum() > 0.95


def test_what_looks_otherwise_by_then_is_not_the_same_thing() -> None:
    """The colours at the end of the path are those of another thing."""
    everything = [shown(anchor, negative=False, dark=True) for anchor in range(ANCHORS)]
    click = Click(90, 80 + STEP_PX * 5, True)
    assert not list(regained(click, 5, everything, [links(anchor) for anchor in range(ANCHORS)]))
