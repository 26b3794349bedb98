"""Restores by one correction what the mask has right on a frame nearby: docs/adr/0050.

Where a mask loses a thing for a while, a point on the thing is followed along the flow to the
nearest anchor on which the mask has that point right. The mask round the point is warped from there
along the same flow to the anchors between.
"""

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha
from foremask.vision.temporal.correction import Click, Shown
from foremask.vision.temporal.flow import warp
from foremask.vision.temporal.regions import FOREGROUND, Link

FARTHEST = 24  # anchors between a click and the mask that is right
SLIVER_SHARE = 1 / 160  # of the diagonal: what is thinner is an outline that flow has moved
ALIKE = 16.0  # levels of Lab by which what is brought may differ from what is there, a channel,
AROUND_PX = 7  # of the tracks' grid, over which that is a mean
LEAST_PX = 12
AROUND_SHARE = 0.03  # of the diagonal, each way: where a mask is compared with those of others
AS_WHOLE = 0.9  # of the most that any of them has right there


def regained(
    click: Click, index: int, shown: Sequence[Shown], links: Sequence[Mapping[int, Link]]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Anchors and the places on them that change sides by a click on anchor ``index``."""
    for offset in (-1, 1):
        path = _path(click, index, shown, links, offset)
        if path:
            yield from _brought(click, path, shown, links, offset)


def _path(
    click: Click,
    index: int,
    shown: Sequence[Shown],
    links: Sequence[Mapping[int, Link]],
    offset: int,
) -> list[tuple[int, int, int]]:
    """Where the point is on each anchor from the click to one that is right; empty without one.

    It is the nearest anchor whose mask is about as good round the point as any other's.
    """
    rows, columns = shown[index].mask.shape
    row, column = float(click.row), float(click.column)
    path = [(index, click.row, click.column)]
    shares = [0.0]
    around = round(AROUND_SHARE * float(np.hypot(rows, columns)))
    for _ in range(FARTHEST):
        at, here_row, here_column = path[-1]
        link = links[at].get(offset)
        if link is None:
            break
        across, down = link.flow[here_row, here_column]
        row, column = row + float(down), column + float(across)
        if not (0 <= round(row) < rows and 0 <= round(column) < columns):
            break
        path.append((at + offset, round(row), round(column)))
        right = _sided(shown[at + offset].mask, click) > FOREGROUND
        up, left = max(0, path[-1][1] - around), max(0, path[-1][2] - around)
        near = right[up : path[-1][1] + around + 1, left : path[-1][2] + around + 1]
        shares.append(float(near.mean()) if right[path[-1][1:]] else 0.0)
    most = max(shares)
    if not most:
        return []
    end = next(n for n, share in enumerate(shares) if share >= AS_WHOLE * most)
    return path[: end + 1]


def _brought(
    click: Click,
    path: list[tuple[int, int, int]],
    shown: Sequence[Shown],
    links: Sequence[Mapping[int, Link]],
    offset: int,
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The mask round the point at the end of a path, warped to the anchors before."""
    source = path[-1][0]
    right = _sided(shown[source].mask, click)
    colour = _lab(shown[source])
    thin = max(3, round(SLIVER_SHARE * float(np.hypot(*right.shape)))) | 1
    for at, row, column in path[-2::-1]:
        flow = links[at][offset].flow
        right = warp(right, flow)
        colour = np.stack([warp(plane, flow) for plane in colour])
        apart = np.abs(colour - _lab(shown[at])).mean(axis=0)
        wrong = (right > FOREGROUND) & (_sided(shown[at].mask, click) <= FOREGROUND)
        wrong &= cv2.blur(apart, (AROUND_PX, AROUND_PX)) < ALIKE
        whole = cv2.morphologyEx(
            wrong.astype(np.uint8), cv2.MORPH_OPEN, np.ones((thin, thin), np.uint8)
        )
        _, labels = cv2.connectedComponents(whole, connectivity=4)
        if not labels[row, column]:
            continue
        place = np.asarray(labels == labels[row, column])
        if place.sum() >= LEAST_PX:
            yield at, place


def _sided(mask: Alpha, click: Click) -> Alpha:
    """1 where the mask agrees with the click."""
    return mask if click.positive else np.float32(1) - mask


def _lab(shown: Shown) -> NDArray[np.float32]:
    planes = cv2.cvtColor(np.ascontiguousarray(shown.rgb), cv2.COLOR_RGB2Lab).astype(np.float32)
    return np.ascontiguousarray(planes.transpose(2, 0, 1))
