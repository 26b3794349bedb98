"""Which thing is which over anchors, drawn."""

import cv2
import numpy as np
import pytest

from foremask.vision.temporal.regions import Link
from foremask.vision.temporal.scout import Scout
from foremask.vision.temporal.things import Follower, PickedAnchor

SHAPE = 60, 160
HIDDEN = range(9, 12)


def anchor(frame: int, before: int, after: int = 0) -> PickedAnchor:
    """A disc goes three pixels to the right a frame, and is hidden for a while."""
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.circle(drawn, (20 + 3 * frame, 30), 8, 1, -1)
    picked = (drawn > 0) & (frame not in HIDDEN)
    full = np.ones(SHAPE, np.float32)
    links = {}
    for offset, other in ((-1, before), (1, after)):
        flow = np.zeros((*SHAPE, 2), np.float32)
        flow[..., 0] = 3 * (other - frame)
        links[offset] = Link(flow, full, full, abs(other - frame))
    return PickedAnchor(frame, picked, picked, links)


@pytest.mark.parametrize("windows", [[[0, 4, 8, *HIDDEN, 12]], [[4], [4, 8, *HIDDEN, 12]]])
def test_a_hidden_thing_goes_on_by_frames_also_from_one_window_to_the_next(
    windows: list[list[int]],
) -> None:
    follower = Follower()
    for frames in windows:
        window = [anchor(*each) for each in zip(frames, [0, *frames], strict=False)]
        followed = follower.follow(window)
    numbers = [set(np.unique(each)) - {0} for each in followed]
    assert numbers == [{1}] * frames.index(HIDDEN[0]) + [set()] * 3 + [{1}]


def test_a_choice_is_brought_back_by_frames_past_where_the_thing_is_hidden() -> None:
    frames = [4, 8, *HIDDEN, 12, 16, 20]
    around = zip(frames, [0, *frames], [*frames[1:], 24], strict=False)
    whole = anchor(20, 16).picked.astype(np.float32)
    scout = Scout({20: np.round(cv2.resize(whole, None, fx=0.5, fy=0.5))})
    scout.add([anchor(*each) for each in around])
    scout.end_shot()
    assert {4, 8, 12, 16} <= set(scout.found)
