"""Measures what an inference of a network costs on this machine's processor.

``python -m benchmarks.speed.networks FILE.onnx...`` loads each file, with its side car, by the
product's own path, in a process of its own, and prints a row: how long loading takes, seconds and
processor-seconds of an inference, the most memory, and what `balanced` then costs a frame. Without
a file it measures the networks of the catalogue that are here. `training/random_birefnet.py` writes
BiRefNet with random weights, which take as long as others.
"""

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.machine import facts, header, row, run
from benchmarks.speed.end_to_end import peak_mib
from foremask.machine import paths, process_setup
from foremask.machine.process_setup import ONE_THREAD
from foremask.options import Device
from foremask.vision.image import ArrayImage
from foremask.vision.network.devices import network_at
from foremask.weights.catalogue import models

INFERENCES_PER_FRAME: Final = 0.36  # of `balanced`, on the clips of docs/quality.md
PICTURE: Final = (720, 1280, 3)


def measured(path: Path, device: str, inferences: int) -> dict[str, object]:
    process_setup.prepare()
    picture = np.random.default_rng(0).integers(0, 256, PICTURE).astype(np.uint8)
    began = time.monotonic()
    network = network_at(path, Device.parse(device))
    load_s = time.monotonic() - began
    walls = []
    cpus = []
    for _ in range(1 + inferences):
        wall, cpu = time.monotonic(), time.process_time()
        network.infer(ArrayImage(picture))
        walls.append(time.monotonic() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "runtime": network.runtime,
        "load_s": load_s,
        "wall_s": min(walls[1:]),  # of the first one, memory is still being taken
        "cpu_s": min(cpus[1:]),
        "peak_mib": peak_mib(),
    }


def main(*files: Path, device: str = "cpu", inferences: int = 3) -> None:
    folder = paths.cache_dir()
    chosen = files or [folder / each.file_name for each in models() if each.is_pulled(folder)]
    os.environ.update(ONE_THREAD)  # before a process loads NumPy
    header(
        *("network", "MB", "runtime", "load s", "s", "cpu-s", "MiB"),
        *("s a frame in balanced", "cpu-s a frame"),
    )
    for path in chosen:
        with ProcessPoolExecutor(1, get_context("spawn")) as own:
            costs = own.submit(measured, path, device, inferences).result()
        row(
            path.name,
            round(path.stat().st_size / 1e6),
            costs["runtime"],
            *(f"{costs[each]:.2f}" for each in ("load_s", "wall_s", "cpu_s")),
            f"{costs['peak_mib']:.0f}",
            *(
                f"{INFERENCES_PER_FRAME * float(str(costs[each])):.2f}"
                for each in ("wall_s", "cpu_s")
            ),
        )
    print(json.dumps(facts()))


if __name__ == "__main__":
    run(main, __doc__)
