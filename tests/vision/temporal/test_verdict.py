"""What is decided of regions, how long it holds, and what becomes of the mask."""

import numpy as np
import pytest

from foremask.vision.network.opinions import View
from foremask.vision.temporal.regions import Link, Scene
from foremask.vision.temporal.verdict import (
    MOST_LOG_ODDS,
    Trees,
    along_flow,
    compose,
    decided,
    judge,
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
    odds = Trees(split).log_odds({"colour": np.array([0.5, 0.6, np.nan], np.float32), "mean": half})
    np.testing.assert_allclose(odds, [-1.75, 1.25, -1.75])
    sure = Trees(split | {"value": [[0, -20, 10]]})
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


@pytest.mark.parametrize(
    ("evidence", "continuity", "expected"),
    [
        ([5] * 4 + [-5] + [5] * 4, 1.0, [True] * 9),
        ([5] * 4 + [-5] + [5] * 4, 0.0, [True] * 4 + [False] + [True] * 4),
        ([6] * 12 + [-6] * 12, 1.0, [True] * 12 + [False] * 12),
    ],
    ids=["one anchor is outvoted", "other things decide alone", "a lasting change is believed"],
)
def test_verdicts_are_smoothed_along_the_flow(
    evidence: list[int], continuity: float, expected: list[bool]
) -> None:
    planes = [plane(each) for each in evidence]
    totals = along_flow(planes, chain(len(planes), continuity), [plane(-5)] * len(planes))
    assert [bool(each.min() > 0) for each in totals] == expected
    assert [bool(each.max() > 0) for each in totals] == expected


def test_the_mask_takes_the_outline_of_the_opinion_that_agrees_or_else_the_verdicts() -> None:
    soft = np.zeros(SHAPE, np.uint8)
    soft[6:18, 8:24] = 255
    soft[6:18, 24] = 180
    verdict = np.where(soft > 127, 4, -4).astype(np.float32)
    nothing = np.zeros(SHAPE, np.uint8)
    mask = compose([soft, nothing], verdict)
    assert mask[10, 10] > 250
    assert abs(int(mask[10, 24]) - 180) < 12
    assert mask[2, 2] == 0
    assert compose([nothing, nothing], verdict)[10, 10] > 220


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
    refused[14:18, 20:24] = 2  # less than 0.8 of the other body
    expected[14:18, 20:24] = True
    np.testing.assert_array_equal(with_thin_parts(refused, mean) > 0, expected)
