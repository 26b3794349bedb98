"""Which of the things that the network picked belong to the subject: components, linked over time.

A picked thing that stands still while the best one moves, and is small or short-lived, is a mistake
of single frames. The rule takes away only on strong evidence: a still person beside a walking one
is large and stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Flow
from foremask.vision.resample import resized
from foremask.vision.temporal.flow import compose, warp_labels

PICKED = 0.4  # alpha from which a pixel belongs to a component
MIN_AREA = 0.0003  # of the picture: smaller components are neither linked nor judged
LINK_IOU = 0.25
LINK_ANCHORS = 4  # anchors: a component may vanish for three and be the same one again
# Where the best track moves, others are dropped if their motion is under this share of its motion;
# measured on eight sequences wrong tracks stay under 0.3 and right ones over 0.7: docs/adr/0050.
STATIC_SHARE = 0.35
STATIC_SHARE_IF_LASTING = (
    0.2  # for a track in half of the anchors, or half as large as the best one
)
STATIC_SHARE_IF_SHORT = 0.5  # for a track in fewer than three anchors
MOVING = 0.5  # the best track's motion, in `flow.residual`, from which there is anything to compare


@dataclass(slots=True)
class Component:
    """A connected part of one anchor's mask."""

    anchor: int
    label: int
    area: int
    motion: float
    track: int


@dataclass(slots=True)
class Track:
    """Components that are one thing over time."""

    area: int = 0
    moved: float = 0.0  # motion x area
    anchors: set[int] = field(default_factory=set)

    def add(self, part: Component) -> None:
        """Count one more component in."""
        self.area += part.area
        self.moved += part.motion * part.area
        self.anchors.add(part.anchor)

    @property
    def motion(self) -> float:
        """Mean of `flow.residual` over the track's pixels."""
        return self.moved / self.area


def keep_maps(
    masks: Sequence[Alpha], motions: Sequence[Alpha], back: Sequence[Flow]
) -> list[Alpha]:
    """For each anchor, what to multiply its mask with: 0 on dropped tracks, 1 elsewhere.

    ``back[k]`` is the flow from anchor k to k - 1 on the masks' grid; ``back[0]`` is not read.
    An anchor is never emptied.
    """
    labels, parts = _components(masks, motions)
    _link(labels, parts, back)
    tracks: dict[int, Track] = {}
    for each in parts:
        tracks.setdefault(each.track, Track()).add(each)
    dropped = _dropped(tracks, len(masks))
    maps = []
    for k, labelled in enumerate(labels):
        here = [each for each in parts if each.anchor == k]
        gone = [each.label for each in here if each.track in dropped]
        kept = [each.label for each in here if each.track not in dropped]
        keep = np.ones(labelled.shape, np.float32)
        if gone and kept:
            around = cv2.dilate(np.isin(labelled, gone).astype(np.uint8), np.ones((5, 5), np.uint8))
            keep[around > 0] = 0
            keep[np.isin(labelled, kept)] = 1
        maps.append(keep)
    return maps


def _components(
    masks: Sequence[Alpha], motions: Sequence[Alpha]
) -> tuple[list[NDArray[np.int32]], list[Component]]:
    labels: list[NDArray[np.int32]] = []
    parts: list[Component] = []
    for k, (mask, motion) in enumerate(zip(masks, motions, strict=True)):
        count, labelled, stats, _ = cv2.connectedComponentsWithStats(
            (mask > PICKED).astype(np.uint8)
        )
        moved = resized(motion, mask.shape[1], mask.shape[0])
        mean = np.bincount(np.ravel(labelled), weights=moved.ravel(), minlength=count)
        for label in range(1, count):
            area = int(stats[label, cv2.CC_STAT_AREA])
            if area >= MIN_AREA * mask.size:
                parts.append(Component(k, label, area, float(mean[label] / area), len(parts)))
        labels.append(np.asarray(labelled, np.int32))
    return labels, parts


def _link(labels: list[NDArray[np.int32]], parts: list[Component], back: Sequence[Flow]) -> None:
    """Give the components that are one thing the same track: union-find over warped overlap."""
    parent = list(range(len(parts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    index_of = {(each.anchor, each.label): i for i, each in enumerate(parts)}
    for k, here in enumerate(labels):
        flow: Flow | None = None
        for earlier in range(k - 1, max(-1, k - 1 - LINK_ANCHORS), -1):
            step = back[earlier + 1]
            flow = step if flow is None else compose(flow, step)
            for label_here, label_there in _overlaps(here, warp_labels(labels[earlier], flow)):
                a, b = index_of.get((k, label_here)), index_of.get((earlier, label_there))
                if a is not None and b is not None:
                    parent[root(a)] = root(b)
    for i, each in enumerate(parts):
        each.track = root(i)


def _overlaps(here: NDArray[np.int32], there: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Pairs of labels whose intersection over union is above the link."""
    columns = int(there.max()) + 1
    rows = int(here.max()) + 1
    pairs = np.bincount((here * columns + there).ravel(), minlength=rows * columns)
    joint = pairs.reshape(rows, columns)
    union = joint.sum(axis=1)[:, None] + joint.sum(axis=0)[None] - joint
    return [(int(a), int(b)) for a, b in np.argwhere(joint > LINK_IOU * union) if a and b]


def _dropped(tracks: dict[int, Track], anchors: int) -> set[int]:
    if not tracks:
        return set()
    best = max(tracks.values(), key=lambda track: track.area * track.motion**2)
    if best.motion < MOVING:
        return set()

    def is_dropped(track: Track) -> bool:
        lasting = len(track.anchors) >= anchors / 2 or track.area > best.area / 2
        static_share = STATIC_SHARE_IF_LASTING if lasting else STATIC_SHARE
        if len(track.anchors) < 3 and not lasting:
            static_share = STATIC_SHARE_IF_SHORT
        return track is not best and track.motion < static_share * best.motion

    return {name for name, track in tracks.items() if is_dropped(track)}
