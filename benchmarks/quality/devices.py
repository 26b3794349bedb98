"""Is the mask the same on every device, and what does an inference cost there?

``python -m benchmarks.quality.devices CLIP... --device cpu onnxruntime cuda`` masks each clip (a
name of a DAVIS sequence, or a video file) on each device, and prints J between each pair of masks,
J&F where the truth is known, and milliseconds an inference. ``cpu`` runs in int8, in bf16 where the
processor has it, and in f32.
"""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import DATA, Clip
from benchmarks.machine import facts, options
from benchmarks.quality.scores import FOREGROUND, region_similarity, score
from benchmarks.quality.tiers import Numbered, Timed, by_tier
from foremask.options import Device, Quality, Runtime
from foremask.types import Alpha
from foremask.vision.network.devices import network_at
from foremask.vision.network.session import Network, Precision, Session, cpu_float
from foremask.weights.catalogue import model_path


def networks_on(devices: list[Device]) -> list[Network]:
    """One network for each device; of OpenVINO on the processor, one for each precision."""
    found: list[Network] = []
    for device in devices:
        if device.runtime is Runtime.CPU:
            every = dict.fromkeys([Precision.INT8, Precision(cpu_float()), Precision.F32])
            found += [Session(model_path(), precision=each) for each in every]
        else:
            network_at.cache_clear()
            found.append(network_at(model_path(), device))
    return found


def compared(clip: Clip, networks: list[Network], quality: Quality, most: int) -> dict[str, Any]:
    """J of each pair of masks, and what each mask scores and costs."""
    images = [Numbered(frame, n) for n, frame in zip(range(most), clip.frames(), strict=False)]
    truths = clip.truths()[:most]
    masks: dict[str, list[Alpha]] = {}
    found: dict[str, Any] = {"clip": clip.name, "frames": len(images)}
    for network in networks:
        timed = Timed(network)
        masks[timed.runtime] = by_tier(images, timed, quality)
        found[timed.runtime] = {
            "inferences": timed.inferences,
            "ms an inference": round(1000 * timed.seconds / timed.inferences, 1),
            "J&F": round(score(masks[timed.runtime], truths).jf, 2) if truths else None,
        }
    for one, other in combinations(masks, 2):
        pairs = zip(masks[one], masks[other], strict=True)
        js = [region_similarity(a >= FOREGROUND, b >= FOREGROUND) for a, b in pairs]
        found[f"J, {one} and {other}"] = round(100 * float(np.mean(js)), 2)
        found[f"J of the worst frame, {one} and {other}"] = round(100 * min(js), 2)
    return found


def main() -> None:
    """Print each clip's line as JSON, then the machine."""
    asked = options(__doc__, "clips...", device=["cpu"], quality=Quality.FAST, frames=10_000)
    networks = networks_on([Device.parse(each) for each in asked.device])
    for name in asked.clips:
        folder = DATA / "davis" / name
        clip = Clip(folder if folder.is_dir() else Path(name))
        print(json.dumps(compared(clip, networks, asked.quality, asked.frames)), flush=True)
    print(json.dumps(facts()))


if __name__ == "__main__":
    main()
