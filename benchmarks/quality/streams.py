"""Reads frames and masks for the measures: from a video, from a .npy array, or from a folder of pictures."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Levels, Rgb

DEFAULT_FPS = 24.0  # of arrays and folders, which have no frame rate: that of DAVIS
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif", ".m4v", ".ts")


class UnreadableMask(ValueError):
    """An array that is no mask: its shape or its range says so."""


def frames_of(path: Path) -> Iterator[Rgb]:
    """The frames of a clip in order, in the coded orientation.

    ``path`` is a video, a (T, H, W, 3) uint8 array in a .npy file, or a folder in DAVIS layout
    (``frames/*.jpg``) or of pictures alone.
    """
    if path.suffix == ".npy":
        yield from np.load(path, mmap_mode="r")
    elif path.is_dir():
        for image in _images(path, "frames"):
            bgr = np.asarray(cv2.imread(str(image)), np.uint8)
            yield np.ascontiguousarray(bgr[..., ::-1])
    else:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def masks_of(path: Path) -> Iterator[Levels]:
    """The masks of a clip in order.

    ``path`` is a video, a .npy file (see `levels_in`), or a folder in DAVIS layout
    (``masks/*.png``) or of pictures alone.
    """
    if path.suffix == ".npy":
        yield from levels_in(np.load(path, mmap_mode="r"))
    elif path.is_dir():
        for image in _images(path, "masks"):
            yield np.asarray(cv2.imread(str(image), cv2.IMREAD_GRAYSCALE), np.uint8)
    else:
        for rgb in frames_of(path):
            yield np.ascontiguousarray(rgb[..., 1])


def levels_in(array: NDArray[np.generic]) -> Iterator[Levels]:
    """The masks of a (T, H, W) array of bool, of uint8 in 0..255, or of float in 0..1.

    Raises UnreadableMask for another shape, type or range.
    """
    if array.ndim != 3:
        raise UnreadableMask(f"a mask has the shape (T, H, W), and this one {array.shape}")
    if array.dtype.kind not in "bf" and array.dtype != np.uint8:
        raise UnreadableMask(f"a mask is bool, uint8 or float, and this one {array.dtype}")
    for number, plane in enumerate(array):
        if plane.dtype == np.uint8:
            yield np.asarray(plane)
            continue
        alpha = np.asarray(plane, np.float32)
        low, high = float(alpha.min()), float(alpha.max())
        if not (low >= -0.01 and high <= 1.01):
            raise UnreadableMask(
                f"mask {number} has values from {low:.3g} to {high:.3g}: not 0 to 1"
            )
        yield np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)


def frames_per_second(path: Path) -> float:
    """The average frame rate of a video; 24 for what has none."""
    if path.is_dir() or path.suffix == ".npy":
        return DEFAULT_FPS
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    return float(rate) if rate else DEFAULT_FPS


def every_nth(frames: Iterator[Rgb], step: int) -> Iterator[Rgb]:
    """Frames 0, step, 2 x step and so on."""
    return islice(frames, 0, None, step)


def _images(folder: Path, kind: str) -> list[Path]:
    inside = folder / kind if (folder / kind).is_dir() else folder
    return sorted(each for each in inside.iterdir() if each.suffix in (".jpg", ".png", ".webp"))
