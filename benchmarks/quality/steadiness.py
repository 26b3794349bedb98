"""Measures how steady and how decided masks are, without a truth.

``python -m benchmarks.quality.steadiness SOURCE MASK [MASK ...]`` prints a JSON line for each
mask; both are videos or folders in DAVIS layout. Masks are scaled to at most 640 x 360 pixels.

- ``ghost``: 100 x the grey area far from the outline, over the white area;
- ``vanish``: percent of a frame's subject that is background in the next frame, of the pixels that
  optical flow can follow there and back; ``appear`` is the same backwards in time;
- ``jumps``: the pairs of frames in which ``vanish`` or ``appear`` is over 5;
- ``followed``: percent of the subject that can be followed; where it is low, the others mean little.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import frames_of, masks_of
from benchmarks.machine import run
from foremask.types import Flow, Levels, Luma, Rgb

MAX_PIXELS = 640 * 360
SUBJECT, BACKGROUND = 178, 77  # levels above which a place is subject, below which background
WHITE, BLACK = 243, 13  # a level from WHITE on, or under BLACK, is no ghost
GHOST_MARGIN = 0.008  # of the diagonal: nearer to the outline, soft alpha is right
LEAST_SUBJECT = 0.002  # of the picture: a smaller subject is counted as large as this
WAY_BACK_PX = 1.5  # largest distance between a place and its image after flow there and back
SAME_LUMA = 20  # largest difference of luma between a place and its image
JUMP_PERCENT = 5.0
CUT_FOLLOWED = 0.15  # of the picture: when less can be followed on, nothing is judged there


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The measures of one mask; all but ``frames`` and ``jumps`` are in percent."""

    frames: int
    ghost: float
    vanish: float
    appear: float
    jumps: int
    followed: float


@dataclass(frozen=True, slots=True)
class _Way:
    """The position of each pixel in another frame, and whether it can be trusted."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    believed: NDArray[np.bool_]

    @classmethod
    def by(cls, flow: Flow, back: Flow, here: Luma, there: Luma) -> "_Way":
        rows, columns = here.shape
        x = (flow[..., 0] + np.arange(columns)).astype(np.float32)
        y = (flow[..., 1] + np.arange(rows)[:, None]).astype(np.float32)
        seen = np.asarray(cv2.remap(there, x, y, cv2.INTER_LINEAR), np.float32)
        miss = flow + cv2.remap(back, x, y, cv2.INTER_LINEAR)
        believed = (np.abs(seen - here) < SAME_LUMA) & (np.hypot(*miss.T).T < WAY_BACK_PX)
        believed &= (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        return cls(x, y, believed)

    def lost(self, here: Levels, there: Levels) -> float:
        """Percent of the followed subject of one mask that is background in the other."""
        subject = self.believed & (here > SUBJECT)
        gone = subject & (cv2.remap(there, self.x, self.y, cv2.INTER_LINEAR) < BACKGROUND)
        return 100 * float(gone.sum()) / max(float(subject.sum()), LEAST_SUBJECT * here.size)


def _ghost(mask: Levels) -> float:
    white = (mask > 127).astype(np.uint8)
    edge = cv2.morphologyEx(white, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    side = 2 * max(2, round(GHOST_MARGIN * float(np.hypot(*mask.shape)))) + 1
    near = cv2.dilate(edge, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    soft = np.count_nonzero((mask >= BLACK) & (mask < WHITE) & (np.asarray(near) == 0))
    return 100 * soft / max(float(np.count_nonzero(white)), LEAST_SUBJECT * mask.size)


def _scaled(image: Rgb | Levels) -> Rgb | Levels:
    rows, columns = image.shape[:2]
    scale = min(1.0, (MAX_PIXELS / (rows * columns)) ** 0.5)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def steadiness(source: Iterable[Rgb], *masks: Iterable[Levels]) -> list[Steadiness]:
    """Measure masks of one clip in one pass, which ends with the shortest of them."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    ghosts, followed = [list[float]() for _ in masks], [list[float]() for _ in masks]
    pairs = [list[tuple[float, float]]() for _ in masks]  # vanish and appear
    before: Luma | None = None
    levels_before: list[Levels] = []
    for rgb, *planes in zip(source, *masks, strict=False):
        luma = np.asarray(cv2.cvtColor(_scaled(rgb), cv2.COLOR_RGB2GRAY), np.uint8)
        levels: list[Levels] = []
        for plane in planes:
            same = plane if plane.shape == rgb.shape[:2] else cv2.resize(plane, rgb.shape[1::-1])
            levels.append(_scaled(np.asarray(same, np.uint8)))
        if before is not None:
            none = np.zeros((*luma.shape, 2), np.float32)
            ahead = np.asarray(flow.calc(before, luma, none.copy()), np.float32)
            back = np.asarray(flow.calc(luma, before, none), np.float32)
            to, fro = _Way.by(ahead, back, before, luma), _Way.by(back, ahead, luma, before)
            for at, (old, new) in enumerate(zip(levels_before, levels, strict=True)):
                if to.believed.mean() < CUT_FOLLOWED:
                    continue
                pairs[at].append((to.lost(old, new), fro.lost(new, old)))
                if (old > SUBJECT).any():
                    followed[at].append(100 * float(to.believed[old > SUBJECT].mean()))
        for at, level in enumerate(levels):
            ghosts[at].append(_ghost(level))
        before, levels_before = luma, levels
    return [
        Steadiness(
            frames=len(ghost),
            ghost=_mean(ghost),
            vanish=_mean([vanish for vanish, _ in pair]),
            appear=_mean([appear for _, appear in pair]),
            jumps=sum(max(each) > JUMP_PERCENT for each in pair),
            followed=_mean(share),
        )
        for ghost, pair, share in zip(ghosts, pairs, followed, strict=True)
    ]


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 2) if values else 0.0


def main(source: Path, /, *masks: Path) -> None:
    results = steadiness(frames_of(source), *map(masks_of, masks))
    for path, result in zip(masks, results, strict=True):
        print(json.dumps({"mask": path.name, **asdict(result)}))


if __name__ == "__main__":
    run(main, __doc__)
