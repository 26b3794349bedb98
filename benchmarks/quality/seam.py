"""Does a mask show where its clip was cut, or where a window ends, and what does a cut cost?

``python -m benchmarks.quality.seam CLIP...`` with the real network. Each clip (a file, or the name
of a sequence, which is played to and fro for ``--frames``) is masked whole, and as the service does
it: cut, masked span by span, joined. ``--pieces 2 4`` cuts into at most that many. ``--window 48``
makes windows, and with them the shortest segments, smaller than the service's, so that short clips
can be cut. ``--cost`` says how much more a cut costs. The network is asked once for each picture
that it is shown: what it costs to ask again is counted, and not spent.

A step is how much the mask's error changes from one frame to the next, MAD x 1000; without a
truth, how much the mask changes. Its ratio is to the mean of the six steps before it and after it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.clips import DATA, Clip
from benchmarks.machine import facts
from benchmarks.quality.scores import FOREGROUND, region_similarity
from benchmarks.quality.tiers import Remembering
from foremask.facts import SEGMENT_GRID, SegmentGrid, Span
from foremask.masking.hinting import pts_of
from foremask.masking.pipeline import mask_video
from foremask.media import segments
from foremask.options import MaskOptions, Preset, Quality
from foremask.types import Alpha
from foremask.vision.image import ArrayImage
from foremask.vision.network.session import Session
from foremask.vision.temporal import windows
from foremask.vision.temporal.blocks import BLOCK_FRAMES
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

FPS = 24
FOLDERS = ("davis", "alpha")
NEIGHBOURS = 6
TIMED = 5


def inference_cpu_s(network: Session) -> float:
    """Processor seconds of one inference at the network's own size."""
    image = ArrayImage(np.random.default_rng(1).integers(0, 256, (216, 384, 3), np.uint8))
    network.infer(image)
    began = time.process_time()
    for _ in range(TIMED):
        network.infer(image)
    return (time.process_time() - began) / TIMED


def folder_of(name: str) -> Path | None:
    """Where a sequence lies."""
    found = [DATA / each / name for each in FOLDERS if (DATA / each / name).is_dir()]
    return found[0] if found else None


def to_and_fro[T](items: list[T], frames: int) -> Iterator[T]:
    """So many, forwards and backwards."""
    round_trip = [*items, *items[-2:0:-1]]
    for index in range(frames):
        yield round_trip[index % len(round_trip)]


def played(folder: Path, target: Path, frames: int, rows: int) -> list[Alpha]:
    """A sequence, to and fro, as a clip with a keyframe a second; its truth.

    Without loss: so a frame that comes again is a picture that the network has seen.
    """
    clip = Clip(folder)
    first = next(clip.frames())
    grid = 2 * round(first.shape[1] * rows / first.shape[0] / 2), rows
    images = [cv2.resize(each, grid, interpolation=cv2.INTER_AREA) for each in clip.frames()]
    truths = [cv2.resize(each, grid, interpolation=cv2.INTER_AREA) for each in clip.truths()]
    with av.open(str(target), "w") as container:
        options = {"qp": "0", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height = grid
        stream.pix_fmt, stream.gop_size = "yuv420p", FPS
        for image in to_and_fro(images, frames):
            rgb = np.asarray(image, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return [np.asarray(each, np.float32) for each in to_and_fro(truths, frames)]


def masks(path: Path) -> list[Alpha]:
    """Each frame's mask."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="gray").astype(np.float32) / np.float32(255)
            for frame in container.decode(video=0)
        ]


@dataclass(slots=True)
class Measurement:
    """One clip, masked whole and in segments."""

    clip: Path
    folder: Path
    quality: Quality
    grid: SegmentGrid
    network: Remembering
    inference_s: float
    counts_cost: bool = True

    def masked(self, source: Path, target: Path, span: Span | None = None) -> None:
        """A clip's mask, or that of a span, by a network that remembers."""
        masker = partial(mask_images, network=self.network, tier=TIERS[self.quality])
        if span is not None:
            masker = partial(masker, is_wanted=lambda image: span.holds(pts_of(image)))
        options = MaskOptions(preset=Preset.MP4_H264, quality=self.quality)
        mask_video(source, target, options, span=span, masker=masker)

    def whole(self) -> tuple[list[Alpha], dict[str, float]]:
        """The whole clip's masks, and what they cost: by a second run, which infers nothing."""
        target, again = self.folder / "whole.mp4", self.folder / "again.mp4"
        self.masked(self.clip, target)
        cost = self._cost(lambda: self.masked(self.clip, again)) if self.counts_cost else {}
        return masks(target), cost

    def in_segments(self, number: int) -> tuple[list[Alpha], list[int], dict[str, float]]:
        """The masks in at most ``number`` segments, the first frame of each, and what they cost."""
        spans = segments.plan(self.clip, number, self.grid)
        with tempfile.TemporaryDirectory(dir=self.folder) as directory:
            folder = Path(directory)
            joined = folder / "joined.mp4"

            def cut_and_join() -> None:
                parts = []
                for index, span in enumerate(spans):
                    piece, part = folder / f"piece-{index}", folder / f"part-{index}.mp4"
                    segments.cut(self.clip, span, piece)
                    self.masked(piece, part, span)
                    parts.append(part)
                segments.join(parts, self.clip, joined, Preset.MP4_H264)

            cost = self._cost(cut_and_join)
            found = masks(joined)
        with av.open(str(self.clip)) as opened:
            shown = sorted(p.pts for p in opened.demux(video=0) if p.pts is not None and p.size)
        return found, [shown.index(max(each.first_pts, shown[0])) for each in spans], cost

    def _cost(self, run: Any) -> dict[str, float]:  # noqa: ANN401
        before, began = (self.network.asked, self.network.inferred), time.process_time()
        run()
        spent_s = time.process_time() - began
        asked, inferred = self.network.asked - before[0], self.network.inferred - before[1]
        rest_s = spent_s - inferred * self.inference_s
        return {
            "inferences": round(asked, 1),
            "cpu-s of the rest": round(rest_s, 1),
            "cpu-s": round(rest_s + asked * self.inference_s, 1),
        }


def _beside(cut: dict[str, float], whole: dict[str, float]) -> dict[str, Any]:
    """What a cut clip cost, and how much more than the whole one, in percent."""
    return {**cut, "above the whole, %": {k: round(100 * (cut[k] / whole[k] - 1), 1) for k in cut}}


def steps_of(found: list[Alpha], truths: list[Alpha]) -> list[float]:
    """The step into each frame; 0 for the first."""
    errors = [m - t for m, t in zip(found, truths, strict=True)] if truths else found
    return [
        0.0,
        *(1000 * float(np.abs(b - a).mean()) for a, b in pairwise(errors)),
    ]


def compare_steps(steps: list[float], bounds: list[int]) -> dict[str, Any]:
    """The steps into the frames ``bounds``, beside those of frames around them."""
    ratios = {}
    for at in range(1 + NEIGHBOURS, len(steps) - NEIGHBOURS):
        around = [*steps[at - NEIGHBOURS : at], *steps[at + 1 : at + 1 + NEIGHBOURS]]
        ratios[at] = steps[at] / max(float(np.mean(around)), 1e-3)
    here = [ratios[at] for at in bounds if at in ratios]
    block = BLOCK_FRAMES
    elsewhere = [ratio for at, ratio in ratios.items() if at not in bounds]
    at_blocks = [ratio for at, ratio in ratios.items() if at not in bounds and at % block == 0]
    return {
        "steps": [round(steps[at], 2) for at in bounds],
        "mean of all": round(float(np.mean(steps[1:])), 2),
        "ratios": [round(each, 2) for each in here],
        "ratio elsewhere, mean": round(float(np.mean(elsewhere)), 2),
        "ratio elsewhere, 95th of 100": round(float(np.percentile(elsewhere, 95)), 2),
        "ratio at other blocks' ends, mean": round(float(np.mean(at_blocks)), 2),
    }


def measure(measurement: Measurement, truths: list[Alpha], pieces: list[int]) -> dict[str, Any]:
    """What the whole's mask and each cut one's have in common, and their steps."""
    whole, cost = measurement.whole()
    length = measurement.grid.window_frames
    bounds = list(range(length, len(whole) - windows.CONTEXT_FRAMES, length))
    found: dict[str, Any] = {
        "clip": measurement.clip.stem,
        "frames": len(whole),
        "window": length,
        "whole": cost,
        "at windows' ends": compare_steps(steps_of(whole, truths), bounds),
        "cut": [],
    }
    for number in pieces:
        joined, starts, cut_cost = measurement.in_segments(number)
        js = [
            region_similarity(one >= FOREGROUND, other >= FOREGROUND)
            for one, other in zip(whole, joined, strict=True)
        ]
        equal = [bool(np.array_equal(*pair)) for pair in zip(whole, joined, strict=True)]
        row = {
            "segments": len(starts),
            "first frames": starts,
            **(_beside(cut_cost, cost) if cost else {}),
            "J between the two": round(100 * float(np.mean(js)), 3),
            "the worst frame's": round(100 * min(js), 2),
            "frames without any difference": sum(equal),
        }
        if not all(equal):
            row["at seams"] = compare_steps(steps_of(joined, truths), starts[1:])
        found["cut"].append(row)
    return found


def main() -> None:
    """Print what each clip gave, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", help="files, or names of sequences")
    parser.add_argument("--quality", type=Quality, default=Quality.FAST)
    parser.add_argument("--pieces", type=int, nargs="*", default=[2], help="into how many")
    parser.add_argument("--window", type=int, default=SEGMENT_GRID.window_frames, help="frames")
    parser.add_argument("--least", type=int, help="frames of a segment; three windows without")
    parser.add_argument("--frames", type=int, default=864, help="of a sequence")
    parser.add_argument("--rows", type=int, default=480, help="of a sequence's pictures")
    parser.add_argument("--cost", action="store_true", help="mask the whole a second time")
    asked = parser.parse_args()
    if asked.window < 2 * windows.CONTEXT_FRAMES:
        parser.error(f"a window has at least {2 * windows.CONTEXT_FRAMES} frames")
    grid = SegmentGrid(asked.window, SEGMENT_GRID.context_frames, asked.least or 3 * asked.window)
    if grid == replace(SEGMENT_GRID, frames_per_cut=grid.frames_per_cut):
        grid = SEGMENT_GRID
    windows.WINDOW_FRAMES = grid.window_frames
    network = Session(model_path())
    inference_s = inference_cpu_s(network)
    reported = []
    for name in asked.clips:
        with tempfile.TemporaryDirectory(prefix="foremask-seam-") as directory:
            folder, sequence = Path(directory), folder_of(name)
            clip, truths = Path(name), list[Alpha]()
            if sequence is not None:
                clip = folder / f"{name}.mp4"
                truths = played(sequence, clip, asked.frames, asked.rows)
            measurement = Measurement(
                clip, folder, asked.quality, grid, Remembering(network), inference_s, asked.cost
            )
            reported.append(measure(measurement, truths, asked.pieces))
        print(json.dumps(reported[-1]), file=sys.stderr, flush=True)
    found = {"quality": asked.quality, "cpu-s an inference": round(inference_s, 3)}
    print(json.dumps({**found, "clips": reported, "machine": facts()}, indent=2))


if __name__ == "__main__":
    main()
