"""Foreground colours on composites whose foreground, background and alpha are known exactly.

A picture of a development sequence is the foreground, another the background, and the mask of an
alpha clip the alpha; beside them drawn hair. Printed, for every composite and as a mean: the error of
the plain picture's colours in the band (alpha between 0 and 1), ours as a share of it, ours as a
share of pymatting's multi-level estimate where that is installed, and processor time at 1920 x 1080:

    uv run --with pymatting python -m benchmarks.quality.foreground

``--picture FILE.webp`` draws the picture of docs/cutouts.md instead.
"""

import importlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import DATA
from foremask.types import Levels, Rgb
from foremask.vision.matting.composite import over
from foremask.vision.matting.foreground import foreground_colours

SIZE = 854, 480
FOREGROUNDS = ("dog/frames/00010", "car-shadow/frames/00005", "horsejump-high/frames/00005")
BACKGROUNDS = ("bmx-trees/frames/00000", "dance-twirl/frames/00010", "blackswan/frames/00000")
ALPHAS = (
    "comp-butterfly-grass",
    "comp-dancer-cut",
    "comp-dogcat-dune",
    "comp-horse-meadow",
    "comp-runner-mountain",
)


@dataclass(frozen=True)
class Composite:
    """One known mixture."""

    name: str
    foreground: Rgb
    background: Rgb
    levels: Levels

    @property
    def picture(self) -> Rgb:
        """The mixture, rounded to 8 bits."""
        alpha = self.levels[:, :, None] / 255
        return np.rint(alpha * self.foreground + (1 - alpha) * self.background).astype(np.uint8)

    def error(self, colours: Rgb) -> float:
        """Mean absolute error in the band, in levels."""
        band = (self.levels > 0) & (self.levels < 255)
        return float(np.abs(colours[band].astype(int) - self.foreground[band]).mean())


def composites(data: Path) -> Iterator[Composite]:
    """Every alpha over two pairs of pictures, and hair over each foreground."""

    def picture(name: str) -> Rgb:
        found = read(data / "davis" / f"{name}.jpg", cv2.IMREAD_COLOR_RGB)
        return np.asarray(cv2.resize(found, SIZE, interpolation=cv2.INTER_AREA), np.uint8)

    for number, alpha in enumerate(ALPHAS):
        found = read(data / "alpha" / alpha / "masks/00020.png", cv2.IMREAD_GRAYSCALE)
        levels = np.asarray(cv2.resize(found, SIZE), np.uint8)
        for turn in range(2):
            front = FOREGROUNDS[(number + turn) % 3]
            back = BACKGROUNDS[(number + 2 * turn) % 3]
            yield Composite(f"{alpha}, {front}", picture(front), picture(back), levels)
    for number, front in enumerate(FOREGROUNDS):
        for blur_px in (1, 15):
            levels = hair(number, blur_px)
            name = f"hair, blur {blur_px}, {front}"
            yield Composite(name, picture(front), picture(BACKGROUNDS[number]), levels)


def read(path: Path, how: int) -> NDArray[Any]:
    """A picture; SystemExit where there is none."""
    found = cv2.imread(str(path), how)
    if found is None:
        raise SystemExit(f"there is no {path}: set FOREMASK_DATA")
    return found


def hair(seed: int, blur_px: int) -> Levels:
    """A disc with 500 hairs of half a pixel to one and a half, moved by ``blur_px``."""
    width, height = 4 * SIZE[0], 4 * SIZE[1]
    drawn = np.zeros((height, width), np.uint8)
    centre, radius = np.array([width / 2, height * 0.6]), height / 5
    cv2.circle(drawn, centre.astype(int).tolist(), round(radius), 255, -1)
    random = np.random.default_rng(seed)
    for angle in random.uniform(0, 2 * np.pi, 500):
        turns = angle + random.normal(0, 0.3) + np.cumsum(random.normal(0, 0.12, 30))
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (height / 200)
        start = centre + 0.95 * radius * np.array([np.cos(angle), np.sin(angle)])
        points = (start + np.cumsum(steps, axis=0)).astype(np.int32)
        cv2.polylines(drawn, [points], False, 255, int(random.integers(2, 6)))
    levels = cv2.resize(drawn, SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(levels, (blur_px, 1)), np.uint8)


def cpu_ms(composite: Composite) -> float:
    """Least processor time of ten runs at 1920 x 1080, on one thread."""
    cv2.setNumThreads(1)
    picture = np.asarray(cv2.resize(composite.picture, (1920, 1080)), np.uint8)
    levels = np.asarray(cv2.resize(composite.levels, (1920, 1080)), np.uint8)
    times_s = []
    for _ in range(10):
        started = time.thread_time()
        foreground_colours(picture, levels)
        times_s.append(time.thread_time() - started)
    return 1000 * min(times_s)


def drawn_picture() -> Rgb:
    """Hair before leaves; beside it cut out onto three colours, above with the picture's own colours."""
    width, height = SIZE
    random = np.random.default_rng(5)
    noise = random.random((height, width)).astype(np.float32)
    leaves = cv2.GaussianBlur(noise, (0, 0), 6)
    share = (leaves - leaves.min()) / np.ptp(leaves)
    ground = (share[:, :, None] * (150, 200, 60) + 20).astype(np.uint8)
    coat = (120 + 90 * share[::-1, :, None] * (1, 0.7, 0.5)).astype(np.uint8)
    levels = hair(2, 1)
    scene = Composite("", coat, ground, levels)
    estimated = foreground_colours(scene.picture, levels)
    part = np.s_[100:300, 290:560]
    rows = []
    for colours in (scene.picture, estimated):
        cells = [scene.picture[part]]
        for colour in ((128, 128, 128), (0, 177, 64), (255, 255, 255)):
            wall = np.full_like(colours, colour)
            cells.append(over(colours, wall, levels)[part])
        rows.append(np.hstack(cells))
    return np.vstack(rows)


def main() -> None:
    if sys.argv[1:2] == ["--picture"]:
        picture = cv2.cvtColor(drawn_picture(), cv2.COLOR_RGB2BGR)
        cv2.imwrite(sys.argv[2], picture, [cv2.IMWRITE_WEBP_QUALITY, 80])
        return
    try:
        reference: Any = importlib.import_module("pymatting").estimate_foreground_ml
    except ModuleNotFoundError:
        reference = None
    shares: list[tuple[float, float]] = []
    for composite in composites(DATA):
        picture = composite.picture
        plain = composite.error(picture)
        ours = composite.error(foreground_colours(picture, composite.levels))
        theirs = float("nan")
        if reference is not None:
            found = reference(picture / 255.0, composite.levels / 255.0)
            theirs = composite.error(np.rint(255 * np.clip(found, 0, 1)).astype(np.uint8))
        shares.append((ours / plain, ours / theirs))
        band = float(((composite.levels > 0) & (composite.levels < 255)).mean())
        print(
            f"{composite.name:45} plain {plain:5.1f} ours {ours:5.1f} pymatting {theirs:5.1f} "
            f"band {100 * band:4.1f} % {cpu_ms(composite):5.1f} cpu-ms"
        )
    of_plain, of_theirs = np.exp(np.log(np.array(shares)).mean(axis=0))
    print(f"geometric means: {of_plain:.3f} of plain, {of_theirs:.3f} of pymatting")


if __name__ == "__main__":
    main()
