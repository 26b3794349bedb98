"""The clip's own classifier learns what the subject looks like, and keeps to what it may say."""

import numpy as np

from foremask.vision.temporal.appearance import (
    GRID,
    AnchorFeatures,
    Basis,
    colours,
    correct,
    subject_logits,
    thin_parts,
)

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
    motion = np.ones((45, 80), np.float32)
    drawn = [scene(10 + 5 * k) for k in range(ANCHORS)]
    return [AnchorFeatures([], colours(rgb), motion) for rgb, _ in drawn], [
        truth for _, truth in drawn
    ]


def test_a_keyframe_that_the_network_missed_is_judged_by_the_others() -> None:
    """Nine keyframes teach; the tenth, whose mask is empty, is found."""
    clips, truths = drawn_anchors()
    masks = [*truths]
    masks[6] = np.zeros_like(truths[6])
    judged = subject_logits(clips, masks)
    assert judged is not None
    assert judged[6][truths[6] > 0].mean() > 1
    assert judged[6][truths[6] == 0].mean() < -1


def test_masks_that_are_sure_of_nothing_teach_nothing() -> None:
    """Grey everywhere: no verdict instead of a random one."""
    clips, truths = drawn_anchors()
    assert subject_logits(clips, [np.full_like(each, 128) for each in truths]) is None
    assert subject_logits(clips, [np.zeros_like(each) for each in truths]) is None


def test_the_same_clip_gets_the_same_verdicts() -> None:
    """A repeated segment, after a crash for instance, must fit its neighbours."""
    clips, truths = drawn_anchors()
    first, second = subject_logits(clips, truths), subject_logits(clips, truths)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first[3], second[3])


def test_a_verdict_that_is_not_clear_changes_nothing() -> None:
    """Within one unit of logit the network's word stands."""
    mask = np.linspace(0, 255, 128 * 128).astype(np.uint8).reshape(128, 128)
    same = correct(mask, np.full((GRID, GRID), 0.9, np.float32))
    np.testing.assert_array_equal(same, mask)


def test_a_clear_verdict_takes_away_and_adds_but_spares_thin_parts() -> None:
    """A kite's line is one pixel wide: the grid cannot see it, so its no does not count there."""
    mask = np.zeros((5 * GRID, 5 * GRID), np.uint8)
    mask[200:450, 200:450] = 220
    mask[0:190, 300:302] = 220
    taken = correct(mask, np.full((GRID, GRID), -5, np.float32))
    assert taken[0:180, 300:302].min() > 200
    assert taken[220:430, 220:430].max() < 10
    added = correct(255 - mask, np.full((GRID, GRID), 5, np.float32))
    assert added[220:430, 220:430].min() > 230


def test_what_the_verdict_says_along_an_edge_is_less_than_the_mask_knows() -> None:
    """Logits one cell too wide leave the outline where the network has it."""
    mask = np.zeros((512, 512), np.uint8)
    mask[100:400, 100:400] = 255
    verdict = np.full((GRID, GRID), -5, np.float32)
    verdict[24:101, 24:101] = 5
    np.testing.assert_array_equal(correct(mask, verdict), mask)


def test_thin_parts_are_those_that_an_opening_removes() -> None:
    """A block with a line to it: the line is thin, the block is not."""
    mask = np.zeros((60, 60), np.float32)
    mask[20:50, 20:50] = 1
    mask[0:20, 30:32] = 1
    thin = thin_parts(mask, 5)
    assert thin[5, 30]
    assert not thin[35, 35]
    assert not thin[5, 5]


def test_the_basis_keeps_what_tells_places_apart() -> None:
    """Sixty-four mixtures of three independent maps are projected without loss."""
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(32, 32, 3))
    level = (maps @ rng.normal(size=(3, 64))).astype(np.float32)
    basis = Basis.fit([(level,)])
    (projected,) = basis.project((level,))
    assert projected.shape == (32, 32, 32)
    scores = projected.reshape(-1, 32)[:, :3].astype(np.float64)
    fitted, *_ = np.linalg.lstsq(scores, maps.reshape(-1, 3), rcond=None)
    assert np.abs(scores @ fitted - maps.reshape(-1, 3)).max() < 0.2
