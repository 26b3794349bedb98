"""Which thing is which over anchors, drawn."""

import cv2
import numpy as np

from foremask.vision.temporal.regions import Link
from foremask.vision.temporal.things import Follower, PickedAnchor

SHAPE = 60, 160
HIDDEN = range(9, 12)


def anchor(frame: int, before: int) -> PickedAnchor:
    """A disc goes three pixels to the right a frame, and is hidden for a while."""
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.circle(drawn, (20 + 3 * frame, 30), 8, 1, -1)
    picked = (drawn > 0) & (frame not in HIDDEN)
    full = np.ones(SHAPE, np.float32)
    flow = np.zeros((*SHAPE, 2), np.float32)
    flow[..., 0] = -3 * (frame - before)
    return PickedAnchor(frame, picked, picked, {-1: Link(flow, full, full, frame - before)})


def test_a_hidden_thing_goes_on_by_frames_however_far_anchors_are_apart() -> None:
    frames = [0, 4, 8, *HIDDEN, 12]
    window = [anchor(*each) for each in zip(frames, [0, *frames], strict=False)]
    numbers = [set(np.unique(each)) - {0} for each in Follower().follow(window)]
    assert numbers == [{1}] * 3 + [set()] * 3 + [{1}]
