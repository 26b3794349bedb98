from dataclasses import replace

import numpy as np

from foremask.types import Flow, Levels, Luma
from foremask.vision.temporal.propagation import FrameFlow, flow_between, propagate

HEIGHT, WIDTH = 24, 40


def uniform(x: float) -> Flow:
    return np.full((HEIGHT, WIDTH, 2), (x, 0), np.float32)


def stripe(left: int) -> Levels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, left : left + 10] = 255
    return mask


def shot(frames: int, step: float = 0.0) -> dict[int, FrameFlow]:
    """Frames of one grey, whose content moves right by ``step`` pixels a frame."""
    grey: Luma = np.full((HEIGHT, WIDTH), 90, np.uint8)
    there, reverse = (uniform(x).astype(np.float16) for x in (step, -step))
    later = {number: FrameFlow(grey, reverse, there) for number in range(1, frames)}
    return {0: FrameFlow(grey, None, None)} | later


def test_a_mask_moves_with_its_subject() -> None:
    steps = shot(5, step=2.0)
    masks = {0: stripe(8), 4: stripe(8 + 2 * 4)}
    found = propagate(0, steps, masks, per_side=1)
    assert len(found) == 4
    for number, alpha in enumerate(found):
        np.testing.assert_allclose(alpha, stripe(8 + 2 * number) / 255, atol=0.01)


def test_an_anchor_that_the_picture_contradicts_counts_for_nothing() -> None:
    white, black = np.full((HEIGHT, WIDTH), 255, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    steps = shot(3)
    dark = np.full((HEIGHT, WIDTH), 190, np.uint8)
    for number in (1, 2):
        steps[number] = replace(steps[number], grey=dark)
    found = propagate(0, steps, {0: white, 2: black}, per_side=1)
    assert found[1][HEIGHT // 2, WIDTH // 2] < 0.01


def test_flow_between_two_frames_is_composed_of_all_steps() -> None:
    """Three steps of two pixels are six, and as many back; over a cut there is none."""
    steps = shot(4, step=2.0)
    assert flow_between(steps, 0, 3)[12, 10].tolist() == [6, 0]
    assert flow_between(steps, 3, 0)[12, 20].tolist() == [-6, 0]
    steps[2] = FrameFlow(steps[2].grey, None, None)
    assert not flow_between(steps, 0, 3).any()
