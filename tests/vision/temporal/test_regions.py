"""How an anchor is cut into regions, and what is measured of each."""

from dataclasses import replace

import numpy as np

from foremask.vision.temporal.regions import Link, Regions, Scene, measure

ROWS, COLUMNS = 20, 30


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    plane = np.zeros((ROWS, COLUMNS), np.float32)
    plane[top:bottom, left:right] = 1
    return plane


def scene(*opinions: np.ndarray, links: dict[int, Link] | None = None) -> Scene:
    named = {f"view {number}": opinion for number, opinion in enumerate(opinions)}
    rgb = np.where(opinions[0][..., None] > 0.5, (200, 30, 30), (40, 90, 40)).astype(np.uint8)
    nothing = np.zeros((ROWS, COLUMNS), np.float32)
    return Scene(rgb, named, nothing, nothing, links or {})


def test_opinions_that_agree_leave_the_foreground_and_the_background() -> None:
    """One box: two regions, whatever the number of opinions."""
    regions = Regions.of([box(5, 10, 5, 15)] * 3)
    assert sorted(regions.sizes) == [50, ROWS * COLUMNS - 50]


def test_where_two_opinions_differ_is_a_region_of_its_own() -> None:
    """A box of 50 and one of 80 pixels around it: inside, between, outside."""
    regions = Regions.of([box(5, 10, 5, 15), box(5, 10, 5, 21)])
    assert sorted(regions.sizes) == [30, 50, ROWS * COLUMNS - 80]


def test_places_that_do_not_touch_are_regions_of_their_own() -> None:
    """Two boxes in one opinion: two regions beside the background."""
    regions = Regions.of([box(2, 5, 2, 5) + box(12, 16, 20, 25)])
    assert sorted(regions.sizes) == [9, 20, ROWS * COLUMNS - 29]


def test_a_mean_is_that_of_the_regions_own_pixels() -> None:
    """A plane that is 1 on half of a box has a mean of a half there."""
    regions = Regions.of([box(5, 10, 5, 15)])
    means = regions.mean(box(5, 10, 5, 10))
    assert sorted(means) == [0, 0.5]
    np.testing.assert_array_equal(regions.spread(means), 0.5 * box(5, 10, 5, 15))


def test_a_hole_in_the_subject_is_enclosed_and_the_ground_is_not_all() -> None:
    """All of the hole's border lies against the subject; none of it where nothing is inside."""
    subject = box(4, 16, 4, 20) - box(8, 12, 8, 12)
    regions = Regions.of([subject])
    shares = regions.spread(regions.enclosed(subject > 0.5))
    assert shares[9, 9] == 1
    assert regions.enclosed(np.zeros((ROWS, COLUMNS), np.bool_)).max() == 0


def test_what_all_opinions_miss_is_a_region_where_the_classifier_is_sure_of_it() -> None:
    """A second box that only the classifier knows: decided apart from the background around it."""
    seen, missed = box(4, 12, 4, 12), box(4, 12, 18, 26)
    for logit, apart in ((3.0, True), (1.0, False)):
        one = replace(scene(seen, seen), logit=np.float32(logit) * missed)
        ((regions, features),) = measure([one])
        labels = regions.labels
        assert (labels[8, 22] != labels[18, 15]) == apart
        side = regions.spread(features["classifier sign"])[8, 22]
        assert (side > 0.9) == apart


def test_a_doubt_of_the_classifier_cuts_no_hole_into_what_all_opinions_see() -> None:
    """Half of a box that it half doubts stays with the other half; what it denies does not."""
    seen, doubted = box(4, 14, 4, 24), box(4, 14, 14, 24)
    for logit, apart in ((-2.0, False), (-3.0, True)):
        one = replace(scene(seen, seen), logit=np.float32(logit) * doubted)
        ((regions, _),) = measure([one])
        assert (regions.labels[9, 8] != regions.labels[9, 20]) == apart


def test_the_clips_own_colours_speak_for_what_looks_like_the_subject() -> None:
    """Red is learned where both opinions agree and is evidence where one is unsure."""
    sure = box(5, 15, 5, 15)
    wide = sure + box(5, 15, 15, 20)
    first = scene(sure, wide)
    first.rgb[5:15, 15:20] = (200, 30, 30)
    ((regions, features),) = measure([first])
    colour = regions.spread(features["colour"])
    assert colour[10, 17] > 2
    assert colour[1, 1] < -2


def test_neighbours_speak_only_as_far_as_the_flow_is_trusted() -> None:
    """The next anchor has the box: evidence of 0.5 with full trust, 0 without."""
    still = np.zeros((ROWS, COLUMNS, 2), np.float32)
    for trust, votes in ((1.0, 0.5), (0.0, 0.0)):
        full = np.full((ROWS, COLUMNS), trust, np.float32)
        link = Link(still, full, full, 4)
        here = scene(np.zeros((ROWS, COLUMNS), np.float32), box(5, 10, 5, 15), links={1: link})
        after = scene(box(5, 10, 5, 15), box(5, 10, 5, 15))
        (regions, features), _ = measure([here, after])
        assert regions.spread(features["next"])[7, 7] == votes


def test_an_anchor_without_any_foreground_is_measured_too() -> None:
    """No opinion picks anything: one region, and every feature is a number."""
    empty = np.zeros((ROWS, COLUMNS), np.float32)
    ((regions, features),) = measure([scene(empty, empty)])
    assert len(regions.sizes) == 1
    assert all(np.isfinite(values).all() for values in features.values())
