"""The clip's own classifier learns what the subject looks like, and keeps to what it may say."""

import numpy as np

from foremask.vision.temporal.appearance import GRID, AnchorFeatures, Basis, colours, subject_logits

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
