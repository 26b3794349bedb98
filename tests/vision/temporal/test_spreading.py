from collections.abc import Sequence

import numpy as np
import pytest

from foremask.vision.network.finder import Click
from foremask.vision.temporal.grids import RegionPlane
from foremask.vision.temporal.places import Place
from foremask.vision.temporal.regions import Link
from foremask.vision.temporal.spreading import Spreading

HEIGHT, WIDTH = 120, 200


def disc(x: int, y: int, radius: int) -> Place:
    rows, columns = np.indices((HEIGHT, WIDTH))
    return np.asarray(np.hypot(columns - x, rows - y) <= radius)


STILL = Link(
    np.zeros((HEIGHT, WIDTH, 2), np.float32),
    np.ones((HEIGHT, WIDTH), np.float32),
    np.ones((HEIGHT, WIDTH), np.float32),
    4,
)
UNSURE = np.full((HEIGHT, WIDTH), 0.5, np.float32)
EVEN = np.zeros((HEIGHT, WIDTH), np.float32)
LEFT = disc(50, 60, 20)
RIGHT = disc(140, 60, 20)
NOTHING = np.zeros((HEIGHT, WIDTH), np.bool_)


def links(count: int) -> list[dict[int, Link]]:
    return [
        {offset: STILL for offset in (-1, 1) if 0 <= index + offset < count}
        for index in range(count)
    ]


def as_moved(_: int, moved: RegionPlane, clicks: Sequence[Click] = (), /) -> RegionPlane:
    return moved


def spread(
    decided: Sequence[Place],
    corrections: Sequence[tuple[int, Place]],
    shown: Place | None = None,
    opinion: RegionPlane = UNSURE,
) -> list[Place]:
    """The masks after corrections.

    ``shown``, if given, is what the network that reads prompts finds everywhere, and ``opinion``
    what the network that masks says everywhere.
    """

    def find_again(_: int, moved: RegionPlane, clicks: Sequence[Click] = (), /) -> RegionPlane:
        return moved if shown is None else shown.astype(np.float32)

    opinions = [opinion] * len(decided)
    spreading = Spreading(decided, opinions, [EVEN] * len(decided), links(len(decided)), find_again)
    for start, mask in corrections:
        spreading.correct(start, mask)
    return spreading.masks


@pytest.mark.parametrize("start", [0, 2, 4])
def test_a_thing_that_is_taken_out_on_one_anchor_is_out_on_all(start: int) -> None:
    for mask in spread([LEFT | RIGHT] * 5, [(start, LEFT)]):
        np.testing.assert_array_equal(mask, LEFT)


def test_a_correction_takes_the_shape_that_the_network_finds() -> None:
    larger = disc(140, 60, 22)
    *_, last = spread([LEFT] * 3, [(0, LEFT | RIGHT)], shown=LEFT | larger)
    np.testing.assert_array_equal(last, LEFT | larger)


def test_what_the_network_loses_elsewhere_stays_in_the_mask() -> None:
    *_, last = spread([LEFT] * 3, [(0, LEFT | RIGHT)], shown=RIGHT)
    np.testing.assert_array_equal(last, LEFT | RIGHT)


BUMP = disc(70, 60, 5) & ~LEFT
POST = disc(140, 60, 12)
HORSE = RIGHT & ~POST


def test_what_is_taken_out_takes_nothing_that_the_opinions_are_surer_of() -> None:
    """A post is taken out on the first anchor; further on, the network loses the horse with it."""
    opinion = np.where(HORSE, np.float32(0.98), UNSURE)
    for mask in spread([LEFT | RIGHT] * 3, [(0, LEFT | HORSE)], shown=LEFT, opinion=opinion):
        np.testing.assert_array_equal(mask, LEFT | HORSE)


def test_a_correction_that_only_takes_out_adds_nothing_further_on() -> None:
    """Further on, the network finds a patch beside the part that was taken out."""
    out, patch = LEFT & disc(70, 60, 8), disc(73, 60, 4) & ~LEFT
    for mask in spread([LEFT] * 3, [(0, LEFT & ~out)], shown=(LEFT & ~out) | patch):
        np.testing.assert_array_equal(mask, LEFT & ~out)


def test_a_correction_that_only_adds_takes_nothing_out_further_on() -> None:
    """Further on, the network loses a patch beside the part that was added."""
    patch = LEFT & disc(68, 60, 3)
    for mask in spread([LEFT] * 3, [(0, LEFT | BUMP)], shown=(LEFT | BUMP) & ~patch):
        np.testing.assert_array_equal(mask, LEFT | BUMP)


def test_a_correction_of_what_the_opinions_are_sure_of_spreads_all_the_same() -> None:
    opinion = np.where(LEFT | RIGHT, np.float32(0.99), np.float32(0.01))
    for mask in spread([LEFT | RIGHT] * 3, [(0, LEFT)], opinion=opinion):
        np.testing.assert_array_equal(mask, LEFT)


@pytest.mark.parametrize(("agreeing", "after"), [(4, LEFT), (5, LEFT | RIGHT)])
def test_a_correction_goes_on_after_four_anchors_on_which_the_decided_mask_agrees(
    agreeing: int, after: Place
) -> None:
    decided = [LEFT | RIGHT, *[LEFT] * agreeing, LEFT | RIGHT]
    *before, last = spread(decided, [(0, LEFT)])
    for mask in before:
        np.testing.assert_array_equal(mask, LEFT)
    np.testing.assert_array_equal(last, after)


def test_where_the_decided_mask_agrees_nothing_is_asked() -> None:
    asked: list[int] = []

    def find_again(index: int, moved: RegionPlane, clicks: Sequence[Click] = (), /) -> RegionPlane:
        asked.append(index)
        return moved

    decided = [LEFT | RIGHT, LEFT, LEFT, LEFT | RIGHT]
    spreading = Spreading(decided, [UNSURE] * 4, [EVEN] * 4, links(4), find_again)
    spreading.correct(0, LEFT)
    assert asked == [3]


def test_a_hole_that_is_nearly_closed_on_one_anchor_stays_filled_after_it() -> None:
    hole = disc(50, 60, 10)
    rest = disc(50, 60, 5)
    for mask in spread([LEFT & ~hole, LEFT & ~hole, LEFT & ~rest, LEFT & ~hole], [(0, LEFT)]):
        np.testing.assert_array_equal(mask, LEFT)


@pytest.mark.parametrize(
    ("decided", "mask"),
    [(LEFT, LEFT | BUMP), (LEFT | BUMP, LEFT)],
    ids=["added", "taken away"],
)
def test_a_change_of_the_outline_ends_where_the_network_does_not_find_it(
    decided: Place, mask: Place
) -> None:
    *_, last = spread([decided] * 3, [(0, mask)], shown=decided)
    np.testing.assert_array_equal(last, decided)


def test_a_thing_of_which_the_network_finds_more_than_was_taken_away_stays_whole() -> None:
    """Two thirds of the right disc are taken away on the first anchor."""
    columns = np.indices((HEIGHT, WIDTH))[1]
    *_, last = spread(
        [LEFT | RIGHT] * 3, [(0, LEFT | (RIGHT & (columns < 135)))], shown=LEFT | RIGHT
    )
    np.testing.assert_array_equal(last, LEFT | RIGHT)


def test_where_corrections_of_two_anchors_meet_the_nearer_one_counts() -> None:
    """The left disc is out at the first anchor, and both are in at the last one."""
    masks = spread([LEFT] * 5, [(0, NOTHING), (4, LEFT | RIGHT)])
    assert [bool(each[LEFT].any()) for each in masks] == [False, False, False, True, True]
    assert [bool(each[RIGHT].any()) for each in masks] == [False, True, True, True, True]


def test_what_a_later_call_takes_back_is_gone_where_it_is_nearer() -> None:
    masks = spread([LEFT] * 9, [(0, LEFT | RIGHT), (4, LEFT)])
    assert [bool(each[RIGHT].any()) for each in masks] == [True] * 3 + [False] * 6


def test_a_window_asks_a_bounded_number_of_times() -> None:
    asked = 0

    def count(_: int, moved: RegionPlane, clicks: Sequence[Click] = (), /) -> RegionPlane:
        nonlocal asked
        asked += 1
        return moved

    anchors = 60
    spreading = Spreading(
        [LEFT | RIGHT] * anchors, [UNSURE] * anchors, [EVEN] * anchors, links(anchors), count
    )
    for start in range(anchors):
        spreading.correct(start, LEFT)
    assert asked <= 8 * anchors


def test_a_part_that_grows_to_more_than_twice_its_area_further_on_is_not_added() -> None:
    grown, larger = disc(140, 60, 27), disc(140, 60, 30)  # 1.8 and 2.2 times as large as RIGHT
    *_, last = spread([LEFT] * 3, [(0, LEFT | RIGHT)], shown=LEFT | grown)
    np.testing.assert_array_equal(last, LEFT | grown)
    *_, last = spread([LEFT] * 3, [(0, LEFT | RIGHT)], shown=LEFT | larger)
    np.testing.assert_array_equal(last, LEFT)


@pytest.mark.parametrize(
    ("sliver", "is_clicked", "spreads"),
    [(disc(50, 60, 5), True, False), (disc(50, 60, 5), False, True), (LEFT, True, True)],
    ids=["clicked", "painted", "not larger than the mask"],
)
def test_what_a_click_on_a_sliver_adds_stays_on_its_anchor_if_it_is_unlike_the_subject(
    *, sliver: Place, is_clicked: bool, spreads: bool
) -> None:
    """A click on what is left of a hidden subject adds the tree before it."""
    tree = np.where(RIGHT, np.float32(-3), np.float32(3))
    spreading = Spreading([sliver, LEFT, LEFT], [UNSURE] * 3, [tree] * 3, links(3), as_moved)
    spreading.correct(0, sliver | RIGHT, is_clicked=is_clicked)
    first, *_, last = spreading.masks
    np.testing.assert_array_equal(first, sliver | RIGHT)
    assert bool((last & RIGHT).any()) == spreads


def test_nothing_spreads_over_a_cut() -> None:
    spreading = Spreading([LEFT | RIGHT] * 2, [UNSURE] * 2, [EVEN] * 2, [{}, {}], as_moved)
    spreading.correct(0, LEFT)
    np.testing.assert_array_equal(spreading.masks[1], LEFT | RIGHT)
