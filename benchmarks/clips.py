"""Reads clips and masks from videos and from folders of pictures.

A folder in DAVIS layout has ``frames/*.jpg`` and may have true masks, ``masks/*.png``. The true
masks of clip.mp4 are in clip.alpha.webm.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from foremask.types import Alpha, Levels, Rgb

DATA = Path(os.environ.get("FOREMASK_DATA", "../shared/data"))
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".gif", ".m4v", ".ts")
TRUTH = ".alpha.webm"
MOST_FRAMES = 300  # of a video, since all are held in memory


def frames_of(path: Path) -> Iterator[Rgb]:
    if path.is_dir():
        for image in _images(path, "frames"):
            yield np.asarray(cv2.imread(str(image), cv2.IMREAD_COLOR_RGB), np.uint8)
    else:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def masks_of(path: Path) -> Iterator[Levels]:
    """Yield a clip's masks; a frame of a video gives its green plane."""
    if path.is_dir():
        for image in _images(path, "masks"):
            yield np.asarray(cv2.imread(str(image), cv2.IMREAD_GRAYSCALE), np.uint8)
    else:
        for rgb in frames_of(path):
            yield np.ascontiguousarray(rgb[..., 1])


def _images(folder: Path, kind: str) -> list[Path]:
    inside = folder / kind if (folder / kind).is_dir() else folder
    return sorted(each for each in inside.iterdir() if each.suffix in (".jpg", ".png", ".webp"))


@dataclass(frozen=True, slots=True)
class Clip:
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    def frames(self) -> Iterator[Rgb]:
        """Yield all frames of a folder, or the first `MOST_FRAMES` of a video."""
        found = frames_of(self.path)
        return found if self.path.is_dir() else islice(found, MOST_FRAMES)

    def truths(self) -> list[Alpha]:
        """Return the true masks, or an empty list where they are not known."""
        path = self.path if self.path.is_dir() else self.path.with_suffix(TRUTH)
        if not (path / "masks").is_dir() and not path.is_file():
            return []
        return [np.asarray(levels, np.float32) / np.float32(255) for levels in masks_of(path)]


def clips_in(folder: Path) -> list[Clip]:
    found = [Clip(path.parent) for path in folder.glob("*/frames")]
    videos = (each for each in folder.glob("*.*") if each.suffix in VIDEOS)
    found += [Clip(path) for path in videos if not path.name.endswith(TRUTH)]
    if not found:
        raise SystemExit(f"{folder} has no <name>/frames and no video: set FOREMASK_DATA or --data")
    return sorted(found, key=lambda clip: clip.name)
