"""Does a mask that was made in segments show it, and what does it cost? ``python -m benchmarks.quality.seam CLIP...`` with the real network.

Each clip (a file, or the name of a sequence, which is played to and fro for a quarter of a minute)
is masked whole, and as the service does it: cut, masked span by span, joined. ``--pieces 2 4`` cuts
into at most that many, of whole windows.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.clips import DATA, Clip
from benchmarks.machine import facts
from benchmarks.quality.scores import FOREGROUND, region_similarity
from foremask.masking.pipeline import mask_video
from foremask.media import segments
from foremask.options import MaskOptions, Preset, Quality
from foremask.types import Alpha
from foremask.vision.network.devices import network_at
from foremask.weights.catalogue import model_path

FPS, LENGTH_S = 24, 15


def played(name: str, target: Path) -> Path:
    """A sequence, to and fro, as a clip with a keyframe a second."""
    frames = list(Clip(DATA / "davis" / name).frames())
    round_trip = [*frames, *frames[-2:0:-1]]
    with av.open(str(target), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"crf": "16", "preset": "veryfast"}
        )
        stream.height, stream.width = (2 * (each // 2) for each in frames[0].shape[:2])
        stream.pix_fmt, stream.gop_size = "yuv420p", FPS
        for index in range(FPS * LENGTH_S):
            image = round_trip[index % len(round_trip)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return target


def masks(path: Path) -> Iterator[tuple[float, Alpha]]:
    """Each frame's time and mask."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield (
                float(frame.time or 0),
                frame.to_ndarray(format="gray").astype(np.float32) / np.float32(255),
            )


def measure(
    clip: Path, folder: Path, quality: Quality, pieces: list[int]
) -> Iterator[dict[str, Any]]:
    """What the whole's mask and each cut one's have in common, frame by frame."""
    options = MaskOptions(preset=Preset.MP4_H264, quality=quality)
    whole = folder / "whole.mp4"
    network_at(model_path(), options.device)  # loaded before the clock starts
    began = time.process_time()
    mask_video(clip, whole, options)
    whole_s = time.process_time() - began
    for number in pieces:
        with tempfile.TemporaryDirectory(dir=folder) as directory:
            cut = _measure_cut(clip, Path(directory), options, whole, number)
        yield {"clip": clip.name, "cpu-s for the whole": round(whole_s, 1), **cut}


def _measure_cut(
    clip: Path, folder: Path, options: MaskOptions, whole: Path, number: int
) -> dict[str, Any]:
    joined, began = folder / "joined.mp4", time.process_time()
    parts, spans = [], segments.plan(clip, number)
    for index, span in enumerate(spans):
        piece, part = folder / f"piece-{index}", folder / f"part-{index}.mp4"
        segments.cut(clip, span, piece)
        mask_video(piece, part, options, span=span)
        parts.append(part)
    segments.join(parts, clip, joined, options.preset)
    joined_s = time.process_time() - began
    with av.open(str(clip)) as opened:
        base = opened.streams.video[0].time_base
    seams = [float(span.first_pts * base) for span in spans[1:]] if base else []
    js, errors, at_seam = [], [], []
    equal = 0
    for (moment, one), (same, other) in zip(masks(whole), masks(joined), strict=True):
        assert abs(moment - same) < 1e-3  # noqa: S101
        js.append(region_similarity(one >= FOREGROUND, other >= FOREGROUND))
        errors.append(other - one)
        equal += int(np.array_equal(one, other))
        at_seam.append(any(abs(moment - seam) < 0.5 / FPS for seam in seams))
    steps = [100 * float(np.sqrt(np.mean((b - a) ** 2))) for a, b in pairwise(errors)]
    crossing = [step for step, seam in zip(steps, at_seam[1:], strict=True) if seam]
    inside = [step for step, seam in zip(steps, at_seam[1:], strict=True) if not seam]
    return {
        "frames": len(js),
        "segments": len(spans),
        "cpu-s in segments": round(joined_s, 1),
        "J between the two": round(100 * float(np.mean(js)), 2),
        "the worst frame's": round(100 * min(js), 2),
        "dtSSD over the seams": [round(step, 2) for step in crossing],
        "dtSSD elsewhere, mean": round(float(np.mean(inside)), 2),
        "dtSSD elsewhere, 95th of 100": round(float(np.percentile(inside, 95)), 2),
        "frames without any difference": equal,
        "J of each second": [
            round(100 * float(np.mean(js[at : at + FPS])), 1) for at in range(0, len(js), FPS)
        ],
    }


def main() -> None:
    """Print what each clip gave, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", help="files, or names of sequences")
    parser.add_argument("--quality", type=Quality, default=Quality.FAST)
    parser.add_argument("--pieces", type=int, nargs="*", default=[2], help="into how many")
    asked = parser.parse_args()
    reported: list[dict[str, Any]] = []
    for name in asked.clips:
        with tempfile.TemporaryDirectory(prefix="foremask-seam-") as directory:
            folder = Path(directory)
            clip = Path(name) if Path(name).is_file() else played(name, folder / f"{name}.mp4")
            reported += measure(clip, folder, asked.quality, asked.pieces)
    print(json.dumps({"quality": asked.quality, "clips": reported, "machine": facts()}, indent=2))


if __name__ == "__main__":
    main()
