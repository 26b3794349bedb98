"""Measures how a frame's processor time and the memory grow with pixels, length and motion.

``python -m benchmarks.speed.growth`` masks a development sequence in one tier: at several heights,
at several lengths (the sequence goes forth and back), and its first frame as a clip that stands
still. Each run is a process of its own. Prints the table of docs/quality.md.
"""

import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks.clips import DATA, Clip
from benchmarks.machine import facts, header, row, run
from benchmarks.speed.end_to_end import encode, one_run
from foremask.machine.process_setup import ONE_THREAD
from foremask.options import Quality
from foremask.types import Rgb

FRAMES: Final = 48
HEIGHT: Final = 480
HEIGHTS: Final = (240, 480, 1080, 2160)
LENGTHS: Final = (240, 1440)  # frames: 10 s and 60 s


@dataclass(frozen=True, slots=True)
class Played(Clip):
    """The first ``count`` frames of a sequence that goes forth and back, or stands still."""

    count: int = FRAMES
    is_still: bool = False

    def frames(self) -> Iterator[Rgb]:
        found = list(Clip(self.path).frames())
        if self.is_still:
            found = found[:1]
        there_and_back = itertools.cycle([*found, *found[-2:0:-1]])
        return itertools.islice(there_and_back, self.count)


def main(
    *,
    sequence: str = "davis/parkour",
    tier: Quality = Quality.FAST,
    heights: Sequence[int] = HEIGHTS,
    lengths: Sequence[int] = LENGTHS,
    frames: int = FRAMES,
) -> None:
    os.environ.update(ONE_THREAD)  # before a process loads NumPy
    path = DATA / sequence
    runs = [(height, Played(path, frames)) for height in heights]
    runs += [(HEIGHT, Played(path, length)) for length in lengths]
    runs.append((HEIGHT, Played(path, frames, is_still=True)))
    header("rows", "frames", "moves", "cpu-ms a frame", "MiB beyond the model")
    for height, clip in runs:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "clip.mp4"
            encode(clip, source, height)
            with ProcessPoolExecutor(1, get_context("spawn")) as own:
                _, cpu_ms, mib = own.submit(one_run, source, tier).result()
        row(height, clip.count, "no" if clip.is_still else "yes", round(cpu_ms), round(mib))
    print(json.dumps(facts()))


if __name__ == "__main__":
    run(main, __doc__)
