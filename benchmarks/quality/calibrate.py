"""Measure the activation ranges of IS-Net for 8 bits and write ``vision/network/isnet_int8.json``.

``python -m benchmarks.quality.calibrate CLIP ...``: needs NNCF, which is no dependency of ours; run
it in a throw-away environment: ``uv run --with nncf python -m benchmarks.quality.calibrate ...``.
Use clips that are no benchmark's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from foremask.media.reader import VideoReader
from foremask.vision.network.graph import pruned
from foremask.vision.network.session import as_input
from foremask.weights.catalogue import ISNET, model_path

TABLE = Path("src/foremask/vision/network/isnet_int8.json")


def inputs_of(clip: Path, frames: int) -> list[np.ndarray]:
    """``frames`` pictures spread evenly over a clip, as the network wants them."""
    with VideoReader(clip) as reader:
        every = max(1, (reader.clip.expected_frames or frames) // frames)
        size_px = ISNET.spec.size_px
        return [
            as_input(frame.rgb(size_px, size_px), ISNET.spec)
            for frame in reader
            if frame.index % every == 0
        ][:frames]


def number(node: Any) -> float:  # noqa: ANN401  OpenVINO ships no types
    """The single value of a constant, through conversions."""
    while node.get_type_name() != "Constant":
        node = node.input(0).get_source_output().get_node()
    return round(float(np.asarray(node.data).ravel()[0]), 4)


def rows(quantized: ov.Model) -> list[dict[str, Any]]:
    """For each quantised tensor: which inputs read it, and its range."""
    found = []
    for node in quantized.get_ops():
        if node.get_type_name() == "FakeQuantize":
            low, high = (number(node.input(i).get_source_output().get_node()) for i in (1, 2))
            readers = [
                f"{each.get_node().get_friendly_name()}:{each.get_index()}"
                for each in node.output(0).get_target_inputs()
            ]
            found.append({"into": sorted(readers), "low": low, "high": high})
    return sorted(found, key=lambda row: row["into"])


def main() -> None:
    """Quantise with NNCF and keep the ranges."""
    import nncf  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=16, help="from each clip")
    args = parser.parse_args()
    batches = [batch for clip in args.clips for batch in inputs_of(clip, args.frames)]
    # Saved and read again: NNCF finds its way only in a network whose names are settled.
    scratch = TABLE.with_name("calibrating.xml")
    ov.save_model(pruned(ov.Core().read_model(model_path()), ISNET.spec), scratch)
    network = ov.Core().read_model(scratch)
    quantized = nncf.quantize(
        network,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
    )
    for each in (scratch, scratch.with_suffix(".bin")):
        each.unlink()
    lines = ",\n".join(json.dumps(row) for row in rows(quantized))
    TABLE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
