"""What each preset costs and how exact it is: drawn 1080p masks, a huge clip, and the whole pipeline's I/O.

``python -m benchmarks.speed.presets sheet|moving|pipeline|huge``. Costs are processor time, so other work on the machine
matters little.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.support import synth

from benchmarks.stand_in import bright_is_foreground
from foremask.masking.pipeline import mask_video
from foremask.masking.plan import refine_edges
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.media.writer import MaskWriter
from foremask.options import MaskOptions, Preset

FRAMES = 24


def sheet(width: int, height: int, step: int) -> NDArray[np.uint8]:
    """Flat areas with a moving edge, a ramp, and one-pixel lines."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 3, width // 2 + 8 * step :] = 255
    mask[height // 3 : height // 2] = np.linspace(0, 255, width).astype(np.uint8)
    mask[height // 2 :, 40 + step :: 160] = 255
    mask[height // 2 + 60 + step :: 120] = 255
    return mask


def subject(width: int, height: int, step: int) -> NDArray[np.uint8]:
    """A body with an uneven outline, soft by one to four pixels, that walks over an empty background."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    across = columns - 0.26 * width - 9.3 * step
    down = rows - 0.52 * height - 12 * np.sin(step / 5)
    angle = np.arctan2(down, across)
    outline = 0.3 * height + 40 * np.sin(3 * angle + step / 6) + 18 * np.sin(11 * angle - step / 4)
    outline += 7 * np.sin(37 * angle + step / 3)
    inside = outline - np.hypot(1.25 * across, 0.8 * down)
    soft = 2.4 + 3 * (1 + np.sin(2 * angle))
    return np.asarray(np.rint(255 * np.clip(0.5 + inside / soft, 0, 1)), np.uint8)


def measure(draw: Callable[[int, int, int], NDArray[np.uint8]]) -> None:
    """Errors of each preset, and its encode cost per frame."""
    size = 1920, 1080
    with tempfile.TemporaryDirectory() as folder:
        pts = synth.even(FRAMES, Fraction(30))
        source = synth.write(Path(folder) / "a.mp4", synth.Spec(*size, pts=pts))
        masks = [draw(*size, step) for step in range(FRAMES)]
        with VideoReader(source) as reader:
            clip = reader.clip
        reported = (
            "cpu-ms per frame",
            "mean error",
            "worst",
            "off by more than 2, ppm",
            "bytes per frame",
        )
        print(f"| preset | {' | '.join(reported)} |\n" + "|---" * 6 + "|")
        for preset in Preset:
            target = Path(folder) / f"mask{preset.suffix}"
            with VideoReader(source) as reader, MaskWriter(target, preset, clip, None) as writer:
                spent = 0.0
                for frame, mask in zip(list(reader), masks, strict=True):
                    started = time.process_time()
                    writer.write(mask, frame)
                    spent += time.process_time() - started
                started = time.process_time()
                written = writer.finish(reader.end_pts, reader.time_base)
                spent += time.process_time() - started
            found = synth.decode_grey(target)
            errors = [
                np.abs(one.astype(int) - mask) for one, mask in zip(found, masks, strict=True)
            ]
            mean = np.mean([error.mean() for error in errors])
            worst = max(int(error.max()) for error in errors)
            off_ppm = 1e6 * np.mean([(error > 2).mean() for error in errors])
            cost = 1000 * spent / FRAMES
            print(
                f"| {preset.value} | {cost:.1f} | {mean:.3f} | {worst} | {off_ppm:.0f} |"
                f" {written.bytes // FRAMES} |",
                flush=True,
            )


def measure_pipeline() -> None:
    """Both decodes, the small picture, luma and writing, per frame of a 1080p clip; then the refiner too."""
    with tempfile.TemporaryDirectory() as folder:
        frames = 120
        pts = synth.even(frames, Fraction(30))
        source = synth.write(Path(folder) / "a.mp4", synth.Spec(1920, 1080, pts=pts, b_frames=2))
        for what, refiner in (
            ("reading and writing", synth.stretched),
            ("and refining", refine_edges),
        ):
            started = time.process_time()
            target, options = Path(folder) / "mask.mp4", MaskOptions()
            mask_video(source, target, options, masker=bright_is_foreground, refiner=refiner)
            spent = time.process_time() - started
            print(f"{what}: {1000 * spent / frames:.1f} cpu-ms per frame", flush=True)


def measure_huge(width: int, height: int, preset: Preset) -> None:
    """Peak memory of masking three huge frames; run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "huge.mp4"
        make = [
            sys.executable,
            "-m",
            "benchmarks.speed.presets",
            "draw",
            str(source),
            str(width),
            str(height),
        ]
        subprocess.run(make, check=True)  # noqa: S603
        target = Path(folder) / f"mask{preset.suffix}"
        started = time.process_time()
        report = mask_video(source, target, MaskOptions(preset=preset), masker=bright_is_foreground)
        spent = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
        print(
            f"| {width}x{height} | {preset.value} | {report.frames_out} | {peak:.2f} GiB |"
            f" {spent / 3:.1f} cpu-s per frame |",
            flush=True,
        )
        if width * height < 64_000_000:
            verify(source, target)


def draw_huge(path: Path, width: int, height: int) -> None:
    def images() -> Iterator[NDArray[np.uint8]]:
        for step in range(3):
            image = np.full((height, width, 3), 90, np.uint8)
            image[height // 4 : height // 2, width // 4 + 64 * step : width // 2] = (220, 230, 30)
            yield image

    options = {"x264-params": "rc-lookahead=0:sync-lookahead=0:ref=1:threads=1"}
    synth.write(path, synth.Spec(width, height, pts=(0, 1000, 2000), options=options), images())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["sheet", "moving", "pipeline", "huge", "draw"])
    parser.add_argument("more", nargs="*")
    asked = parser.parse_args()
    if asked.what == "sheet":
        measure(sheet)
    elif asked.what == "moving":
        measure(subject)
    elif asked.what == "pipeline":
        measure_pipeline()
    elif asked.what == "draw":
        draw_huge(Path(asked.more[0]), int(asked.more[1]), int(asked.more[2]))
    else:
        measure_huge(int(asked.more[0]), int(asked.more[1]), Preset(asked.more[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
