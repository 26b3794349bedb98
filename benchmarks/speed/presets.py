"""Measures the cost and the error of each preset, on a drawn moving 1080p body with a soft edge.

``python -m benchmarks.speed.presets`` prints a table. Costs are processor time, which other work on
the machine changes little.
"""

import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from tests.media.test_writer import subject
from tests.support import synth

from benchmarks.machine import header, row
from foremask.media.reader import VideoReader
from foremask.media.writer import MaskWriter
from foremask.options import MASK_FORMS

FRAMES = 24
WIDTH, HEIGHT = 1920, 1080


def measure(folder: Path) -> None:
    spec = synth.Spec(WIDTH, HEIGHT, pts=synth.even(FRAMES, Fraction(30)))
    source = synth.write(folder / "a.mp4", spec)
    masks = [subject(WIDTH, HEIGHT, step) for step in range(FRAMES)]
    with VideoReader(source) as reader:
        clip, frames, end = reader.clip, list(reader), reader.end
    header("preset", "cpu-ms a frame", "mean error", "worst", "over 2, ppm", "bytes a frame")
    for preset in MASK_FORMS:
        target = folder / f"mask{preset.suffix}"
        with MaskWriter(target, preset, clip, None) as writer:
            started = time.process_time()
            for frame, mask in zip(frames, masks, strict=True):
                writer.write(mask, frame)
            written = writer.finish(end)
            cost = 1000 * (time.process_time() - started) / FRAMES
        errors = np.abs(np.stack(list(synth.decode_grey(target))).astype(np.int16) - masks)
        ppm = f"{1e6 * (errors > 2).mean():.0f}"
        shown = f"{cost:.1f}", f"{errors.mean():.3f}", errors.max(), ppm, written.bytes // FRAMES
        row(preset.value, *shown)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name))
