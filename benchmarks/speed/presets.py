"""What each preset costs and how exact it is, on drawn 1080p masks.

``python -m benchmarks.speed.presets [sheet | moving | pipeline]``: flat areas, a ramp and lines that
change everywhere; a soft body that walks; or all of reading, refining and writing. Costs are
processor time, so other work on the machine matters little.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.support import synth

from benchmarks.stand_in import bright_is_foreground
from foremask.masking.pipeline import mask_video
from foremask.masking.plan import refine_edges
from foremask.media.reader import VideoReader
from foremask.media.writer import MaskWriter
from foremask.options import MaskOptions, Preset

FRAMES = 24
WIDTH, HEIGHT = 1920, 1080


def sheet(step: int) -> NDArray[np.uint8]:
    """Flat areas with a moving edge, a ramp, and one-pixel lines."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[: HEIGHT // 3, WIDTH // 2 + 8 * step :] = 255
    mask[HEIGHT // 3 : HEIGHT // 2] = np.linspace(0, 255, WIDTH).astype(np.uint8)
    mask[HEIGHT // 2 :, 40 + step :: 160] = 255
    mask[HEIGHT // 2 + 60 + step :: 120] = 255
    return mask


def moving(step: int) -> NDArray[np.uint8]:
    """A body with an uneven outline, soft by one to four pixels, that walks."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    across = columns - 0.26 * WIDTH - 9.3 * step
    down = rows - 0.52 * HEIGHT - 12 * np.sin(step / 5)
    angle = np.arctan2(down, across)
    outline = 0.3 * HEIGHT + 40 * np.sin(3 * angle + step / 6) + 18 * np.sin(11 * angle - step / 4)
    outline += 7 * np.sin(37 * angle + step / 3)
    inside = outline - np.hypot(1.25 * across, 0.8 * down)
    soft = 2.4 + 3 * (1 + np.sin(2 * angle))
    return np.asarray(np.rint(255 * np.clip(0.5 + inside / soft, 0, 1)), np.uint8)


def measure(draw: Callable[[int], NDArray[np.uint8]], folder: Path) -> None:
    """Errors of each preset, and its encode cost per frame."""
    spec = synth.Spec(WIDTH, HEIGHT, pts=synth.even(FRAMES, Fraction(30)))
    source = synth.write(folder / "a.mp4", spec)
    masks = [draw(step) for step in range(FRAMES)]
    with VideoReader(source) as reader:
        clip, frames = reader.clip, list(reader)
        end_pts, time_base = reader.end_pts, reader.time_base
    columns = ("cpu-ms a frame", "mean error", "worst", "off by more than 2, ppm", "bytes a frame")
    print(f"| preset | {' | '.join(columns)} |\n" + "|---" * 6 + "|")
    for preset in Preset:
        target = folder / f"mask{preset.suffix}"
        with MaskWriter(target, preset, clip, None) as writer:
            started = time.process_time()
            for frame, mask in zip(frames, masks, strict=True):
                writer.write(mask, frame)
            written = writer.finish(end_pts, time_base)
            cost = 1000 * (time.process_time() - started) / FRAMES
        errors = np.abs(np.stack(list(synth.decode_grey(target))).astype(np.int16) - masks)
        ppm = 1e6 * (errors > 2).mean()
        print(
            f"| {preset.value} | {cost:.1f} | {errors.mean():.3f} | {errors.max()} | {ppm:.0f} |"
            f" {written.bytes // FRAMES} |",
            flush=True,
        )


def measure_pipeline(folder: Path) -> None:
    """Both decodes, the small picture, luma and writing; then the refiner too."""
    frames = 120
    spec = synth.Spec(WIDTH, HEIGHT, pts=synth.even(frames, Fraction(30)), b_frames=2)
    source = synth.write(folder / "a.mp4", spec)
    stages = {"reading and writing": synth.stretched, "and refining": refine_edges}
    for number, (what, refiner) in enumerate(stages.items()):
        started = time.process_time()
        target = folder / f"mask-{number}.mp4"
        mask_video(source, target, MaskOptions(), masker=bright_is_foreground, refiner=refiner)
        cost = 1000 * (time.process_time() - started) / frames
        print(f"{what}: {cost:.1f} cpu-ms a frame", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        match sys.argv[1:]:
            case ["sheet"]:
                measure(sheet, Path(name))
            case ["moving"]:
                measure(moving, Path(name))
            case ["pipeline"]:
                measure_pipeline(Path(name))
            case _:
                raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
