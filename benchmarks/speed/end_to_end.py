"""How fast it is, end to end, beside the tools that people use today.

``python -m benchmarks.speed.end_to_end`` scales the development sequences to ``--height`` rows
(1080), masks each with every tier, H.264 in and mp4_h264 out, and runs the peers on the same frames
in between. Each run is a process of its own, so that its memory is its own. Prints a table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks import machine
from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.speed.peers import Peers
from foremask.machine import process_setup
from foremask.machine.process_setup import ONE_THREAD
from foremask.options import MaskOptions, Quality
from foremask.weights.catalogue import model_path


def encode(clip: Clip, path: Path, height: int) -> None:
    """The sequence as H.264 at ``height`` rows and 24 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "fast", "crf": "18"})
        for number, frame in enumerate(clip.frames()):
            width = 2 * round(frame.shape[1] * height / frame.shape[0] / 2)
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            scaled = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
            image = av.VideoFrame.from_ndarray(np.asarray(scaled, np.uint8), format="rgb24")
            image.pts, image.time_base = number, Fraction(1, 24)
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def one_run(source: Path, quality: Quality) -> dict[str, Any]:
    """Mask one file in this process; the network is loaded before the clock starts."""
    from foremask.masking.pipeline import mask_video
    from foremask.options import Device
    from foremask.vision.network.devices import network_at

    network_at(model_path(), Device())
    before_mib = peak_mib()
    started, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        options = MaskOptions(quality=quality, model=model_path())
        report = mask_video(source, Path(folder) / "mask.mp4", options)
    frames = report.frames_out
    return {
        "wall_ms": 1000 * (time.monotonic() - started) / frames,
        "cpu_ms": 1000 * (time.process_time() - cpu) / frames,
        "peak_mib_beyond_model": peak_mib() - before_mib,
    }


def peak_mib() -> float:
    """The most memory that this program has had; getrusage would count what its parent had before."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_process(source: Path, quality: Quality) -> dict[str, Any]:
    """`one_run` in a process of its own."""
    program = [sys.executable, "-m", "benchmarks.speed.end_to_end"]
    words = [*program, "--one", str(source), quality.value]
    environment = os.environ | ONE_THREAD  # NumPy is loaded before `prepare`
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Run everything, or with ``--one`` a single masking."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2)
    parser.add_argument("--clips", nargs="*", default=[])
    parser.add_argument("--height", type=int, default=1080)
    args = parser.parse_args()
    if args.one:
        process_setup.prepare()
        print(json.dumps(one_run(Path(args.one[0]), Quality(args.one[1]))))
        return
    clips = [c for c in clips_in(DATA / "davis") if not args.clips or c.name in args.clips]
    columns = "clip | tier | ms a frame | cpu-ms a frame | rembg ms | ratio | RVM ms | MiB beyond the model"
    print(f"| {columns} |\n" + "|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as name, Peers(Path(name)) as peers:
        for clip in clips:
            source = Path(name) / f"{clip.name}.mp4"
            encode(clip, source, args.height)
            rembg_ms = 1000 * peers.rembg_s(clip, args.height)
            rvm_ms = 1000 * peers.rvm(clip, args.height)[1]
            for quality in Quality:
                row = in_process(source, quality)
                print(
                    f"| {clip.name} | {quality} | {row['wall_ms']:.0f} | {row['cpu_ms']:.0f} "
                    f"| {rembg_ms:.0f} | {rembg_ms / row['wall_ms']:.1f} | {rvm_ms:.0f} "
                    f"| {row['peak_mib_beyond_model']:.0f} |",
                    flush=True,
                )
    print(json.dumps(machine.facts()))


if __name__ == "__main__":
    main()
