"""Stray parts go, subjects stay."""

import numpy as np

from foremask.vision.temporal.tracks import keep_maps

SHAPE = (90, 160)
STILL = np.zeros((*SHAPE, 2), np.float32)


def scene(*boxes: tuple[int, int, int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """A mask of boxes (left, top, width, height), and the motion inside each."""
    mask, moved = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    for left, top, width, height, motion in boxes:
        mask[top : top + height, left : left + width] = 1
        moved[top : top + height, left : left + width] = motion
    return mask, moved


RUNNER = (20, 20, 30, 50, 2.0)


def keep(frames: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    masks, motions = zip(*frames, strict=True)
    return keep_maps(masks, motions, [STILL] * len(frames))


def test_a_still_part_that_shows_now_and_then_is_dropped() -> None:
    """The network takes a bush for a subject in 3 of 12 keyframes while somebody runs."""
    bush = (110, 30, 20, 20, 0.1)
    maps = keep([scene(RUNNER, bush) if k in {4, 5, 6} else scene(RUNNER) for k in range(12)])
    assert maps[5][40, 120] == 0
    assert maps[5][40, 30] == 1
    assert all(each[40, 30] == 1 for each in maps)


def test_a_still_person_beside_a_running_one_stays() -> None:
    """As large as the runner and always there: that is no mistake of single keyframes."""
    person = (100, 20, 28, 50, 0.5)
    assert all(each.all() for each in keep([scene(RUNNER, person)] * 12))


def test_a_small_part_that_moves_along_stays() -> None:
    """A ball in the air is detached, small and the runner's."""
    ball = (80, 10, 8, 8, 1.6)
    assert all(each.all() for each in keep([scene(RUNNER, ball)] * 12))


def test_nothing_is_dropped_where_nothing_moves() -> None:
    """In a still life motion says nothing."""
    vase, cup = (20, 20, 30, 50, 0.2), (100, 60, 9, 9, 0.0)
    assert all(each.all() for each in keep([scene(vase, cup)] * 8))


def test_a_keyframe_is_never_emptied() -> None:
    """Where the only part is a stray one it stays: an empty mask would be a worse guess."""
    bush = (110, 30, 20, 20, 0.1)
    maps = keep([scene(RUNNER)] * 5 + [scene(bush)] + [scene(RUNNER)] * 5)
    assert maps[5].all()


def test_an_empty_clip_has_nothing_to_drop() -> None:
    """No component at all, in any keyframe."""
    assert all(each.all() for each in keep([scene()] * 3))
