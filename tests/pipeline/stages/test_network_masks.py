import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest

from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.pipeline.stages import ask, decide
from foremask.pipeline.stages.ask import LAG_FRAMES, WINDOW_FRAMES
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage, MirroredImage
from foremask.vision.network.network_protocol import InputSize, NetworkOutput
from foremask.vision.temporal.grids import grid_of
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.propagation import FrameFlow
from foremask.vision.temporal.regions import Scene
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import TIERS
from tests.support.networks import Drawn, red

WIDTH, HEIGHT = 320, 180


def background(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    noise = (
        np.random.default_rng(seed).integers(60, 200, (height // 6, width // 6)).astype(np.uint8)
    )
    grey = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.repeat(grey[..., None], 3, axis=2)


def disc(x: float, y: float, radius: float = 28) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(np.hypot(columns - x, rows - y) < radius)


def moving_disc(frames: int, seed: int = 1) -> Iterator[tuple[ArrayImage, np.ndarray]]:
    """A red disc crosses a grey texture, 3 pixels a frame."""
    still = background(seed)
    texture = background(seed + 100) // 4
    for t in range(frames):
        truth = disc(50 + 3 * t % 220, 90)
        rgb = still.copy()
        rgb[truth] = np.array([200, 30, 40], np.uint8) + np.roll(texture, 3 * t, axis=1)[truth] // 2
        yield ArrayImage(rgb), truth


def overlap(alpha: np.ndarray, truth: np.ndarray) -> float:
    mask = cv2.resize(alpha, (WIDTH, HEIGHT)) > 0.5
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.slow
def test_a_subject_moves_also_where_each_frame_is_shown_twice() -> None:
    """As telecine does: the frame beside it says nothing of how it moves."""
    images, truths = zip(*moving_disc(13), strict=True)
    seen: list[Scene] = []

    def judge(scenes: Sequence[Scene]) -> list[Alpha]:
        seen.extend(scenes)
        return [np.zeros_like(scene.motion) for scene in scenes]

    twice = [image for image in images for _ in range(2)]
    list(mask_images(twice, Drawn(), TIERS[Quality.BALANCED], judge))
    last = cv2.resize(truths[-1].astype(np.uint8), seen[-1].motion.shape[::-1]) > 0
    assert np.median(seen[-1].motion[last]) > 1 > np.median(seen[-1].motion[~last])


def growing_disc(frames: int) -> Iterator[tuple[ArrayImage, np.ndarray]]:
    """A red disc comes close: it grows from 1 % to 40 % of the picture, over a passing texture."""
    still = background(1, 2 * WIDTH)
    texture = background(101, 2 * WIDTH, 2 * HEIGHT) // 4
    for t in range(frames):
        radius = 14 * (86 / 14) ** (t / (frames - 1))
        truth = disc(160, 90, radius)
        rgb = np.ascontiguousarray(still[:, 2 * t : 2 * t + WIDTH])
        near = cv2.resize(texture, None, fx=radius / 60, fy=radius / 60)[:HEIGHT, :WIDTH]
        shaded = np.zeros_like(rgb)
        shaded[: near.shape[0], : near.shape[1]] = near
        rgb[truth] = np.array([200, 30, 40], np.uint8) + shaded[truth] // 2
        yield ArrayImage(rgb), truth


@pytest.mark.slow
@pytest.mark.parametrize("quality", [Quality.FAST, Quality.BALANCED])
def test_a_subject_that_comes_close_stays_whole(quality: Quality) -> None:
    images, truths = zip(*growing_disc(37), strict=True)
    masks = list(mask_images(images, Drawn(), TIERS[quality]))
    found = [overlap(mask, truth) for mask, truth in zip(masks, truths, strict=True)]
    assert min(found) > 0.9


def chiral(level: float, image: Image) -> Alpha:
    """A little unsure of red, and in mirror images ``level`` times as sure."""
    return red(image) * np.float32(0.9 * (level if isinstance(image, MirroredImage) else 1))


@pytest.mark.slow
def test_the_mirror_image_is_asked_on_as_long_as_it_finds_other_things() -> None:
    """Of the seven anchors of 25 frames; else at the start and every 24 frames."""
    images, _ = zip(*moving_disc(25), strict=True)
    calls = {}
    for level in (0.5, 1):
        network = Drawn(partial(chiral, level))
        list(mask_images(images, network, TIERS[Quality.BALANCED]))
        calls[level] = sum(isinstance(image, MirroredImage) for image in network.asked)
    assert calls == {0.5: 7, 1: 2}


@pytest.mark.slow
def test_a_picture_that_stays_is_asked_about_every_24_frames() -> None:
    """Coding changes it by two levels. The mirror image is asked about too, at the start."""
    (image, truth), *_ = moving_disc(1)
    coded = ArrayImage(image.pixels + (np.arange(3) == 1).astype(np.uint8) * np.uint8(2))
    network = Drawn()
    masks = list(mask_images([image, coded] * 30 + [image], network, TIERS[Quality.BALANCED]))
    assert len(network.asked) <= 3
    assert min(overlap(mask, truth) for mask in masks) > 0.95
    np.testing.assert_array_equal(masks[0], masks[60])


@pytest.mark.slow
def test_a_network_that_blinks_does_not_make_the_mask_blink() -> None:
    images, truths = zip(*moving_disc(40), strict=True)
    network = Drawn(lambda image: red(image) * (len(network.asked) not in (5, 11, 12)))
    masks = list(mask_images(images, network, TIERS[Quality.BEST]))
    assert min(overlap(*pair) for pair in zip(masks, truths, strict=True)) > 0.75


def passing_disc() -> tuple[list[ArrayImage], list[np.ndarray]]:
    """A disc passes in six frames of 36, too fast for flow."""
    still = background(1)
    images, truths = [], []
    for frame in range(36):
        truth = disc(40 + 50 * (frame - 15), 90) & (15 <= frame <= 20)
        rgb = still.copy()
        rgb[:8, :8] = 7 * frame  # no frame repeats another
        rgb[truth] = (210, 40, 40)
        images.append(ArrayImage(rgb))
        truths.append(truth)
    return images, truths


@pytest.mark.slow
def test_anchors_are_added_where_the_masks_disagree_most() -> None:
    images, truths = passing_disc()
    masks = list(mask_images(images, Drawn(), TIERS[Quality.BALANCED]))
    assert min(overlap(masks[frame], truths[frame]) for frame in (16, 18, 20)) > 0.9


@pytest.mark.slow
def test_an_anchor_must_be_worth_more_the_more_there_are() -> None:
    images, _ = passing_disc()
    asked = {}
    for price in (0.1, 4.0, 1e6):
        network = Drawn()
        tier = replace(TIERS[Quality.BALANCED], anchor_price=price)
        list(mask_images(images, network, tier))
        asked[price] = len(network.asked)
    evenly = 1 + len(images) // TIERS[Quality.BALANCED].stride
    assert asked[1e6] == evenly
    assert evenly < asked[4.0] < asked[0.1] < len(images)


def test_the_memory_of_a_shot_goes_when_it_ends_without_the_garbage_collector() -> None:
    """The collector counts objects and not their bytes: it came after hundreds of megabytes."""
    stills = [small(ArrayImage(background(seed))) for seed in range(8)]
    images = [still for still in stills for _ in range(13)]
    gc.collect()
    gc.disable()
    gc.freeze()  # what is there before is not among the objects below: millions, in a long run
    try:
        most = 0
        for _ in mask_images(images, Drawn(), TIERS[Quality.BALANCED]):
            flows = sum(isinstance(each, FrameFlow) for each in gc.get_objects())
            most = max(most, flows)
    finally:
        gc.unfreeze()
        gc.enable()
    assert 13 < most < 60


@pytest.mark.slow
def test_nothing_of_one_shot_shows_in_the_next() -> None:
    first, second = background(1), background(2)
    first[disc(70, 90)] = second[disc(250, 90)] = (210, 40, 40)
    shots = [ArrayImage(first)] * 13 + [ArrayImage(second)] * 13
    masks = list(mask_images(shots, Drawn(), TIERS[Quality.BALANCED]))
    assert all(mask[:, mask.shape[1] // 2 :].max() < 0.01 for mask in masks[:13])
    assert all(mask[:, : mask.shape[1] // 2].max() < 0.01 for mask in masks[13:])
    assert overlap(masks[12], disc(70, 90)) > 0.9
    assert overlap(masks[13], disc(250, 90)) > 0.9


def test_an_empty_scene_has_an_empty_mask() -> None:
    masks = list(mask_images([ArrayImage(background(4))] * 9, Drawn()))
    assert max(mask.max() for mask in masks) == 0


@pytest.mark.slow
def test_a_long_shot_passes_through_windows_without_a_missing_frame() -> None:
    frames = int(2.5 * WINDOW_FRAMES)
    red = np.zeros((18, 32, 3), np.uint8)
    red[4:12, 8:20, 0] = 200
    read, flows = list[ArrayImage](), list[int]()

    def images() -> Iterator[ArrayImage]:
        while len(read) < frames:
            read.append(ArrayImage(red))
            yield read[-1]
        gc.collect()
        flows.append(sum(isinstance(each, FrameFlow) for each in gc.get_objects()))

    lags = [len(read) - shown for shown, _ in enumerate(mask_images(images(), Drawn()), 1)]
    assert len(lags) == frames
    assert max(lags) <= LAG_FRAMES
    assert flows[0] <= LAG_FRAMES


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (2, 2), (1920, 1080), (1080, 1920), (16, 4000)]
)
def test_a_grid_keeps_the_aspect_and_never_enlarges(width: int, height: int) -> None:
    columns, rows = grid_of(ArrayImage(np.zeros((height, width, 3), np.uint8)), 640 * 360)
    assert columns <= width
    assert rows <= height
    assert columns * rows <= 1.01 * 640 * 360
    assert columns / rows == pytest.approx(width / height, rel=0.1)


@pytest.mark.parametrize("side", [1, 2, 7, 15])
def test_tiny_pictures_pass(side: int) -> None:
    images = [ArrayImage(np.full((side, side, 3), (250, 0, 0), np.uint8))] * 10
    masks = list(mask_images(images, Drawn(), TIERS[Quality.FAST]))
    assert len(masks) == 10
    assert min(float(mask.min()) for mask in masks) > 0.95


def resting_disc(x: float) -> ArrayImage:
    rgb = background(1).copy()
    rgb[disc(x, 90)] = (200, 30, 40)
    return ArrayImage(rgb)


@pytest.mark.parametrize("quality", list(Quality))
def test_one_frame_is_a_clip_and_costs_one_inference_where_the_network_is_sure(
    quality: Quality,
) -> None:
    network = Drawn()
    (mask,) = mask_images([resting_disc(80)], network, TIERS[quality])
    assert overlap(mask, disc(80, 90)) > 0.9
    assert len(network.asked) == 1


@pytest.mark.slow
def test_it_is_told_up_to_which_frame_anchors_are_inferred_and_decided() -> None:
    """Block by block and window by window, or with the shot, which ends here after 10 frames."""
    first, second = ArrayImage(background(1)), ArrayImage(background(2))
    asked, decided = list[int](), list[int]()
    images = [first] * 10 + [second] * 200

    class Noting(Observer):
        def ask_to(self, frame: int) -> None:
            asked.append(frame)

        def decide_to(self, frame: int, find: Callable[[], list[PickedAnchor]]) -> None:
            decided.append(frame)

    list(mask_images(images, Drawn(), TIERS[Quality.FAST], observer=Noting()))
    assert asked == [10, *range(13, 210, 12), 210]
    assert decided == [10, 144, 210]


class Unsure(Drawn):
    """Sees red, in another way on each picture; the same for the same picture."""

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        rgb = image.rgb(128, 128).astype(np.float32)
        rng = np.random.default_rng(int(rgb.sum()))
        alpha = np.clip((rgb[..., 0] - rgb[..., 1]) / 100, 0, 1).astype(np.float32)
        x, y = rng.integers(0, 100, 2)
        alpha[y : y + 28, x : x + 28] *= np.float32(rng.random())
        features = cv2.resize(rgb, (64, 64)) * np.float32(1 / 255)
        return NetworkOutput(alpha, (features,))


def shorten(monkeypatch: pytest.MonkeyPatch, window_frames: int, context_frames: int) -> None:
    """Let windows and their contexts be shorter than in clips."""
    monkeypatch.setattr(ask, "WINDOW_FRAMES", window_frames)
    for stage in (ask, decide):
        monkeypatch.setattr(stage, "CONTEXT_FRAMES", context_frames)


def small(image: ArrayImage) -> ArrayImage:
    return ArrayImage(image.rgb(96, 54))


@pytest.mark.parametrize(
    ("quality", "cut_at"), [(Quality.FAST, 68), (Quality.BALANCED, None), (Quality.BEST, 31)]
)
@pytest.mark.slow
def test_a_clip_that_is_cut_has_the_masks_of_the_whole_one(
    monkeypatch: pytest.MonkeyPatch, quality: Quality, cut_at: int | None
) -> None:
    shorten(monkeypatch, 48, 24)
    shots = [small(image) for image, _ in moving_disc(80)]
    if cut_at is not None:
        shots[cut_at:] = [small(image) for image, _ in moving_disc(80, seed=5)][cut_at:]
    whole = list(mask_images(shots, Unsure(), TIERS[quality]))
    for first, end in ((0, 48), (48, 80)):
        assert_same_masks(shots, first, end, whole, quality)


def assert_same_masks(
    shots: Sequence[Image], first: int, end: int, whole: Sequence[Alpha], quality: Quality
) -> None:
    """Frames ``first`` to ``end``, masked with only their context, have the masks of the clip."""
    shown = shots[max(0, first - 27) : end + 27]
    own = {id(image) for image in shots[first:end]}
    masks = list(
        mask_images(shown, Unsure(), TIERS[quality], is_wanted=lambda image: id(image) in own)
    )
    for mask, same in zip(masks, whole[first:end], strict=True):
        np.testing.assert_array_equal(mask, same)


def coded_still(frames: int) -> list[ArrayImage]:
    """A disc that stands still; coding changes each picture by up to two levels."""
    (image, _), *_ = moving_disc(1)
    noise = np.random.default_rng(3)
    shape = image.pixels.shape
    changes = [noise.integers(0, 3, shape, np.uint8) for _ in range(frames)]
    return [small(ArrayImage(image.pixels + change)) for change in changes]


@pytest.mark.parametrize("quality", [Quality.FAST, Quality.BEST])
@pytest.mark.parametrize("stays_from", [0, 70])
@pytest.mark.slow
def test_a_picture_that_stays_has_the_same_masks_where_its_clip_is_cut(
    monkeypatch: pytest.MonkeyPatch, quality: Quality, stays_from: int
) -> None:
    """The network says something else of each picture, so it shows which one was asked about."""
    shorten(monkeypatch, 48, 24)
    shots = [small(image) for image, _ in moving_disc(stays_from)]
    shots += coded_still(150)[stays_from:]
    whole = list(mask_images(shots, Unsure(), TIERS[quality]))
    for first, end in ((48, 96), (96, 150)):
        assert_same_masks(shots, first, end, whole, quality)
