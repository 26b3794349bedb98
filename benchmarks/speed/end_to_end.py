"""How fast it is, end to end, beside the tools that people use today.

``python -m benchmarks.speed.end_to_end`` scales the development sequences to ``--height`` rows
(1080), masks each with every tier, H.264 in and mp4_h264 out, and runs the peers on the same frames
in between. Each run is a process of its own, so that its memory is its own. Prints a table.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import facts, header, options, row
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


def one_run(source: Path, quality: Quality) -> list[float]:
    """Mask one file in this process, the network being there: ms and cpu-ms a frame, MiB beyond it."""
    from foremask.masking.pipeline import mask_video
    from foremask.options import Device
    from foremask.vision.network.devices import network_at

    network_at(model_path(), Device())
    before_mib = peak_mib()
    started, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        chosen = MaskOptions(quality=quality, model=model_path())
        frames = mask_video(source, Path(folder) / "mask.mp4", chosen).frames_out
    spent_s = time.monotonic() - started, time.process_time() - cpu
    return [*(1000 * each / frames for each in spent_s), peak_mib() - before_mib]


def peak_mib() -> float:
    """The most memory that this program has had; getrusage would count what its parent had before."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_process(source: Path, quality: Quality) -> list[float]:
    """`one_run` in a process of its own."""
    program = [sys.executable, "-m", "benchmarks.speed.end_to_end"]
    words = [*program, "--one", str(source), quality.value]
    environment = os.environ | ONE_THREAD  # NumPy is loaded before `prepare`
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run everything, or with ``--one`` a single masking."""
    args = options(__doc__, one=[], clips=[], height=1080)
    if args.one:
        process_setup.prepare()
        print(json.dumps(one_run(Path(args.one[0]), Quality(args.one[1]))))
        return
    clips = [c for c in clips_in(DATA / "davis") if not args.clips or c.name in args.clips]
    header(
        "clip",
        "tier",
        "ms a frame",
        "cpu-ms",
        "rembg ms",
        "ratio",
        "RVM ms",
        "MiB beyond the model",
    )
    with tempfile.TemporaryDirectory() as name, Peers(Path(name)) as peers:
        for clip in clips:
            source = Path(name) / f"{clip.name}.mp4"
            encode(clip, source, args.height)
            rembg_ms = 1000 * peers.rembg_s(clip, args.height)
            rvm_ms = 1000 * peers.rvm(clip, args.height)[1]
            for quality in Quality:
                wall_ms, cpu_ms, mib = in_process(source, quality)
                ratio = f"{rembg_ms / wall_ms:.1f}"
                costs = round(wall_ms), round(cpu_ms), round(rembg_ms), ratio, round(rvm_ms)
                row(clip.name, quality, *costs, round(mib))
    print(json.dumps(facts()))


if __name__ == "__main__":
    main()
