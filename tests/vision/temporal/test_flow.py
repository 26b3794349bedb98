"""Flow, warping and camera motion on patterns that move by known amounts."""

import cv2
import numpy as np

from foremask.vision.temporal import flow as motion
from tests.vision.temporal.test_windows import background


def constant_flow(x: float, y: float) -> np.ndarray:
    flow = np.empty((96, 160, 2), np.float32)
    flow[...] = (x, y)
    return flow


def test_flow_points_to_where_a_pixel_is_in_the_other_picture() -> None:
    here = background(1, 160, 96)[..., 0]
    there = np.roll(here, (2, 3), axis=(0, 1))
    flow = motion.FlowEstimator()(here, there)
    np.testing.assert_allclose(np.median(flow[20:-20, 20:-20], axis=(0, 1)), [3, 2], atol=0.1)


def test_labels_keep_their_numbers_and_nothing_comes_from_outside() -> None:
    """Labels are names, not levels: none may appear between two of them."""
    labels = np.full((96, 160), 7, np.int32)
    moved = motion.warp_labels(labels, constant_flow(9.5, 0))
    assert set(np.unique(moved)) == {0, 7}
    assert (moved[:, -9:] == 0).all()


def test_texture_that_is_half_a_pixel_off_is_the_same_thing_and_another_colour_is_not() -> None:
    """Grey lace, moved without flow; then a red place where green of the same luma was."""
    still = constant_flow(0, 0)
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
    moved = motion.residual(flow)
    assert moved.shape == (45, 80)
    assert moved[17:23, 32:43].min() > 1.5
    assert np.median(moved) < 0.1
