"""What is decided of regions, how long it holds, and what becomes of the mask."""

import numpy as np
import pytest

from foremask.vision.network.opinions import View
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.verdict import (
    EVIDENCE_SHARE,
    MOST_LOG_ODDS,
    SWITCH,
    along_flow,
    compose,
    decided,
    judge,
    trees_of,
    with_thin_parts,
)

SHAPE = (24, 32)


def plane(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def chain(count: int, continuity: float) -> list[dict[int, Link]]:
    """Links between neighbours that do not move."""
    link = Link(np.zeros((*SHAPE, 2), np.float32), plane(0), plane(continuity), 4)
    return [
        {offset: link for offset in (-1, 1) if 0 <= index + offset < count}
        for index in range(count)
    ]


def smoothed(planes: list[np.ndarray], links: list[dict[int, Link]]) -> list[np.ndarray]:
    scaled = [EVIDENCE_SHARE * each for each in planes]
    return along_flow(scaled, links, [plane(-5)] * len(planes), SWITCH)


def test_trees_add_up_what_their_leaves_say_and_stay_within_their_bound() -> None:
    """One split at 0.5, and where a value is missing: 1 or -2, and the bias; never beyond 6."""
    split = {
        "names": ["colour"],
        "bias": 0.25,
        "depth": 1,
        "feature": [[0, 0, 0]],
        "threshold": [[0.5, 0, 0]],
        "missing_left": [[1, 0, 0]],
        "left": [[1, 1, 2]],
        "right": [[2, 1, 2]],
        "value": [[0, -2, 1]],
    }
    half = np.full(3, 0.5, np.float32)
    odds = trees_of(split).log_odds(
        {"colour": np.array([0.5, 0.6, np.nan], np.float32), "mean": half}
    )
    np.testing.assert_allclose(odds, [-1.75, 1.25, -1.75])
    sure = trees_of(split | {"value": [[0, -20, 10]]})
    odds = sure.log_odds({"colour": np.array([0.0, 1.0, 1.0], np.float32), "mean": half})
    np.testing.assert_allclose(odds, [-MOST_LOG_ODDS, MOST_LOG_ODDS, MOST_LOG_ODDS])


@pytest.mark.parametrize(
    "views",
    [
        tuple(View),
        (View.STRETCHED, View.MIRRORED),
        (View.STRETCHED, View.CROPPED),
        (View.STRETCHED,),
    ],
)
def test_whatever_was_asked_a_clear_subject_is_decided(views: tuple[View, ...]) -> None:
    subject = np.zeros((96, 128), np.float32)
    subject[24:72, 32:96] = 1
    nothing = np.zeros(subject.shape, np.float32)
    rgb = np.where(subject[..., None] > 0, (200, 30, 30), (40, 90, 40)).astype(np.uint8)
    logit = np.where(subject > 0, 3, -3).astype(np.float32)
    whole = slice(0, 96), slice(0, 128)
    (odds,) = judge([Scene(rgb, dict.fromkeys(views, subject), whole, nothing, logit, {})])
    np.testing.assert_array_equal(odds > 0, subject > 0)


def test_one_anchor_that_says_otherwise_is_outvoted_by_those_around_it() -> None:
    planes = [plane(5)] * 4 + [plane(-5)] + [plane(5)] * 4
    assert min(each.min() for each in smoothed(planes, chain(9, 1.0))) > 0


def test_where_anchors_show_different_things_each_decides_alone() -> None:
    planes = [plane(5)] * 4 + [plane(-5)] + [plane(5)] * 4
    totals = smoothed(planes, chain(9, 0.0))
    assert totals[4].max() < 0 < totals[3].min()


def test_a_thing_that_has_truly_changed_is_believed_in_the_end() -> None:
    planes = [plane(6)] * 12 + [plane(-6)] * 12
    signs = [bool(each.min() > 0) for each in smoothed(planes, chain(24, 1.0))]
    assert signs == [True] * 12 + [False] * 12


def test_the_mask_takes_the_outline_of_the_opinion_that_agrees() -> None:
    soft = np.zeros(SHAPE, np.uint8)
    soft[6:18, 8:24] = 255
    soft[6:18, 24] = 180
    verdict = np.where(soft > 127, 4, -4).astype(np.float32)
    mask = compose([soft, np.zeros(SHAPE, np.uint8)], verdict)
    assert mask[10, 10] > 250
    assert abs(int(mask[10, 24]) - 180) < 12
    assert mask[2, 2] == 0


def test_where_no_opinion_agrees_the_verdict_is_the_mask() -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    mask = compose([nothing, nothing], np.where(np.arange(32) < 16, 4, -4) * plane(1))
    assert mask[:, :15].min() > 220
    assert mask[:, 17:].max() < 20


def test_nothing_is_half_there_far_from_an_outline() -> None:
    alpha = np.zeros((180, 320), np.float32)
    alpha[40:140, 40:160] = 1
    alpha[70:100, 80:110] = 0.6
    alpha[40:140, 220:300] = 0.4
    alpha[40:140, 160] = 0.5
    result = decided(alpha)
    assert result[85, 95] == 1
    assert result[:, 220:300].max() == 0
    assert result[90, 160] == 0.5


def test_a_body_that_an_opinion_doubts_in_blotches_is_decided_as_one() -> None:
    blotches, doubts = (
        np.kron(np.random.default_rng(seed).random((12, 16)), np.ones((8, 8))) for seed in (0, 1)
    )
    body = np.zeros((96, 128), np.float32)
    body[20:76, 30:98] = 1
    wavering = (body * (0.4 + 0.2 * blotches)).astype(np.float32)
    opinions = {View.STRETCHED: wavering, View.MIRRORED: 0.95 * body}
    logit = np.where(body > 0, 1.5 + doubts, -4).astype(np.float32)
    rgb = np.where(body[..., None] > 0, 40 + 60 * doubts[..., None], (40, 90, 40)).astype(np.uint8)
    (odds,) = judge([Scene(rgb, opinions, None, body, logit, {})])
    np.testing.assert_array_equal(odds > 0, body > 0)


def test_the_thin_parts_of_a_kept_body_are_kept_and_those_of_another_are_not() -> None:
    mean = plane(0)
    mean[8:18, 2:12] = mean[8:18, 20:30] = 0.9
    mean[0:8, 6:8] = mean[0:8, 24:26] = 0.7
    refused = plane(-2)
    refused[8:18, 2:12] = 2
    expected = refused > 0
    expected[0:8, 6:8] = True
    np.testing.assert_array_equal(with_thin_parts(refused, mean) > 0, expected)


def test_what_the_trees_refuse_of_a_body_is_no_thin_part() -> None:
    mean = plane(0)
    mean[4:20, 2:18] = mean[6:18, 18:24] = 0.9
    refused = plane(-2)
    refused[4:20, 2:18] = 2
    np.testing.assert_array_equal(with_thin_parts(refused, mean) > 0, refused > 0)
