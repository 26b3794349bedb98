"""Is the mask the same on every device, and what does an inference cost there?

``python -m benchmarks.quality.devices [CLIP...] --device cpu onnxruntime cuda`` masks each clip (a
name of a DAVIS sequence, or a video file) on each device, and compares the finished masks in pairs.
``cpu`` runs in int8, in bf16 where the processor has it, and in f32, or in ``--numerics``. Where the
truth is known, J&F is given too. Each clip's line is printed when it is done. ``--keep FOLDER`` writes its masks there.
``--batches 1 4 8`` times the network alone, for ONNX Runtime.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import DATA, Clip
from benchmarks.machine import facts
from benchmarks.quality.footage import Footage
from benchmarks.quality.scores import FOREGROUND, region_similarity, score
from benchmarks.quality.tiers import Numbered, by_tier
from foremask.options import Device, Quality, Runtime
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage
from foremask.vision.network.devices import network_at
from foremask.vision.network.onnx_session import PICTURE, OnnxSession
from foremask.vision.network.session import (
    InputSize,
    Network,
    NetworkOutput,
    Precision,
    Session,
    cpu_float,
)
from foremask.vision.resample import as_levels
from foremask.weights.catalogue import model_path

TIMED = 20  # runs of the network for each batch


@dataclass(slots=True)
class Timed:
    """A network whose inferences are counted and timed; all of them must hand out features."""

    network: Network
    inferences: int = 0
    seconds: float = 0.0

    @property
    def runtime(self) -> str:
        """The network's."""
        return self.network.runtime

    @property
    def any_size(self) -> bool:
        """The network's."""
        return self.network.any_size

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """As the network."""
        began = time.perf_counter()
        output = self.network.infer(image, size)
        self.seconds += time.perf_counter() - began
        self.inferences += 1
        if not output.features:
            raise SystemExit(f"{self.runtime} hands out no features")
        return output


def networks_on(devices: list[Device], numerics: list[Precision]) -> list[Network]:
    """One network for each device; of OpenVINO on the processor, one for each of ``numerics``."""
    found: list[Network] = []
    for device in devices:
        if device.runtime is Runtime.CPU:
            found += [Session(model_path(), precision=each) for each in numerics]
        else:
            network_at.cache_clear()
            found.append(network_at(model_path(), device))
    return found


def frames_of(name: str, most: int) -> tuple[list[Numbered], list[Alpha]]:
    """The frames of a sequence or of a file, and their truth where it is known."""
    folder = DATA / "davis" / name
    if folder.is_dir():
        clip = Clip(folder)
        frames, truths = list(clip.frames())[:most], clip.truths()[:most]
    else:
        frames, truths = list(Footage(Path(name)).frames())[:most], []
    return [Numbered(frame, number) for number, frame in enumerate(frames)], truths


def compared(
    name: str, networks: list[Network], quality: Quality, most: int, keep: Path | None = None
) -> dict[str, Any]:
    """One clip: J of each pair of masks, and what each mask scores and costs."""
    images, truths = frames_of(name, most)
    masks: dict[str, list[Alpha]] = {}
    each: dict[str, Any] = {}
    for network in networks:
        timed = Timed(network)
        masks[timed.runtime] = by_tier(images, timed, quality)
        row: dict[str, Any] = {
            "inferences": timed.inferences,
            "ms an inference": round(1000 * timed.seconds / timed.inferences, 1),
        }
        if truths:
            row["J&F"] = round(score(masks[timed.runtime], truths).jf, 2)
        each[timed.runtime] = row
    if keep is not None:
        kept = {runtime: np.stack([as_levels(a) for a in each]) for runtime, each in masks.items()}
        for runtime, levels in kept.items():
            np.save(keep / f"{Path(name).stem}-{quality}-{runtime.replace(' ', '-')}.npy", levels)
    pairs = {}
    for one, other in combinations(masks, 2):
        js = [
            region_similarity(a >= FOREGROUND, b >= FOREGROUND)
            for a, b in zip(masks[one], masks[other], strict=True)
        ]
        pairs[f"{one} and {other}"] = {
            "J": round(100 * float(np.mean(js)), 2),
            "worst frame": round(100 * min(js), 2),
            "its number": int(np.argmin(js)),
        }
    return {"clip": name, "frames": len(images), "pairs": pairs, "each": each}


def timings(networks: list[Network], batches: list[int]) -> dict[str, dict[int, float]]:
    """Milliseconds a picture of the network alone, pixels in host memory to mask and features."""
    image = ArrayImage(np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), np.uint8))
    found: dict[str, dict[int, float]] = {}
    for network in networks:
        if not isinstance(network, OnnxSession):
            continue
        pixels = image.rgb(network.spec.size_px, network.spec.size_px)
        for batch in batches:
            pictures = {PICTURE: np.repeat(pixels[None], batch, axis=0)}
            network.run(pictures)
            began = time.perf_counter()
            for _ in range(TIMED):
                network.run(pictures)
            ms = 1000 * (time.perf_counter() - began) / TIMED / batch
            found.setdefault(network.runtime, {})[batch] = round(ms, 2)
    return found


def main() -> None:
    """Print what was found, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", help="names of sequences, or files")
    parser.add_argument(
        "--device", type=Device.parse, nargs="*", default=[Device.parse("cpu")], dest="devices"
    )
    parser.add_argument("--quality", type=Quality, default=Quality.FAST)
    parser.add_argument("--frames", type=int, default=10_000, help="at most, of each clip")
    every = list(dict.fromkeys([Precision.INT8, Precision(cpu_float()), Precision.F32]))
    parser.add_argument("--numerics", type=Precision, nargs="*", default=every, help="of cpu")
    parser.add_argument("--keep", type=Path, help="a folder for the masks")
    parser.add_argument("--batches", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    networks = networks_on(asked.devices, asked.numerics)
    reported = []
    for each in asked.clips:
        reported.append(compared(each, networks, asked.quality, asked.frames, asked.keep))
        print(json.dumps(reported[-1]), file=sys.stderr, flush=True)
    print(
        json.dumps(
            {
                "quality": asked.quality,
                "clips": reported,
                "ms a picture, by batch": timings(networks, asked.batches),
                "machine": facts(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
