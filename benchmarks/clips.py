"""Folders in DAVIS layout: ``<name>/frames/*.jpg`` and ``<name>/masks/*.png``."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foremask.types import Alpha, Rgb

DATA = Path(os.environ.get("FOREMASK_DATA", "../shared/data"))


@dataclass(frozen=True, slots=True)
class Clip:
    """One sequence with its truth."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def frames(self) -> Iterator[Rgb]:
        """All frames in order."""
        for path in sorted(self.folder.glob("frames/*.jpg")):
            bgr = np.asarray(cv2.imread(str(path)), np.uint8)
            yield np.ascontiguousarray(bgr[..., ::-1])

    def truths(self) -> list[Alpha]:
        """All true masks in order."""
        paths = sorted(self.folder.glob("masks/*.png"))
        planes = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
        return [np.asarray(plane, np.float32) / np.float32(255) for plane in planes]


def clips_in(folder: Path) -> list[Clip]:
    """All sequences of a folder, by name; an error when there is none."""
    found = [Clip(path.parent) for path in sorted(folder.glob("*/frames"))]
    if not found:
        raise SystemExit(f"{folder} has no <name>/frames: set FOREMASK_DATA or --data")
    return found
