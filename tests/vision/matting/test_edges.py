import cv2
import numpy as np
import pytest

from foremask.vision.matting.edges import refine
from foremask.vision.resample import resized


def disc(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - width / 2, y - height / 2)
    return np.asarray(np.clip(radius - distance + 0.5, 0, 1), np.float32)


def test_flat_areas_are_exactly_black_and_white_whatever_the_texture() -> None:
    luma = np.random.default_rng(3).integers(0, 256, (720, 1280)).astype(np.uint8)
    alpha = np.zeros((180, 320), np.float32)
    alpha[:, 160:] = 0.97
    levels = refine(alpha, luma)
    assert (levels[:, :600] == 0).all()
    assert (levels[:, 680:] == 255).all()


def test_an_edge_of_the_picture_sharpens_the_mask() -> None:
    truth = disc(720, 1280, 200.3)
    luma = np.rint(40 + 170 * truth).astype(np.uint8)
    alpha = resized(truth, 320, 180)
    plain = cv2.resize(alpha, (1280, 720), interpolation=cv2.INTER_LINEAR)
    sharpened = refine(alpha, luma) / 255
    assert np.abs(sharpened - truth).mean() < 0.67 * np.abs(plain - truth).mean()


def test_soft_parts_stay_soft() -> None:
    alpha = np.tile(np.linspace(0, 1, 160, dtype=np.float32), (90, 1))
    levels = refine(alpha, np.full((360, 640), 128, np.uint8))
    assert levels[180, 320] == pytest.approx(128, abs=2)
    assert (np.diff(levels[180].astype(int)) >= 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (15, 15), (479, 853), (360, 640)])
def test_any_size_comes_back_in_its_own_size(height: int, width: int) -> None:
    rows, columns = min(height, 180), min(width, 320)
    levels = refine(np.ones((rows, columns), np.float32), np.zeros((height, width), np.uint8))
    assert levels.shape == (height, width)
    assert (levels == 255).all()


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (719, 1279), (2161, 3841)])
def test_strips_leave_no_seam(height: int, width: int) -> None:
    alpha = np.add.outer(np.linspace(0.1, 0.5, 180), np.linspace(0, 0.4, 320)).astype(np.float32)
    levels = refine(alpha, np.full((height, width), 90, np.uint8)).astype(int)
    assert np.abs(np.diff(levels, axis=0)).max() <= 1
    assert np.abs(np.diff(levels, axis=1)).max() <= 1
