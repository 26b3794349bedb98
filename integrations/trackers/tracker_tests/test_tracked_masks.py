"""A red and a blue disc cross a grey board; the tracker follows the colour that a mark is on."""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest
from foremask_trackers.tracked_masks import (
    BACK_FRAMES,
    FIND_FRAMES,
    OnBegun,
    no_matter,
    track_images,
)
from foremask_trackers.tracker import PromptBox

from foremask.options import Quality
from foremask.pipeline.progress import Work
from foremask.pipeline.stages.ask import LAG_FRAMES
from foremask.types import Alpha, Image, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.temporal.frame_hints import Mark
from foremask.vision.temporal.tier import TIERS
from tracker_tests.colours import ColourTracker

WIDTH, HEIGHT = 160, 90
RED = (200, 30, 40)
BLUE = (20, 40, 210)
TIER = TIERS[Quality.BALANCED]


def red_at(frame: int) -> tuple[int, int]:
    return 30 + frame % 100, 22


def blue_at(frame: int) -> tuple[int, int]:
    return 130 - frame % 100, 68


def inside(middle: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(np.hypot(columns - middle[0], rows - middle[1]) < 15)


def board(seed: int = 3) -> Rgb:
    noise = np.random.default_rng(seed).integers(70, 180, (15, 27)).astype(np.uint8)
    grey = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.repeat(grey[..., None], 3, axis=2)


def picture(frame: int, behind: Rgb) -> ArrayImage:
    rgb = behind.copy()
    rgb[inside(red_at(frame))] = RED
    rgb[inside(blue_at(frame))] = BLUE
    return ArrayImage(rgb)


def clip(frames: int) -> list[ArrayImage]:
    behind = board()
    return [picture(frame, behind) for frame in range(frames)]


def point(middle: tuple[int, int], *, positive: bool = True) -> Mark:
    return Mark(0, positive, middle[0] / WIDTH, middle[1] / HEIGHT)


def box(middle: tuple[int, int]) -> Mark:
    x, y = middle
    return Mark(0, True, (x - 15) / WIDTH, (y - 15) / HEIGHT, 30 / WIDTH, 30 / HEIGHT)


def marks_of(
    images: Sequence[Image], marks: dict[int, list[Mark]]
) -> Callable[[Image], list[Mark]]:
    by_image = {id(images[frame]): each for frame, each in marks.items()}
    return lambda image: by_image.get(id(image), [])


def tracked(
    images: Sequence[ArrayImage], marks: dict[int, list[Mark]], on_begun: OnBegun = no_matter
) -> list[Alpha]:
    marks_on = marks_of(images, marks)
    return list(track_images(images, ColourTracker(), TIER, marks_on, on_begun=on_begun))


def overlap(alpha: Alpha, truth: np.ndarray) -> float:
    mask = alpha > 0.5
    return float((mask & truth).sum() / (mask | truth).sum())


def test_a_point_on_the_first_frame_masks_its_thing_on_all_frames() -> None:
    images = clip(40)
    masks = tracked(images, {0: [point(red_at(0))]})
    assert len(masks) == 40
    assert min(overlap(mask, inside(red_at(k))) for k, mask in enumerate(masks)) > 0.85


def test_the_tracker_sees_one_frame_in_four_and_the_marked_frames() -> None:
    images = clip(30)
    tracker = ColourTracker()
    marks_on = marks_of(images, {0: [point(red_at(0))], 13: [point(red_at(13))]})
    masks = list(track_images(images, tracker, TIER, marks_on))
    numbers = [
        next(k for k, each in enumerate(images) if each is image) for image in tracker.seen[0]
    ]
    assert numbers == [0, 4, 8, 12, 13, 16, 20, 24, 28]
    assert len(masks) == 30


def test_a_thing_marked_later_is_tracked_back_to_the_start_of_its_shot() -> None:
    images = clip(60)
    masks = tracked(images, {50: [point(blue_at(50))]})
    assert min(overlap(mask, inside(blue_at(k))) for k, mask in enumerate(masks)) > 0.85


def test_each_frame_that_is_tracked_back_counts_as_work() -> None:
    """It takes minutes with a large tracker, and a run that shows no work is given up."""
    images = clip(60)
    work = Work()
    marks_on = marks_of(images, {50: [point(blue_at(50))]})
    list(track_images(images, ColourTracker(), TIER, marks_on, observer=work))
    forwards = len({*range(0, 60, 4), 50})
    assert work.anchors == forwards + len(range(0, 50, 4))


def test_no_mask_crosses_a_cut_backwards() -> None:
    first, second = board(3), board(4)[::-1]
    images = [picture(k, first) for k in range(24)] + [picture(k, second) for k in range(24, 48)]
    cut = [ArrayImage(255 - image.pixels) if k < 24 else image for k, image in enumerate(images)]
    masks = tracked(cut, {40: [point(red_at(40))]})
    assert max(float(mask.max()) for mask in masks[:24]) == 0
    assert min(overlap(masks[k], inside(red_at(k))) for k in range(24, 48)) > 0.85


@pytest.mark.slow
def test_masks_begin_so_many_frames_before_a_late_mark_and_the_run_says_where() -> None:
    images = clip(260)
    begun: list[tuple[int, int]] = []
    masks = tracked(images, {240: [point(red_at(240))]}, lambda *found: begun.append(found))
    ((begun_on, masked_from),) = begun
    assert begun_on == 240
    assert 240 - BACK_FRAMES - 2 * TIER.stride <= masked_from <= 240 - BACK_FRAMES
    empty = [k for k, mask in enumerate(masks) if not mask.any()]
    assert empty == list(range(masked_from))


@pytest.mark.slow
@pytest.mark.parametrize("quality", list(Quality))
def test_a_mask_lags_no_more_than_the_network_s(quality: Quality) -> None:
    images = clip(LAG_FRAMES + 20)
    read = 0

    def reading() -> Iterator[Image]:
        nonlocal read
        for image in images:
            read += 1
            yield image

    marks_on = marks_of(images, {0: [point(red_at(0))]})
    lags = [
        read - number
        for number, _ in enumerate(
            track_images(reading(), ColourTracker(), TIERS[quality], marks_on)
        )
    ]
    assert len(lags) == len(images)
    assert max(lags) <= LAG_FRAMES


def test_boxes_of_two_things_mask_both() -> None:
    images = clip(12)
    masks = tracked(images, {0: [box(red_at(0)), box(blue_at(0))]})
    truths = [inside(red_at(k)) | inside(blue_at(k)) for k in range(12)]
    assert min(map(overlap, masks, truths)) > 0.85


def test_a_later_negative_point_takes_a_thing_out_from_there_on() -> None:
    images = clip(24)
    both = [box(red_at(0)), box(blue_at(0))]
    masks = tracked(images, {0: both, 12: [point(blue_at(12), positive=False)]})
    assert overlap(masks[8], inside(red_at(8)) | inside(blue_at(8))) > 0.85
    assert min(overlap(masks[k], inside(red_at(k))) for k in range(12, 24)) > 0.85


def test_a_paint_is_exact_on_its_frame() -> None:
    images = clip(8)
    levels = np.full((HEIGHT, WIDTH), 128, np.uint8)
    levels[12:32, 25:35] = 255
    levels[:6] = 0
    paint = [Mark(0, white, levels=levels) for white in (True, False)]
    masks = tracked(images, {0: paint})
    assert masks[0][14:30, 27:33].min() == 1
    assert masks[0][:5].max() == 0
    assert overlap(masks[7], inside(red_at(7))) > 0.85


def test_what_words_find_is_tracked_and_begins_once() -> None:
    """The red disc is found on all frames asked about, and the blue one only from 48 on."""
    images = clip(60)
    asked: list[int] = []

    def find(image: Image) -> list[PromptBox]:
        number = next(k for k, each in enumerate(images) if each is image)
        asked.append(number)
        middles = [red_at(number)] if number < FIND_FRAMES else [red_at(number), blue_at(number)]
        found = [box(each) for each in middles]
        return [
            PromptBox(each.x, each.y, each.x + each.width, each.y + each.height) for each in found
        ]

    tracker = ColourTracker()
    masks = list(track_images(images, tracker, TIER, lambda _: [], find))
    assert asked == [0, FIND_FRAMES]
    assert len(tracker.seen) == 2  # the blue disc was tracked back, and the red one began at once
    truths = [inside(red_at(k)) | inside(blue_at(k)) for k in range(60)]
    assert min(map(overlap, masks, truths)) > 0.85
