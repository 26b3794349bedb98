"""Write the two halves of the network as ONNX files, for measuring them with OpenVINO.

    python -m training.export WEIGHTS DELTA FOLDER

`encoder.onnx` runs once for a picture, `decoder.onnx` once for a prompt. `samples.txt` has the
number of samples that they were trained on.
"""

import sys
from pathlib import Path

import torch

from training import delta
from training.network import PromptedNetwork
from training.prompts import CHANNELS, SIDE_PX


def export(weights: Path, trained: Path, folder: Path) -> None:
    network = PromptedNetwork(weights).eval()
    progress = delta.load(trained, network)
    quarter = SIDE_PX // 4
    image = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    stage2 = torch.zeros(1, 128, quarter, quarter)
    prompts = torch.zeros(1, CHANNELS, quarter, quarter)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "samples.txt").write_text(f"{progress.samples}\n")
    with torch.no_grad():
        torch.onnx.export(
            network.encoder, (image,), folder / "encoder.onnx", opset_version=17, dynamo=False
        )
        torch.onnx.export(
            network, (stage2, prompts), folder / "decoder.onnx", opset_version=17, dynamo=False
        )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
