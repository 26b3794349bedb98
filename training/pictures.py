"""Labelled pictures in zip archives: for each a JPEG and a map of its things."""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

LONG_SIDE_PX = 640
SOURCES_THAT_JUDGE = {"pedestrians"}
UNKNOWN = 255
"""The value of pixels whose label nobody knows; 0 is the background, 1 to 254 are things."""
VOC_OUTLINE = (192, 224, 224)  # BGR

Bgr = NDArray[np.uint8]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledPicture:
    name: str
    bgr: Bgr
    labels: Labels


def reduced(picture: LabelledPicture) -> LabelledPicture | None:
    """The picture with its long side at most LONG_SIDE_PX; None where it shows no thing."""
    height, width = picture.labels.shape
    scale = LONG_SIDE_PX / max(height, width)
    bgr = picture.bgr
    labels = picture.labels.astype(np.uint8)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
        nearest = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        labels = np.asarray(nearest, np.uint8)
    if not ((labels > 0) & (labels < UNKNOWN)).any():
        return None
    return LabelledPicture(picture.name, bgr, labels)


def write(path: Path, pictures: Iterable[LabelledPicture]) -> int:
    """Write an archive and return the number of pictures in it."""
    count = 0
    with zipfile.ZipFile(path, "w") as archive:
        for picture in pictures:
            small = reduced(picture)
            if small is None:
                continue
            jpeg = cv2.imencode(".jpg", small.bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
            labels = cv2.imencode(".png", small.labels)[1]
            archive.writestr(f"{small.name}.jpg", jpeg.tobytes())
            archive.writestr(f"{small.name}.png", labels.tobytes())
            count += 1
    return count


def is_held_out(source: str, name: str) -> bool:
    """Whether a picture is never trained on: one of 25 by its name, or all of a source."""
    if source in SOURCES_THAT_JUDGE:
        return True
    digest = hashlib.sha256(name.encode()).digest()
    return digest[0] * 256 + digest[1] < 65536 // 25


class Archive:
    """The pictures of one archive, those held out or those trained on."""

    def __init__(self, path: Path, *, held_out: bool) -> None:
        self.source = path.stem
        self.archive = zipfile.ZipFile(path)
        stems = (Path(name).stem for name in self.archive.namelist() if name.endswith(".jpg"))
        self.names = sorted(name for name in stems if is_held_out(self.source, name) == held_out)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[LabelledPicture]:
        return (self.picture(index) for index in range(len(self.names)))

    def picture(self, index: int) -> LabelledPicture:
        name = self.names[index]
        bgr = decoded(self.archive.read(f"{name}.jpg"), cv2.IMREAD_COLOR)
        labels = decoded(self.archive.read(f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        return LabelledPicture(name, bgr, labels)


def decoded(data: bytes, flags: int) -> NDArray[np.uint8]:
    """The pixels of an encoded picture; raises ValueError for bytes that are none."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError(f"{len(data)} bytes are no picture")
    return np.asarray(pixels, np.uint8)


def voc_classes(mask: NDArray[np.uint8]) -> Labels:
    """The numbers of VOC's classes, 1 to 20, from its colours; the outlines of things are UNKNOWN.

    The highest bits of red, green and blue are bits 0 to 2 of a number, the next ones bits 3 to 5.
    """
    if mask.ndim == 2:
        return mask
    classes = np.zeros(mask.shape[:2], np.uint8)
    for channel, first_bit in ((2, 0), (1, 1), (0, 2)):
        plane = mask[..., channel]
        classes |= (plane >> 7 & 1) << first_bit | (plane >> 6 & 1) << first_bit + 3
    classes[(mask[..., :3] == VOC_OUTLINE).all(-1)] = UNKNOWN
    return classes


def network_input(bgr: Bgr, side: int) -> NDArray[np.float32]:
    """(3, side, side), RGB in -0.5 to 0.5: the picture stretched to a square."""
    method = cv2.INTER_AREA if min(bgr.shape[:2]) > side else cv2.INTER_LINEAR
    rgb = cv2.cvtColor(cv2.resize(bgr, (side, side), interpolation=method), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray((rgb.astype(np.float32) / 255 - 0.5).transpose(2, 0, 1))
