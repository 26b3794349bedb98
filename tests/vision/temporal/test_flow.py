from dataclasses import replace

import cv2
import numpy as np
import pytest

from foremask.types import Flow, Levels, Luma, Rgb
from foremask.vision.temporal import flow as motion
from foremask.vision.temporal.places import gaps_of, has_holes
from foremask.vision.temporal.propagation import FrameFlow, flow_between, propagate
from foremask.vision.temporal.reach import reach
from tests.pipeline.stages.test_network_masks import background

HEIGHT, WIDTH = 24, 40


def constant_flow(x: float, rows: int = 96, columns: int = 160) -> Flow:
    return np.full((rows, columns, 2), (x, 0), np.float32)


def test_flow_points_to_where_a_pixel_is_in_the_other_picture() -> None:
    here = background(1, 160, 96)[..., 0]
    there = np.roll(here, (2, 3), axis=(0, 1))
    flow = motion.FlowEstimator()(here, there)
    np.testing.assert_allclose(np.median(flow[20:-20, 20:-20], axis=(0, 1)), [3, 2], atol=0.1)


def test_a_plain_disc_is_followed_over_one_and_a_half_times_its_width() -> None:
    def picture(x: int) -> Luma:
        ground = np.full((216, 384), 90, np.uint8)
        return np.asarray(cv2.circle(ground, (x, 100), 14, 230, cv2.FILLED, cv2.LINE_AA), np.uint8)

    flow = motion.FlowEstimator()(picture(150), picture(150 + 42))
    disc = picture(150) > 90
    np.testing.assert_allclose(np.median(flow[disc], axis=0), [42, 0], atol=0.5)


def test_labels_keep_their_numbers_and_nothing_comes_from_outside() -> None:
    """Labels are names, not levels: none may appear between two of them."""
    labels = np.full((96, 160), 7, np.int32)
    moved = motion.warp_labels(labels, constant_flow(9.5))
    assert set(np.unique(moved)) == {0, 7}
    assert (moved[:, -9:] == 0).all()


def test_texture_that_is_half_a_pixel_off_is_the_same_thing_and_another_colour_is_not() -> None:
    """Grey lace, moved without flow; then a red place where green of the same luma was."""
    still = constant_flow(0)
    noise = np.random.default_rng(3).integers(100, 156, (96, 160)).astype(np.uint8)
    here = np.repeat(noise[..., None], 3, axis=2)
    there = np.asarray(cv2.GaussianBlur(here, (3, 1), 0), np.uint8)
    trusted = motion.trust(here[..., 0], there[..., 0], still)
    assert np.median(trusted) < 0.3
    held = motion.continuity(motion.chroma(here), motion.chroma(there), still, trusted)
    assert np.median(held) > 0.6
    red, green = (np.full((96, 160, 3), rgb, np.uint8) for rgb in ((200, 40, 40), (20, 136, 20)))
    luma = np.full((96, 160), 88, np.uint8)  # of both
    trusted = motion.trust(luma, luma, still)
    assert trusted.min() > 0.7
    held = motion.continuity(motion.chroma(red), motion.chroma(green), still, trusted)
    assert held.max() < 0.01


def test_what_the_camera_does_is_no_motion_and_what_a_thing_does_is() -> None:
    width, height = 160, 90
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    flow = np.stack([2 + 1.5 * x, 1 + 1.5 * y], axis=-1).astype(np.float32)
    flow[30:50, 60:90] += (4, -3)
    moved = motion.residual(flow, np.zeros((height, width), np.float32))
    assert moved.shape == (45, 80)
    assert moved[17:23, 32:43].min() > 1.5
    assert np.median(moved) < 0.1


def test_a_subject_that_fills_the_picture_moves_and_the_camera_does_not_follow_it() -> None:
    width, height = 160, 90
    flow = np.full((height, width, 2), (2, 0), np.float32)
    subject = np.zeros((height, width), np.float32)
    subject[10:, 20:140] = 1  # two thirds of the picture
    flow[subject > 0] = (7, 3)
    moved = cv2.resize(motion.residual(flow, subject), (width, height))
    assert np.median(moved[subject > 0]) > 1 > 10 * np.median(moved[subject == 0])


def stripe(left: int) -> Levels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, left : left + 10] = 255
    return mask


def shot(frames: int, step: float = 0.0) -> dict[int, FrameFlow]:
    """Frames of one grey, whose content moves right by ``step`` pixels a frame."""
    grey: Rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    there, reverse = (constant_flow(x, HEIGHT, WIDTH).astype(np.float16) for x in (step, -step))
    later = {number: FrameFlow(grey, reverse, there) for number in range(1, frames)}
    return {0: FrameFlow(grey, None, None)} | later


def test_a_mask_moves_with_its_subject() -> None:
    steps = shot(5, step=2.0)
    masks = {0: stripe(8), 4: stripe(8 + 2 * 4)}
    found = propagate(0, steps, masks, per_side=1)
    assert len(found) == 4
    for number, alpha in enumerate(found):
        np.testing.assert_allclose(alpha, stripe(8 + 2 * number) / 255, atol=0.01)


@pytest.mark.parametrize("seed", range(6))
def test_foreground_comes_only_from_within_its_reach(seed: int) -> None:
    """Blobs anywhere, the border too, along a rough flow: what is left out would be background."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        blobs = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH)), (9, 9), 0)
        masks.append(np.where(blobs > np.quantile(blobs, 0.97), 255, 60).astype(np.uint8))
    rough = rng.normal(0, 3, (HEIGHT // 4, WIDTH // 4, 2)).astype(np.float32)
    flow = np.asarray(cv2.resize(rough, (WIDTH // 2, HEIGHT // 2)), np.float32)
    moved = motion.warp(masks[1], motion.resize_flow(flow, WIDTH, HEIGHT))
    part = reach([(masks[0], None), (masks[1], flow)], beyond_px=0)
    assert part is not None
    found = np.maximum(masks[0], moved) > 127
    assert found[part].sum() == found.sum() > 0


def test_what_is_near_a_small_subject_gets_the_masks_of_the_whole_picture() -> None:
    steps = shot(9, step=2.0)
    masks = {0: stripe(8), 4: stripe(16), 8: stripe(24)}
    plain = propagate(4, steps, masks, per_side=2)
    near = propagate(4, steps, masks, per_side=2, outline_px=3)
    for whole, part in zip(plain, near, strict=True):
        beside = cv2.dilate((whole > 0.5).astype(np.uint8), np.ones((7, 7))) > 0
        np.testing.assert_array_equal(part[beside], whole[beside])
        assert not part[:, -8:].any()


def test_a_hole_that_the_flow_tears_is_filled_and_one_of_the_anchor_moves() -> None:
    steps = shot(3)
    back = np.zeros((HEIGHT, WIDTH, 2), np.float16)
    back[10, 20] = -20, 0  # to the ground beside the subject
    steps[1] = replace(steps[1], to_previous=back)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:22, 2:38] = 255
    mask[10, 0:4] = 0
    mask[6, 30] = 0
    found = propagate(0, steps, {0: mask}, per_side=1)[1] > 0.5
    np.testing.assert_array_equal(found, mask > 0)


@pytest.mark.parametrize("seed", range(6))
def test_a_place_has_holes_if_one_of_its_gaps_is_a_hole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = {True: 0, False: 0}
    for _ in range(100):
        blurred = cv2.GaussianBlur(rng.random(rng.integers(3, 24, 2)), (3, 3), 0)
        place = blurred > np.quantile(blurred, rng.uniform(0.2, 0.8))
        expected = bool(gaps_of(place)[2].any())
        assert has_holes(place) == expected
        counts[expected] += 1
    assert min(counts.values()) > 5


def test_an_anchor_of_another_colour_counts_for_nothing() -> None:
    white, black = np.full((HEIGHT, WIDTH), 255, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    steps = shot(3)
    other = np.full((HEIGHT, WIDTH, 3), (0, 153, 0), np.uint8)
    for number in (1, 2):
        steps[number] = replace(steps[number], small=other)
    found = propagate(0, steps, {0: white, 2: black}, per_side=1)
    assert found[1][HEIGHT // 2, WIDTH // 2] < 0.01


def test_flow_between_two_frames_is_composed_of_all_steps() -> None:
    """Three steps of two pixels are six, and as many back; over a cut there is none."""
    steps = shot(4, step=2.0)
    assert flow_between(steps, 0, 3)[12, 10].tolist() == [6, 0]
    assert flow_between(steps, 3, 0)[12, 20].tolist() == [-6, 0]
    steps[2] = FrameFlow(steps[2].small, None, None)
    assert not flow_between(steps, 0, 3).any()
