"""Keeps what the network says of the labelled clips, so that fits and scores replay whole clips.

They are kept below ``benchmarks/results/answers``: each mask in 16 bits, and the encoder features of
each whole picture in half floats (14 MB an anchor, about 14 GB together).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foremask.types import Image
from foremask.vision.image import ArrayImage, Cropped, MirroredImage
from foremask.vision.network.session import InputSize, NetworkOutput, Session
from foremask.weights.catalogue import ISNET

KEPT = Path(__file__).parents[1] / "results/answers"
MOST_LEVEL = 65535
OWN_PX = ISNET.spec.size_px


@dataclass(frozen=True, slots=True)
class Named(ArrayImage):
    """A picture with a name, under which the network's answers to it are kept."""

    name: str = ""


class Recorded:
    """A network that asks ``session`` once about each view of a `Named` picture.

    Answers are kept in ``folder`` and read from there later. ``asked`` counts inferences as the product would
    make them, kept or not; one at half the columns and rows counts as a quarter.
    """

    runtime = "recorded"
    any_size = True

    def __init__(self, session: Callable[[], Session], folder: Path) -> None:
        self._session = session
        self._folder = folder
        self.asked = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def knows(self, image: Image) -> bool:
        """Whether the answer to the whole picture is kept."""
        return self._path(image, None).exists()

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        columns, rows = size or (OWN_PX, OWN_PX)
        self.asked += columns * rows / OWN_PX**2
        path = self._path(image, size)
        if not path.exists():
            output = self._session().infer(image, size)
            _write(path, output, with_features=isinstance(image, Named))
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
        levels = np.asarray(cv2.imdecode(kept["alpha"], cv2.IMREAD_UNCHANGED), np.float32)
        features = tuple(kept[name].astype(np.float32) for name in kept.files if name != "alpha")
    return NetworkOutput(levels / np.float32(MOST_LEVEL), features)


def named(frames: Iterator[np.ndarray], prefix: str = "") -> list[Named]:
    return [Named(frame, f"{prefix}{number:05d}") for number, frame in enumerate(frames)]
