import numpy as np

from foremask.types import Alpha, Flow, Levels, Luma
from foremask.vision.temporal.propagation import FrameFlow, PackedFlow, flow_between, propagate

HEIGHT, WIDTH = 24, 40


def uniform(x: float) -> Flow:
    return np.full((HEIGHT, WIDTH, 2), (x, 0), np.float32)


def stripe(left: int) -> Levels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, left : left + 10] = 255
    return mask


def shot(frames: int, step: float = 0.0) -> list[FrameFlow]:
    """Frames of one grey, whose content moves right by ``step`` pixels a frame."""
    grey: Luma = np.full((HEIGHT, WIDTH), 90, np.uint8)
    there, reverse = PackedFlow.of(uniform(step)), PackedFlow.of(uniform(-step))
    return [
        FrameFlow(grey, reverse if number else None, there if number + 1 < frames else None)
        for number in range(frames)
    ]


def middle(alpha: Alpha) -> float:
    return float(alpha[HEIGHT // 2, WIDTH // 2])


def test_a_mask_moves_with_its_subject() -> None:
    steps = shot(5, step=2.0)
    masks = [stripe(8), stripe(8 + 2 * 4)]
    found = propagate(0, steps, [0, 4], masks, per_side=1)
    assert len(found) == 4
    for number, alpha in enumerate(found):
        np.testing.assert_allclose(alpha, stripe(8 + 2 * number) / 255, atol=0.01)


def test_an_anchor_that_the_picture_contradicts_counts_for_nothing() -> None:
    white, black = np.full((HEIGHT, WIDTH), 255, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    steps = shot(3)
    dark = np.full((HEIGHT, WIDTH), 190, np.uint8)
    steps[1:] = [FrameFlow(dark, each.to_previous, each.to_next) for each in steps[1:]]
    found = propagate(0, steps, [0, 2], [white, black], per_side=1)
    assert middle(found[1]) < 0.01


def test_flow_between_two_frames_is_composed_of_all_steps() -> None:
    """Three steps of two pixels are six, and as many back; over a cut there is none."""
    steps = shot(4, step=2.0)
    assert flow_between(steps, 0, 3)[12, 10].tolist() == [6, 0]
    assert flow_between(steps, 3, 0)[12, 20].tolist() == [-6, 0]
    steps[1] = FrameFlow(steps[1].grey, steps[1].to_previous, None)
    assert not flow_between(steps, 0, 3).any()
