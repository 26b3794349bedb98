"""What a click decides: two equal things, drawn, of which a person points at one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage, Cropped, MirroredImage
from foremask.vision.network.finder import Click
from foremask.vision.network.network_protocol import Network
from foremask.vision.temporal.frame_hints import Mark, Seed, read_hints
from foremask.vision.temporal.guidance import Shown, evidence_of
from foremask.vision.temporal.places import labelled
from foremask.vision.temporal.regions import Link
from foremask.vision.temporal.tier import TIERS, Tier
from tests.pipeline.stages.test_network_masks import HEIGHT, WIDTH, background, disc
from tests.support.networks import Drawn, red

pytestmark = pytest.mark.slow

type Scene = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
type Shares = tuple[float, float]

TIER = TIERS[Quality.BALANCED]
RADIUS = 34


def colours(image: Image, blue_level: float = 0) -> Alpha:
    """1 where the picture is red, and ``blue_level`` where it is blue; of 256 by 256 cells."""
    rgb = image.rgb(256, 256).astype(int)
    blue = rgb[..., 2] > rgb[..., 0] + 60
    return red(image, 256) + (blue_level * blue).astype(np.float32)


class Colours:
    """In place of the network that reads prompts: parts of one colour where the earlier mask is."""

    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        rows, columns = earlier.shape
        found = cv2.resize(colours(image, 1), (columns, rows)) > 0.5
        rgb = image.rgb(columns, rows).astype(int)
        orange = rgb[..., 1] > rgb[..., 2] + 60
        kept = np.zeros_like(earlier)
        for of_colour in (found & orange, found & ~orange):
            labels, areas = labelled(of_colour)
            is_kept = np.bincount(labels[earlier > 0.5], minlength=len(areas)) > 0.3 * areas
            for click in clicks:
                is_kept[labels[int(click.y * rows), int(click.x * columns)]] = click.inside
            is_kept[0] = False
            kept[is_kept[labels]] = 1
        return kept

    def thing_at(self, image: Image, click: Click, shape: tuple[int, int]) -> Alpha:
        return self.find(image, np.zeros(shape, np.float32), [click])


def painted(rgb: np.ndarray, truth: np.ndarray, shift: int) -> None:
    """A red thing with a texture that moves with it; all things have the same."""
    texture = background(77) // 4
    rgb[truth] = np.array([200, 30, 40], np.uint8) + np.roll(texture, shift, axis=1)[truth] // 2


def discs(
    front: tuple[float, float, float], back: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two red discs by column, row and radius."""
    rgb = background(1)
    a, b = disc(*front), disc(*back)
    painted(rgb, b, round(back[0]))
    painted(rgb, a, round(front[0]))
    return rgb, a, b & ~a


def crossing(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two equal discs pass each other."""
    return discs((50 + 3 * t, 84, RADIUS), (270 - 3 * t, 98, RADIUS))


def occlusion(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two equal discs go to the right, one above the other, and behind a post."""
    rgb = background(1)
    post = np.zeros((HEIGHT, WIDTH), bool)
    post[:, 150:186] = True
    a, b = disc(50 + 3 * t, 42, RADIUS), disc(50 + 3 * t, 132, RADIUS)
    for thing in (a, b):
        painted(rgb, thing, 50 + 3 * t)
    rgb[post] = background(5)[post] // 2
    return rgb, a & ~post, b & ~post


def masks_of(
    scene: Scene,
    clicks: Sequence[tuple[int, float, float, bool]],
    frames: int,
    network: Network | None = None,
    tier: Tier = TIER,
) -> list[np.ndarray]:
    network = network or Drawn(colours)
    drawn = [scene(t) for t in range(frames)]
    images = [ArrayImage(rgb) for rgb, _, _ in drawn]
    place = {id(image): number for number, image in enumerate(images)}

    def key(image: Image) -> int | None:
        return place.get(id(image))

    by_frame: dict[int, list[Mark]] = {}
    for number, (frame, x, y, positive) in enumerate(clicks):
        mark = Mark(number, positive, x / WIDTH, y / HEIGHT)
        by_frame.setdefault(frame, []).append(mark)
    hinted = [(frame, images[frame], marks) for frame, marks in by_frame.items()]
    guidance = read_hints(hinted, network, tier, key, finder=Colours()) if hinted else None
    return [
        cv2.resize(alpha, (WIDTH, HEIGHT)) > 0.5
        for alpha in mask_images(images, network, tier, guidance=guidance)
    ]


@pytest.mark.parametrize("scene", [crossing, occlusion])
@pytest.mark.parametrize(("frame", "positive"), [(0, True), (71, True), (0, False)])
def test_a_click_on_one_of_two_equal_things_decides_that_one_only(
    scene: Scene, frame: int, *, positive: bool
) -> None:
    """Through a crossing and behind a post, from either end of the clip."""
    y = 84 if scene is crossing else 42
    inside, total, beyond = np.zeros(2), np.zeros(2), 0
    for t, mask in enumerate(masks_of(scene, [(frame, 50 + 3 * frame, y, positive)], 72)):
        _, a, b = scene(t)
        inside += [(mask & thing).sum() for thing in (a, b)]
        total += [thing.sum() for thing in (a, b)]
        beyond += int((mask & ~(a | b)).sum())
    of_clicked, of_other = (inside / total)[:: 1 if positive else -1]
    assert of_clicked >= 0.97
    assert of_other <= 0.03
    assert beyond <= 0.03 * total.sum()


def sway(t: int) -> int:
    return round(12 * math.sin(t / 9))


def apart(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two equal discs sway, one on each side."""
    return discs((80 + sway(t), 84, RADIUS), (240 + sway(t), 98, RADIUS))


def unequal(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A large disc and a small one sway."""
    return discs((100 + sway(t), 90, 46), (255 - sway(t), 100, 24))


def passing(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc stops where another one was until frame 6."""
    return discs((min(50 + 3 * t, 180), 84, RADIUS), (190, 90, 26 if t < 6 else 0))


def stuck(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An orange blob clings to a disc; the network takes both for one thing."""
    rgb = background(1)
    x = 150 + round(20 * np.sin(t / 9))
    a = disc(x, 90, 46)
    b = disc(x + 52, 80, 16) & ~a
    painted(rgb, a, x)
    rgb[b] = np.array([220, 120, 20], np.uint8) + np.roll(background(78) // 4, x, axis=1)[b] // 2
    return rgb, a, b


def horse(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A long thing behind a post, with a blue head that the network does not find."""
    rgb = background(1)
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    middle = 150 + t
    body = ((across - middle) / 80) ** 2 + ((down - 90) / 34) ** 2 < 1
    head = disc(middle + 84, 78, 14)
    post = np.zeros((HEIGHT, WIDTH), bool)
    post[:, 100:108] = True
    painted(rgb, body, middle)
    rgb[head] = np.array([20, 30, 150], np.uint8) + np.roll(background(77) // 4, t, axis=1)[head]
    rgb[post] = background(5)[post] // 2
    return rgb, (body | head) & ~post, head & ~body


def test_a_second_point_mends_its_place_and_nothing_else() -> None:
    """The point on the missing head brings it in, and what a post cuts off stays."""
    frame = 8
    after = masks_of(horse, [(0, 160, 90, True), (frame, 150 + frame + 84, 78, True)], 24)
    plain = masks_of(horse, [], 24)
    for t, (before, now) in enumerate(zip(plain, after, strict=True)):
        _, whole, head = horse(t)
        far = ~cv2.dilate(head.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool)
        assert ((before ^ now) & far).sum() < 0.01 * before.sum()
        assert (now & head).sum() >= (before & head).sum()
        if abs(t - frame) <= 4:
            assert (now & head).sum() > 0.4 * head.sum()
            assert (now & ~whole).sum() < (before & ~whole).sum() + 0.2 * head.sum()


@pytest.mark.parametrize("positive", [True, False])
def test_of_a_point_in_and_one_out_at_one_place_the_later_one_counts(positive: bool) -> None:
    """Whoever has clicked wrongly clicks again: the head as if the first point were not there."""
    there = 8, 150 + 8 + 84, 78
    both = masks_of(horse, [(*there, not positive), (*there, positive)], 14)
    for now, alone in zip(both, masks_of(horse, [(*there, positive)], 14), strict=True):
        assert (now ^ alone).sum() < 0.005 * alone.sum()


def test_a_choice_changes_no_bit_of_another_shot() -> None:
    """In `fast`, where things are followed by more anchors than are inferred."""
    tier = TIERS[Quality.FAST]
    images = [ArrayImage(crossing(t)[0]) for t in range(30)]
    images += [ArrayImage(np.ascontiguousarray(crossing(t)[0][::-1])) for t in range(20)]
    hinted = images[35]
    marks = [Mark(0, True, (50 + 15) / WIDTH, 1 - 84 / HEIGHT)]
    guidance = read_hints(
        [(True, hinted, marks)], Drawn(colours), tier, lambda image: image is hinted
    )
    assert any(each.choice is not None for each in guidance.frames.values())
    plain = list(mask_images(images, Drawn(colours), tier))
    chosen = list(mask_images(images, Drawn(colours), tier, guidance=guidance))
    np.testing.assert_array_equal(plain[:30], chosen[:30])
    assert chosen[35].sum() < 0.6 * plain[35].sum()


def wandering(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A red disc goes to the right, and a blue one to the left."""
    rgb = background(1)
    a, b = disc(60 + 3 * t, 60, RADIUS), disc(270 - 3 * t, 130, 24)
    painted(rgb, a, 60 + 3 * t)
    rgb[b] = np.array([20, 30, 150], np.uint8) + background(77)[b] // 8
    return rgb, a, b


@pytest.mark.parametrize("quality", [Quality.BALANCED, Quality.FAST])
def test_a_point_beside_the_mask_adds_the_thing_that_it_is_on(quality: Quality) -> None:
    """The network has it on each anchor; without the point it is not the subject."""
    seen = 24, Drawn(lambda image: colours(image, 0.7)), TIERS[quality]
    plain = masks_of(wandering, [], *seen)
    chosen = masks_of(wandering, [(5, 255, 130, True)], *seen)
    for t, (before, now) in enumerate(zip(plain, chosen, strict=True)):
        _, a, b = wandering(t)
        assert (before & b).sum() <= 0.05 * b.sum()
        assert (now & b).sum() >= 0.95 * b.sum()
        assert (now & a).sum() >= 0.99 * (before & a).sum()


@pytest.mark.parametrize("order", [[True, False], [False, True]], ids=["in first", "out first"])
def test_a_point_on_each_of_two_things_takes_one_instead_of_the_other(order: list[bool]) -> None:
    points = {True: (5, 255, 130, True), False: (5, 75, 60, False)}
    network = Drawn(lambda image: colours(image, 0.7))
    for t, mask in enumerate(masks_of(wandering, [points[each] for each in order], 24, network)):
        _, a, b = wandering(t)
        assert (mask & b).sum() >= 0.95 * b.sum()
        assert (mask & a).sum() <= 0.02 * a.sum()


def close_colours(image: Image) -> Alpha:
    """Blue is foreground in crops only."""
    return colours(image, isinstance(image, Cropped))


@pytest.mark.parametrize("frame", [0, 23])
def test_a_point_takes_a_thing_that_only_crops_have(frame: int) -> None:
    """On each frame, from either end; what the network finds by itself stays."""
    clicks = [(frame, 270 - 3 * frame, 130, True)]
    for t, mask in enumerate(masks_of(wandering, clicks, 24, Drawn(close_colours))):
        _, a, b = wandering(t)
        assert (mask & b).sum() >= 0.95 * b.sum()
        assert (mask & a).sum() >= 0.95 * a.sum()
        assert (mask & ~(a | b)).sum() <= 0.05 * b.sum()


def spotted(_: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Many small blue discs, none of which the network finds but in a crop."""
    rgb = background(1)
    for x, y in SPOTS:
        rgb[disc(x, y, 10)] = np.array([20, 30, 150], np.uint8)
    return rgb, disc(0, 0, 1), disc(0, 0, 1)


SPOTS = [(x, y) for y in (30, 75, 120, 165) for x in range(30, 310, 40)]


def test_each_of_many_points_costs_no_more_than_its_own_crops() -> None:
    """Without a limit each thing that is followed costs a crop on each anchor of its window."""
    asked = []
    for count in (8, 28):
        network = Drawn(close_colours)
        masks_of(spotted, [(0, *spot, True) for spot in SPOTS[:count]], 24, network)
        asked.append(sum(isinstance(image, Cropped) for image in network.asked))
    assert asked[1] - asked[0] <= (28 - 8) * 5


def test_a_thing_that_the_network_finds_once_is_followed_by_crops() -> None:
    """It is in no mask; the other thing that is found there stays."""
    first = wandering(0)[0]

    def once(image: Image) -> Alpha:
        """Blue is foreground in crops, and weakly in the first picture."""
        whole = image.image if isinstance(image, MirroredImage) else image
        is_first = np.array_equal(whole.rgb(WIDTH, HEIGHT), first)
        return colours(image, 1 if isinstance(image, Cropped) else 0.7 * is_first)

    network = Drawn(once)
    for t, mask in enumerate(masks_of(wandering, [(0, 270, 130, True)], 24, network)):
        _, a, b = wandering(t)
        assert (mask & b).sum() >= 0.95 * b.sum(), t
        assert (mask & a).sum() >= 0.95 * a.sum(), t


def as_moved(_: int, moved: np.ndarray, clicks: Sequence[Click] = (), /) -> np.ndarray:
    """In place of the network: what is shown is where the flow brings it."""
    return moved


def test_two_places_of_the_window_before_are_followed_apart() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    things = disc(60, 90, 20), disc(260, 90, 20)
    link = Link(np.zeros((HEIGHT, WIDTH, 2), np.float32), nothing + 1, nothing + 1, 4)
    frame = Shown(nothing, [nothing], nothing)
    boxes = [Seed(k, True, 0, 0, nothing, thing, has_size=True) for k, thing in enumerate(things)]
    links = {1: link}, {-1: link, 1: link}, {-1: link}
    window = [replace(frame, links=each) for each in links], as_moved
    before = evidence_of([None] * 3, [boxes, [], []], None, *window)
    after = evidence_of([None] * 3, [[]] * 3, before[-1], *window)
    for each in [*before, *after]:
        np.testing.assert_array_equal(each.mask, things[0] | things[1])


def test_a_frame_whose_hints_change_nothing_does_not_end_another_frames_correction() -> None:
    """The box on the second anchor is round what is in the mask already."""
    a, b = disc(60, 90, 20), disc(260, 90, 20)
    mask = (a | b).astype(np.float32)
    still = Link(np.zeros((HEIGHT, WIDTH, 2), np.float32), mask * 0 + 1, mask * 0 + 1, 4)
    frame = Shown(mask, [mask], 0 * mask)
    links = {1: still}, {-1: still, 1: still}, {-1: still}
    shown = [replace(frame, links=each) for each in links]
    kept = [Seed(0, True, 0, 0, mask * 0, a, has_size=True)]
    out = [Seed(1, False, 0, 0, mask * 0, b, has_size=True)]
    found = evidence_of([None] * 3, [[], kept, out], None, shown, as_moved)
    for each in found:
        np.testing.assert_array_equal(each.mask, a)


@pytest.mark.parametrize("has_point_out", [False, True])
def test_a_hole_in_what_a_point_adds_is_filled_unless_a_point_out_is_in_it(
    *, has_point_out: bool
) -> None:
    whole, hole = disc(160, 90, 50), disc(180, 90, 8)
    nothing = np.zeros((HEIGHT, WIDTH), np.float32)
    ring = (whole & ~hole).astype(np.float32)

    def finds_ring(_: int, moved: np.ndarray, clicks: Sequence[Click] = (), /) -> np.ndarray:
        return ring if any(each.inside for each in clicks) else moved

    points = [Seed(0, False, 90, 180, nothing, hole)] if has_point_out else []
    points.append(Seed(1, True, 90, 120, nothing, disc(120, 90, 3)))
    frame = Shown(nothing, [nothing], nothing)
    (found,) = evidence_of([None], [points], None, [frame], finds_ring)
    np.testing.assert_array_equal(found.mask, whole & ~hole if has_point_out else whole)


def test_a_point_adds_nothing_against_which_the_network_is_surer_than_against_the_point() -> None:
    """What reads the point takes the head and the fence that touches it."""
    head, fence = disc(140, 90, 20), disc(170, 90, 20)
    mask = disc(100, 90, 30).astype(np.float32)
    opinion = np.maximum(mask, np.where(head, np.float32(0.4), np.float32(0)))
    both = np.maximum(mask, head | fence).astype(np.float32)
    point = Seed(0, True, 90, 140, both, disc(140, 90, 3))
    shown = [Shown(mask, [opinion], 0 * mask)]
    (found,) = evidence_of([None], [[point]], None, shown, lambda *_: both)
    np.testing.assert_array_equal(found.mask, (mask > 0) | head)


def test_a_point_out_takes_no_place_that_has_a_point_in_but_a_spot() -> None:
    """Both the answer with the mask and the thing at the point have the earlier point in them."""
    dog, other = disc(100, 90, 30), disc(240, 90, 40)
    mask = (dog | other).astype(np.float32)
    points = [
        Seed(0, True, 80, 110, mask * 0, disc(110, 80, 3)),
        Seed(1, False, 100, 90, dog.astype(np.float32), disc(90, 100, 3)),
    ]
    unsure = mask * np.float32(0.5)

    def drops_dog(_: int, moved: np.ndarray, clicks: Sequence[Click] = (), /) -> np.ndarray:
        return other.astype(np.float32) if not clicks[-1].inside else moved

    (found,) = evidence_of([None], [points], None, [Shown(mask, [unsure], 0 * mask)], drops_dog)
    np.testing.assert_array_equal(found.mask, (dog | other) & ~points[1].place)


def test_a_boxs_place_does_not_depend_on_points_elsewhere() -> None:
    image = ArrayImage(apart(0)[0])
    box = Mark(0, True, 40 / WIDTH, 40 / HEIGHT, 80 / WIDTH, 90 / HEIGHT)
    points = [Mark(k, True, (230 + 3 * k) / WIDTH, 98 / HEIGHT) for k in range(1, 10)]
    places = []
    for marks in ([box], [box, *points], [*points, box]):
        guidance = read_hints([(0, image, marks)], Drawn(colours), TIER, id, finder=Colours())
        (seed,) = (each for each in guidance.frames[0].seeds if each.number == 0)
        places.append(seed.place)
    disc_alone = disc(80, 84, RADIUS)
    there = cv2.resize(places[0].astype(np.uint8), (WIDTH, HEIGHT)) > 0
    assert (there ^ disc_alone).sum() < 0.05 * disc_alone.sum()
    for each in places[1:]:
        np.testing.assert_array_equal(each, places[0])


def with_crumb(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc, and a crumb that the network has too."""
    rgb = background(1)
    a, b = disc(100 + t, 90, 46), disc(250 + t, 100, 2)
    painted(rgb, a, 100 + t)
    rgb[b] = (220, 20, 20)
    return rgb, a, b


ALL, SOME, NONE = (0.95, 1.0), (0.0, 1.0), (0.0, 0.03)
DECIDED: dict[str, tuple[Scene, list[tuple[int, float, float, bool]], int, Shares, Shares]] = {
    "a chosen thing stays whole where one that is gone was": (
        passing, [(0, 50, 84, True)], 60, ALL, NONE,
    ),
    "a point out in the middle of the main thing means all of it": (
        unequal, [(5, 106, 90, False)], 14, (0, 0.01), (0.97, 1),
    ),
    "and in the middle of the only thing, a part of it": (
        stuck, [(5, 160, 90, False)], 14, (0.6, 1), SOME,
    ),
    "a point out on what clings to a thing takes that only": (
        stuck, [(5, 160 + 54, 80, False)], 14, (0.98, 1), (0, 0.48),
    ),
    "a point out after a point in on the same thing is a correction": (
        stuck, [(5, 160, 60, True), (5, 160, 90, False)], 14, (0.6, 1), SOME,
    ),
    "who has begun to correct chooses no more": (
        apart, [(4, 160, 30, True), (0, 80, 84, True)], 12, ALL, ALL,
    ),
    "a point out after a correction takes away no whole thing": (
        horse, [(8, 150 + 8 + 84, 78, True), (8, 158, 90, False)], 14, (0.5, 1), SOME,
    ),
    "a point in on a thing that was banned brings it back, and drops no other": (
        apart, [(0, 240 + sway(0), 98, False), (8, 240 + sway(8), 98, True)], 14, ALL, ALL,
    ),
    "a point on a crumb chooses nothing": (
        with_crumb, [(5, 255, 100, True)], 14, (0.97, 1), SOME,
    ),
}  # fmt: skip
"""The scene, the points, the frames, and the shares of both things that are in each mask."""


@pytest.mark.parametrize("name", DECIDED)
def test_what_points_decide(name: str) -> None:
    scene, points, frames, of_a, of_b = DECIDED[name]
    for t, mask in enumerate(masks_of(scene, points, frames)):
        for there, (least, most) in zip(scene(t)[1:], (of_a, of_b), strict=True):
            share = (mask & there).sum() / max(1, there.sum())
            assert not there.any() or least <= share <= most, t


def test_a_correction_changes_nothing_far_from_it() -> None:
    """On a frame that the network is asked about for the point only, it finds nothing."""
    frame = 10
    blind = apart(frame)[0]

    def blinking(image: Image) -> Alpha:
        return colours(image) * (not np.array_equal(image.rgb(WIDTH, HEIGHT), blind))

    plain = masks_of(apart, [], 24, Drawn(blinking))
    corrected = masks_of(apart, [(frame, 160, 30, True)], 24, Drawn(blinking))
    for before, after in zip(plain, corrected, strict=True):
        assert (before ^ after)[HEIGHT // 2 :].mean() < 0.001
