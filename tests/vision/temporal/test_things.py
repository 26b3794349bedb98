from dataclasses import replace

import cv2
import numpy as np
import pytest

from foremask.vision.temporal.appearance import GRID, AnchorFeatures, Basis, colours, subject_logits
from foremask.vision.temporal.regions import Link
from foremask.vision.temporal.things import Follower, PickedAnchor, Scout

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
    scout = Scout(20)
    *before, last = [anchor(*each) for each in around]
    scout.add([*before, replace(last, choice=whole)])
    scout.end_shot()
    assert {4, 8, 12, 16} <= set(scout.found)


# What the subject looks like


ANCHORS = 10


def scene(x: int) -> tuple[np.ndarray, np.ndarray]:
    """A red square at column ``x`` on blue noise, and its mask."""
    rgb = np.random.default_rng(x).integers(0, 60, (GRID, GRID, 3)).astype(np.uint8)
    rgb[..., 2] += 120
    truth = np.zeros((GRID, GRID), np.uint8)
    truth[40:80, x : x + 40] = 255
    rgb[truth > 0] = (210, 40, 40)
    return rgb, truth


def drawn_anchors() -> tuple[list[AnchorFeatures], list[np.ndarray]]:
    motion = np.ones((GRID, GRID), np.float32)
    drawn = [scene(10 + 5 * k) for k in range(ANCHORS)]
    return [AnchorFeatures([], colours(rgb), motion) for rgb, _ in drawn], [
        truth for _, truth in drawn
    ]


def test_a_keyframe_that_the_network_missed_is_judged_by_the_others() -> None:
    clips, truths = drawn_anchors()
    masks = [*truths]
    masks[6] = np.zeros_like(truths[6])
    judged = subject_logits(clips, masks)
    assert judged[6][truths[6] > 0].mean() > 1
    assert judged[6][truths[6] == 0].mean() < -1


def test_masks_that_are_sure_of_nothing_teach_nothing() -> None:
    clips, truths = drawn_anchors()
    for level in (0, 128):
        assert not np.any(subject_logits(clips, [np.full_like(each, level) for each in truths]))


def test_the_basis_keeps_what_tells_places_apart() -> None:
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(32, 32, 3))
    level = (maps @ rng.normal(size=(3, 64))).astype(np.float32)
    basis = Basis.fit([(level,)])
    (projected,) = basis.project((level,))
    assert projected.shape == (32, 32, 32)
    scores = projected.reshape(-1, 32)[:, :3].astype(np.float64)
    fitted, *_ = np.linalg.lstsq(scores, maps.reshape(-1, 3), rcond=None)
    assert np.abs(scores @ fitted - maps.reshape(-1, 3)).max() < 0.2
