from dataclasses import replace

import numpy as np
import pytest

from foremask.vision.network.opinions import View
from foremask.vision.temporal.regions import Link, Regions, Scene, measure
from foremask.vision.temporal.verdict import (
    MOST_LOG_ODDS,
    Trees,
    along_flow,
    as_wholes,
    compose,
    hardened,
    judge,
    subject_continuity,
    with_thin_parts,
)

ROWS, COLUMNS = 20, 30


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    plane = np.zeros((ROWS, COLUMNS), np.float32)
    plane[top:bottom, left:right] = 1
    return plane


def scene(*opinions: np.ndarray, links: dict[int, Link] | None = None) -> Scene:
    """An anchor by the views that there are opinions for, in their order; crops show all of it."""
    named = dict(zip(View, opinions, strict=False))
    rgb = np.where(opinions[0][..., None] > 0.5, (200, 30, 30), (40, 90, 40)).astype(np.uint8)
    nothing = np.zeros((ROWS, COLUMNS), np.float32)
    whole = slice(0, ROWS), slice(0, COLUMNS)
    return Scene(rgb, named, whole, nothing, nothing, links or {})


@pytest.mark.parametrize(
    ("opinions", "sizes"),
    [
        ([box(5, 10, 5, 15)] * 3, [50]),
        ([box(5, 10, 5, 15), box(5, 10, 5, 21)], [30, 50]),
        ([box(2, 5, 2, 5) + box(12, 16, 20, 25)], [9, 20]),
    ],
    ids=["opinions that agree", "where two differ", "places that do not touch"],
)
def test_a_region_is_connected_and_the_same_to_every_opinion(
    opinions: list[np.ndarray], sizes: list[int]
) -> None:
    regions = Regions.of(opinions)
    assert sorted(regions.sizes) == [*sizes, ROWS * COLUMNS - sum(sizes)]


def test_a_hole_in_the_subject_is_enclosed_and_the_ground_is_not_all() -> None:
    subject = box(4, 16, 4, 20) - box(8, 12, 8, 12)
    regions = Regions.of([subject])
    shares = regions.spread(regions.over_border(lambda _, across: subject[across] > 0.5))
    assert shares[9, 9] == 1
    assert regions.over_border(lambda _, across: subject[across] > 1).max() == 0


def test_each_region_knows_how_undecided_the_opinions_around_its_anchor_are() -> None:
    still, full = np.zeros((ROWS, COLUMNS, 2), np.float32), box(0, ROWS, 0, COLUMNS)
    after = {1: Link(still, full, full, 24)}
    sure, half_sure = box(5, 10, 5, 15), box(5, 10, 5, 15) * np.float32(0.75)
    before = {-1: after[1]}
    scenes = [
        scene(sure, links=after),
        scene(sure, links=before | after),
        scene(half_sure, links=before),
    ]
    found = [set(features["undecided"]) for _, features in measure(scenes)]
    assert found == [{0.0}, {np.float32(1 / 6)}, {0.25}]


def test_motion_is_measured_against_that_of_the_subject_around_the_same_time() -> None:
    still, full = np.zeros((ROWS, COLUMNS, 2), np.float32), box(0, ROWS, 0, COLUMNS)
    after = Link(still, full, full, 24)
    subject = box(5, 10, 5, 15)
    slow = replace(scene(subject, links={1: after}), motion=subject)
    quick = replace(scene(subject, links={-1: after}), motion=3 * subject)
    for here in measure([slow, quick]):
        regions, features = here
        assert regions.spread(features["motion, relative"])[7, 7] == 0


def test_neighbours_speak_only_where_they_show_the_same_thing() -> None:
    still = np.zeros((ROWS, COLUMNS, 2), np.float32)
    for continuity, near in ((1.0, 0.5), (0.0, 0.0)):
        full = np.full((ROWS, COLUMNS), continuity, np.float32)
        link = Link(still, full, full, 4)
        here = scene(np.zeros((ROWS, COLUMNS), np.float32), box(5, 10, 5, 15), links={1: link})
        after = scene(box(5, 10, 5, 15), box(5, 10, 5, 15), links={-1: link})
        (regions, features), _ = measure([here, after])
        assert regions.spread(features["near"])[7, 7] == pytest.approx(near, abs=0.01)


def test_what_nobody_asked_is_no_number() -> None:
    subject = box(4, 12, 4, 12) + box(4, 12, 20, 28)
    opinions = {View.STRETCHED: subject, View.CROPPED: subject}
    one = replace(scene(subject), opinions=opinions, box=(slice(0, ROWS), slice(0, 16)))
    ((regions, features),) = measure([one])
    cropped = regions.spread(features[View.CROPPED])
    assert cropped[8, 8] == 1
    assert np.isnan(cropped[8, 24])
    assert np.isnan(features[View.MIRRORED]).all()


def test_neighbours_that_hardly_differ_are_one_region_and_a_slope_is_not() -> None:
    half = box(5, 15, 5, 15)
    wavering = np.where(half > 0, 0.45, 0.55 * box(5, 15, 15, 25)).astype(np.float32)
    assert len(Regions.of([wavering]).joined([wavering]).sizes) == 2
    slope = np.tile(np.repeat(np.linspace(0, 1, 6, dtype=np.float32), 5), (ROWS, 1))
    steps = Regions(
        np.tile(np.arange(30) // 5, (ROWS, 1)).astype(np.int32), np.full(6, 100, np.float32)
    )
    joined = steps.joined([slope])
    assert len(joined.sizes) < 6
    assert joined.labels[0, 0] != joined.labels[0, -1]


@pytest.mark.parametrize(
    ("logits", "frames", "continuity"),
    [((5, 5), 4, 0.99), ((5, -5), 4, 0.5), ((-5, -5), 4, 0.5), ((5, 5), 12, 0.5)],
)
def test_a_link_is_surer_where_the_classifier_sees_the_subject_at_both_ends(
    logits: tuple[float, float], frames: int, continuity: float
) -> None:
    """A half-sure link gets nearly sure between close anchors that both show the subject."""
    plane = np.full((ROWS, COLUMNS), 0.5, np.float32)
    link = Link(np.zeros((ROWS, COLUMNS, 2), np.float32), plane, plane, frames)
    here, there = (np.full_like(plane, logit) for logit in logits)
    assert subject_continuity(link, here, there) == pytest.approx(continuity, abs=0.01)


SHAPE = (24, 32)


def plane(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def chain(count: int, continuity: float) -> list[dict[int, Link]]:
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
    # A split that only separates what is missing from what is there.
    known = Trees(split | {"threshold": [[np.inf, 0, 0]], "missing_left": [[0, 0, 0]]})
    odds = known.log_odds({"colour": np.array([0.0, 99.0, np.nan], np.float32), "mean": half})
    np.testing.assert_allclose(
        odds, [-1.75, -1.75, 1.25], err_msg="only what is missing goes right"
    )
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
    result = hardened(alpha)
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


def test_a_hole_that_the_opinions_do_not_have_is_filled_and_one_that_they_have_stays() -> None:
    odds = plane(-3)
    odds[2:18, 2:26] = 3
    odds[6:10, 6:10] = odds[6:10, 16:20] = -3
    odds[14:20, 10:14] = -3  # to the border of the picture or of the subject: no hole
    mean = np.where(odds > 0, 0.9, 0.1).astype(np.float32)
    mean[6:10, 6:10] = mean[14:20, 10:14] = 0.7
    expected = odds > 0
    expected[6:10, 6:10] = True
    filled = as_wholes(odds, mean)
    np.testing.assert_array_equal(filled > 0, expected)
    np.testing.assert_array_equal(np.abs(filled), 3)


def test_a_small_island_goes_unless_the_opinions_are_sure_of_it() -> None:
    odds = np.full((100, 100), -2, np.float32)
    odds[10:60, 10:60] = 2  # 2,500 pixels, of which the next three are 0.4, 0.4 and 2.5 percent
    for left, side in ((70, 3), (80, 3), (88, 8)):
        odds[80 : 80 + side, left : left + side] = 2
    mean = np.where(odds > 0, 0.6, 0.1).astype(np.float32)
    mean[80:83, 80:83] = 0.95
    expected = odds > 0
    expected[80:83, 70:73] = False
    np.testing.assert_array_equal(as_wholes(odds, mean) > 0, expected)


@pytest.mark.parametrize("odds", [-1, 1], ids=["nothing", "everything"])
def test_a_picture_without_holes_or_islands_keeps_its_log_odds(odds: int) -> None:
    np.testing.assert_array_equal(as_wholes(plane(odds), plane(0.6)), odds)
