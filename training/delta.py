"""The trained values in 16 bits: adapters, biases and new layers, and how far training has come."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.network import PromptedNetwork

COUNTS = "counts"


@dataclass
class Progress:
    samples: int = 0
    """Answers with a gradient."""
    pictures: int = 0
    """Crops that were drawn; a crop gives one or two samples."""
    steps: int = 0


def save(path: Path, values: dict[str, torch.Tensor], progress: Progress) -> None:
    """Write the file, or leave the one that was there."""
    arrays = {name: value.numpy().astype(np.float16) for name, value in values.items()}
    counts = np.array([progress.samples, progress.pictures, progress.steps], np.int64)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **{COUNTS: counts}, **arrays)
    part.replace(path)


def load(path: Path, network: PromptedNetwork) -> Progress:
    """Put the file's values into a network; raises ValueError where their names differ."""
    trained = network.trained()
    with np.load(path) as arrays:
        differing = set(arrays.files) ^ {COUNTS, *trained}
        if differing:
            raise ValueError(f"{path.name} and the network differ in {sorted(differing)[:5]}")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(torch.from_numpy(arrays[name].astype(np.float32)))
        samples, pictures, steps = arrays[COUNTS].tolist()
    return Progress(samples, pictures, steps)
