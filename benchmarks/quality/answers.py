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
from foremask.vision.network.network_protocol import InputSize, NetworkOutput
from foremask.vision.network.session import Session
from foremask.weights.catalogue import ISNET

KEPT = Path(__file__).parents[1] / "results/answers"
MOST_LEVEL = 65535
OWN_PX = ISNET.spec.size_px


@dataclass(frozen=True, slots=True)
class Named(ArrayImage):
    """A picture with a name, under which the network's answers to it are kept."""

    name: str = ""


class Recorded:
    """A network that asks ``session`` once about each view of a picture.

    Answers are kept in ``folder`` and read from there later, or in memory if it is None. ``asked`` counts
    inferences as the product would make them, kept or not; one at half the columns and rows counts as a quarter.
    """

    runtime = "recorded"
    any_size = True

    def __init__(self, session: Callable[[], Session], folder: Path | None = None) -> None:
        self._session = session
        self._answers: dict[str, NetworkOutput] | _Folder = {}
        if folder is not None:
            self._answers = _Folder(folder)
        self.asked = 0.0

    def knows(self, image: Image) -> bool:
        """Whether the answer to the whole picture is kept."""
        return _question(image, None) in self._answers

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        columns, rows = size or (OWN_PX, OWN_PX)
        self.asked += columns * rows / OWN_PX**2
        question = _question(image, size)
        if question not in self._answers:
            output = self._session().infer(image, size)
            is_whole = isinstance(image, Named) and size is None
            features = tuple(each.copy() for each in output.features) if is_whole else ()
            self._answers[question] = NetworkOutput(output.alpha, features)
        return self._answers[question]


def _question(image: Image, size: InputSize | None) -> str:
    if isinstance(image, Cropped):
        box = hashlib.sha256(repr((image.box, size)).encode()).hexdigest()[:12]
        return f"{_name_of(image.image)} crop {box}"
    at_size = "" if size is None else f" {size[0]}x{size[1]}"
    if isinstance(image, MirroredImage):
        return f"{_name_of(image.image)} mirrored{at_size}"
    return _name_of(image) + at_size


def _name_of(image: Image) -> str:
    if isinstance(image, Named):
        return image.name
    return hashlib.sha256(image.rgb(64, 64).tobytes()).hexdigest()  # an anchor's reduced picture


class _Folder:
    """Answers by question, each in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def __contains__(self, question: str) -> bool:
        return self._file(question).exists()

    def __getitem__(self, question: str) -> NetworkOutput:
        return _read(self._file(question))

    def __setitem__(self, question: str, output: NetworkOutput) -> None:
        _write(self._file(question), output)

    def _file(self, question: str) -> Path:
        return self._path / f"{question}.npz"


def _write(path: Path, output: NetworkOutput) -> None:
    levels = np.rint(output.alpha * np.float32(MOST_LEVEL)).astype(np.uint16)
    png = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    planes = {f"feature{k}": each.astype(np.float16) for k, each in enumerate(output.features)}
    part = path.with_suffix(".part.npz")
    np.savez(part, alpha=png, **planes)  # type: ignore[arg-type]
    part.replace(path)


def _read(path: Path) -> NetworkOutput:
    with np.load(path) as kept:
        levels = np.asarray(cv2.imdecode(kept["alpha"], cv2.IMREAD_UNCHANGED), np.float32)
        features = tuple(kept[name].astype(np.float32) for name in kept.files if name != "alpha")
    return NetworkOutput(levels / np.float32(MOST_LEVEL), features)


def named(frames: Iterator[np.ndarray], prefix: str = "") -> list[Named]:
    return [Named(frame, f"{prefix}{number:05d}") for number, frame in enumerate(frames)]
