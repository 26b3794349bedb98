"""Read the snapshots of the sources into archives of labelled pictures.

    python -m training.import_pictures SNAPSHOTS ARCHIVES

SNAPSHOTS holds a clone of each repository of sources.txt, as OWNER+NAME (bare, or with a work tree,
or as OWNER+NAME/repo). What is not in the history of git is not read.
"""

import io
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from numpy.typing import NDArray

from training import pictures
from training.pictures import UNKNOWN, LabelledPicture, Labels, decoded, voc_classes

VOC_PICTURES = (
    "ivanvoid+TinyPascalSegmantation",
    "zpf1452233+mAP",
    "mateusrafael4+Atividade_programacao_pose_estimation",
)
VOC_MASKS = "zzq96+Nested-unet"
VOC_MASKS_COMMIT = "57e85f684455450631906bae1dd6016c58edac04"  # a later commit deletes them
COCO = (
    "developer0hye+COCO128",
    "Obmutescence+COCO-MINI",
    "zzowenzz+COCO_Tiny",
    "enginbozaba+tiny_coco",
    "lizhogn+tiny_coco_dataset",
)
COCO_AS_POLYGONS = "lightly-ai+coco128_yolo"
LEAST_PART = 0.002
"""Connected parts below this share of the picture become unknown."""
MOST_THINGS = 200


class Snapshot:
    """The files of one commit of a clone, read through one `git cat-file --batch`."""

    def __init__(self, clone: Path, commit: str = "HEAD") -> None:
        candidates = (clone / "repo" / ".git", clone / "repo", clone / ".git", clone)
        folder = next(path for path in candidates if (path / "objects").is_dir())
        git = ["git", f"--git-dir={folder}"]
        listing = subprocess.run(  # noqa: S603
            [*git, "ls-tree", "-r", "-z", commit], capture_output=True, check=True
        ).stdout
        self.objects: dict[str, str] = {}
        for line in listing.split(b"\0"):
            if line:
                facts, path = line.split(b"\t", 1)
                self.objects[path.decode("utf8", "replace")] = facts.split()[2].decode()
        self.reader = subprocess.Popen(  # noqa: S603
            [*git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.objects))

    def __contains__(self, path: str) -> bool:
        return path in self.objects

    def read(self, path: str) -> bytes:
        """A file's bytes; raises FileNotFoundError where the clone lacks the object."""
        assert self.reader.stdin is not None
        assert self.reader.stdout is not None
        self.reader.stdin.write(f"{self.objects[path]}\n".encode())
        self.reader.stdin.flush()
        head = self.reader.stdout.readline().split()
        if len(head) < 3:
            raise FileNotFoundError(path)
        data = self.reader.stdout.read(int(head[2]))
        self.reader.stdout.read(1)
        return data


def connected_parts(classes: NDArray[np.uint8], least: float = LEAST_PART) -> Labels:
    """A label for each connected part of each class."""
    labels = np.zeros(classes.shape, np.uint8)
    labels[classes == UNKNOWN] = UNKNOWN
    count = 0
    for each in np.unique(classes):
        if each in {0, UNKNOWN}:
            continue
        mask = (classes == each).astype(np.uint8)
        parts, of_pixel, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for part in range(1, parts):
            inside = of_pixel == part
            if facts[part, cv2.CC_STAT_AREA] < least * classes.size or count == MOST_THINGS:
                labels[inside] = UNKNOWN
            else:
                count += 1
                labels[inside] = count
    return labels


def voc(snapshots: Path) -> Iterator[LabelledPicture]:
    """Pictures of VOC 2012 whose things are the connected parts of VOC's and SBD's classes."""
    for picture in voc_pictures(snapshots):
        yield replace(picture, labels=connected_parts(picture.labels))


def voc_pictures(snapshots: Path) -> Iterator[LabelledPicture]:
    """Pictures of VOC 2012 with the numbers of VOC's classes as labels."""
    masks = Snapshot(snapshots / VOC_MASKS, VOC_MASKS_COMMIT)
    seen = set()
    for name in VOC_PICTURES:
        snapshot = Snapshot(snapshots / name)
        for path in snapshot:
            stem = Path(path).stem
            mask_path = f"SegmentationClassAug/{stem}.png"
            if not path.lower().endswith((".jpg", ".jpeg")):
                continue
            if mask_path not in masks or stem in seen:
                continue
            seen.add(stem)
            try:
                bgr = decoded(snapshot.read(path), cv2.IMREAD_COLOR)
                classes = voc_classes(decoded(masks.read(mask_path), cv2.IMREAD_UNCHANGED))
            except (FileNotFoundError, ValueError):
                continue
            height, width = classes.shape
            stretch = bgr.shape[1] / bgr.shape[0] * height / width
            if abs(stretch - 1) > 0.02:
                continue  # another picture of that name
            bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)
            yield LabelledPicture(stem, bgr, classes)


def coco_labels(annotations: list[dict], height: int, width: int) -> Labels:
    """A label for each annotated thing, smaller ones over larger ones; crowds are unknown."""
    labels = np.zeros((height, width), np.uint8)
    count = 0
    for each in sorted(annotations, key=lambda a: -a.get("area", 0)):
        mask = np.zeros((height, width), np.uint8)
        shape = each.get("segmentation")
        if isinstance(shape, list) and shape:
            polygons = [np.round(np.reshape(p, (-1, 2))).astype(np.int32) for p in shape]
            cv2.fillPoly(mask, polygons, 1)
        elif isinstance(shape, dict) and isinstance(shape["counts"], list):
            runs = np.asarray(shape["counts"])
            values = np.arange(len(runs)) % 2
            mask = np.repeat(values, runs).reshape(width, height).T.astype(np.uint8)
        else:
            continue
        large = mask.sum() >= LEAST_PART / 2 * mask.size
        if large and not each.get("iscrowd") and count < MOST_THINGS:
            count += 1
            labels[mask > 0] = count
        else:
            labels[mask > 0] = UNKNOWN
    return labels


def coco(snapshots: Path) -> Iterator[LabelledPicture]:
    """Pictures of COCO 2017 from small copies of it; a picture is taken once."""
    seen = set()
    for name in COCO:
        snapshot = Snapshot(snapshots / name)
        photos = {Path(path).name: path for path in snapshot if path.endswith(".jpg")}
        for path in snapshot:
            if "instances_" not in path or not path.endswith(".json"):
                continue
            try:
                document = json.loads(snapshot.read(path))
            except (FileNotFoundError, ValueError):
                continue
            of_picture = defaultdict(list)
            for annotation in document["annotations"]:
                of_picture[annotation["image_id"]].append(annotation)
            for facts in document["images"]:
                file = facts["file_name"]
                annotations = of_picture[facts["id"]]
                if file not in photos or file in seen or not annotations:
                    continue
                seen.add(file)
                bgr = decoded(snapshot.read(photos[file]), cv2.IMREAD_COLOR)
                labels = coco_labels(annotations, facts["height"], facts["width"])
                if bgr.shape[:2] == labels.shape:
                    yield LabelledPicture(Path(file).stem, bgr, labels)
    yield from coco_polygons(Snapshot(snapshots / COCO_AS_POLYGONS), seen)


def coco_polygons(snapshot: Snapshot, seen: set[str]) -> Iterator[LabelledPicture]:
    """The copy that has its polygons as lines of numbers, relative to the picture's size."""
    for path in snapshot:
        if not path.startswith("instance_segmentation/labels/") or not path.endswith(".txt"):
            continue
        photo = path.replace("instance_segmentation/labels", "images").replace(".txt", ".jpg")
        if photo not in snapshot or Path(photo).name in seen:
            continue
        seen.add(Path(photo).name)
        bgr = decoded(snapshot.read(photo), cv2.IMREAD_COLOR)
        height, width = bgr.shape[:2]
        annotations = []
        for line in snapshot.read(path).decode().splitlines():
            numbers = np.array([float(word) for word in line.split()[1:]], np.float32)
            if len(numbers) >= 6:
                polygon = numbers.reshape(-1, 2) * (width, height)
                area = cv2.contourArea(polygon.astype(np.float32))
                annotations.append({"segmentation": [polygon.ravel()], "area": area})
        labels = coco_labels(annotations, height, width)
        yield LabelledPicture(Path(photo).stem, bgr, labels)


def clothing(snapshots: Path) -> Iterator[LabelledPicture]:
    """People whose garments, skin and hair are the parts (Clothing Co-Parsing)."""
    snapshot = Snapshot(snapshots / "bearpaw+clothing-co-parsing")
    for path in snapshot:
        photo = f"photos/{Path(path).stem}.jpg"
        if not path.startswith("annotations/pixel-level/") or photo not in snapshot:
            continue
        bgr = decoded(snapshot.read(photo), cv2.IMREAD_COLOR)
        classes = scipy.io.loadmat(io.BytesIO(snapshot.read(path)))["groundtruth"]
        labels = connected_parts(classes.astype(np.uint8), least=0.003)
        if bgr.shape[:2] == labels.shape:
            yield LabelledPicture(Path(path).stem, bgr, labels)


def pedestrians(snapshots: Path) -> Iterator[LabelledPicture]:
    """Penn-Fudan: people in streets. They only judge: the authors keep all rights."""
    snapshot = Snapshot(snapshots / "gmguarino+PennFudan")
    for path in snapshot:
        if "/PNGImages/" not in path or not path.endswith(".png"):
            continue
        mask = path.replace("PNGImages", "PedMasks").replace(".png", "_mask.png")
        bgr = decoded(snapshot.read(path), cv2.IMREAD_COLOR)
        labels = decoded(snapshot.read(mask), cv2.IMREAD_UNCHANGED)
        yield LabelledPicture(Path(path).stem, bgr, labels)


READERS = {
    "voc": voc,
    "coco": coco,
    "clothing": clothing,
    "pedestrians": pedestrians,
}


def main() -> None:
    snapshots = Path(sys.argv[1])
    archives = Path(sys.argv[2])
    archives.mkdir(parents=True, exist_ok=True)
    for name, reader in READERS.items():
        path = archives / f"{name}.zip"
        if not path.exists():
            print(name, pictures.write(path, reader(snapshots)), flush=True)


if __name__ == "__main__":
    main()
