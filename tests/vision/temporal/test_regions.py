"""How an anchor is cut into regions, and what is measured of each."""

from dataclasses import replace

import numpy as np
import pytest

from foremask.vision.network.opinions import View
from foremask.vision.temporal.regions import Link, Regions, Scene, measure
from foremask.vision.temporal.verdict import subject_continuity

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
    shares = regions.spread(regions.enclosed(subject > 0.5))
    assert shares[9, 9] == 1
    assert regions.enclosed(np.zeros((ROWS, COLUMNS), np.bool_)).max() == 0


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
