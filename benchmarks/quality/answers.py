"""Keeps what the network says of the labelled clips, so that fits and scores replay whole clips.

``python -m benchmarks.quality.answers`` asks whatever `benchmarks.quality.folds` will ask, and
keeps it below ``benchmarks/results/answers``: each mask in 16 bits, and the encoder features of
each whole picture in half floats (14 MB an anchor, about 12 GB together). A second run asks nothing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foremask.types import Image
from foremask.vision.image import ArrayImage, Cropped, MirroredImage
from foremask.vision.network.session import InputSize, NetworkOutput, Session

KEPT = Path(__file__).parents[1] / "results/answers"
MOST_LEVEL = 65535


@dataclass(frozen=True, slots=True)
class Named(ArrayImage):
    """A picture with a name, under which the network's answers to it are kept."""

    name: str = ""


class Recorded:
    """A network that asks ``session`` once about each view of a `Named` picture, and keeps the answer.

    Answers are read from ``folder`` from then on. ``asked`` counts inferences as the product would
    make them, kept or not; one at half the columns and rows counts as a quarter.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self.runtime = session.runtime
        self.any_size = session.any_size
        self.asked = 0.0
        self.new = 0
        folder.mkdir(parents=True, exist_ok=True)

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        own_px = self._session.spec.size_px
        columns, rows = size or (own_px, own_px)
        self.asked += columns * rows / own_px**2
        path = self._path(image, size)
        if not path.exists():
            output = self._session.infer(image, size)
            _write(path, output, with_features=isinstance(image, Named))
            self.new += 1
        return _read(path)

    def _path(self, image: Image, size: InputSize | None) -> Path:
        if isinstance(image, Named):
            return self._folder / f"{image.name}.npz"
        if isinstance(image, MirroredImage):
            return self._folder / f"{_name_of(image.image)} mirrored.npz"
        if isinstance(image, Cropped):
            box = hashlib.sha256(repr((image.box, size)).encode()).hexdigest()[:12]
            return self._folder / f"{_name_of(image.image)} crop {box}.npz"
        raise TypeError(f"{type(image).__name__} is no view of a named picture")


def _name_of(image: Image) -> str:
    if isinstance(image, Named):
        return image.name
    raise TypeError(f"{type(image).__name__} has no name")


def _write(path: Path, output: NetworkOutput, *, with_features: bool) -> None:
    levels = np.rint(output.alpha * np.float32(MOST_LEVEL)).astype(np.uint16)
    png = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    planes = {f"feature{k}": each.astype(np.float16) for k, each in enumerate(output.features)}
    part = path.with_suffix(".part.npz")
    np.savez(part, alpha=png, **(planes if with_features else {}))  # type: ignore[arg-type]
    part.replace(path)


def _read(path: Path) -> NetworkOutput:
    with np.load(path) as kept:
        levels = cv2.imdecode(kept["alpha"], cv2.IMREAD_UNCHANGED)
        features = tuple(kept[name].astype(np.float32) for name in kept.files if name != "alpha")
    return NetworkOutput(levels.astype(np.float32) / np.float32(MOST_LEVEL), features)


def named(frames: Iterator[np.ndarray], prefix: str = "") -> list[Named]:
    return [Named(frame, f"{prefix}{number:05d}") for number, frame in enumerate(frames)]
