"""Measures the speed of masking files next to rembg, which runs the same network on each frame.

``python -m benchmarks.speed.end_to_end`` scales the development sequences to ``--height`` rows
(1080) and masks each with every tier, from H.264 to mp4_h264; between the tiers, rembg masks the
same frames. Each run is a process of its own, so that its memory can be measured. Prints a table.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import facts, header, row, run
from foremask.machine import process_setup
from foremask.machine.process_setup import ONE_THREAD
from foremask.masking.runner import run as run_masking
from foremask.options import Files, JobSpec, Quality, Resources
from foremask.pipeline.networks import network_for
from foremask.weights.catalogue import model_path

PACKAGES: Final = ("rembg==2.0.86", "onnxruntime==1.32.0")
REMBG_FRAMES: Final = 6
_REMBG: Final = """
import sys, time
from PIL import Image
from rembg import new_session, remove
session = new_session("isnet-general-use")
frames = [Image.open(path) for path in sys.argv[1:]]
remove(frames[0], session=session, only_mask=True)
started = time.monotonic()
for frame in frames:
    remove(frame, session=session, only_mask=True)
print((time.monotonic() - started) / len(frames))
"""


def with_rembg(folder: Path) -> Path:
    """Return the Python of a temporary environment with rembg and our weights."""
    python = folder / "env/bin/python"
    uv = shutil.which("uv") or str(Path(".uv/bin/uv").resolve())
    make = [uv, "venv", "-q", "--python", sys.executable, str(folder / "env")]
    install = [uv, "pip", "install", "-q", "--python", str(python), *PACKAGES]
    for words in (make, install):
        subprocess.run(words, check=True)  # noqa: S603
    (folder / "isnet-general-use.onnx").symlink_to(model_path())
    return python


def rembg_ms(python: Path, clip: Clip, folder: Path, height: int) -> float:
    paths = []
    for number, frame in enumerate(islice(clip.frames(), REMBG_FRAMES)):
        width = round(frame.shape[1] * height / frame.shape[0])
        paths.append(str(folder / f"{number:05}.png"))
        cv2.imwrite(paths[-1], cv2.resize(frame[..., ::-1], (width, height)))
    own = {"U2NET_HOME": str(folder), "HOME": str(folder), "MODEL_CHECKSUM_DISABLED": "1"}
    done = subprocess.run(  # noqa: S603
        [str(python), "-c", _REMBG, *paths],
        capture_output=True,
        text=True,
        check=True,
        env=own | {"PATH": os.environ["PATH"]},
    )
    return 1000 * float(done.stdout.splitlines()[-1])


def encode(clip: Clip, path: Path, height: int) -> None:
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
    """Mask a file in this process with a loaded network; return ms and cpu-ms a frame, and MiB."""
    process_setup.prepare()
    resources = Resources(model=model_path())
    network_for(resources)
    before_mib = peak_mib()
    started, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(source=source, target=Path(folder) / "mask.mp4")
        frames = run_masking(JobSpec(quality=quality), files, resources=resources).frames_out
    spent_s = time.monotonic() - started, time.process_time() - cpu
    return [*(1000 * each / frames for each in spent_s), peak_mib() - before_mib]


def peak_mib() -> float:
    """The most memory of this program; getrusage would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(*names: str, height: int = 1080) -> None:
    clips = [c for c in clips_in(DATA / "davis") if not names or c.name in names]
    header("clip", "tier", "ms a frame", "cpu-ms", "rembg ms", "ratio", "MiB beyond the model")
    os.environ.update(ONE_THREAD)  # before a process loads NumPy
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = with_rembg(folder)
        for clip in clips:
            source = folder / f"{clip.name}.mp4"
            encode(clip, source, height)
            peer_ms = rembg_ms(python, clip, folder, height)
            for quality in Quality:
                with ProcessPoolExecutor(1, get_context("spawn")) as own:
                    wall_ms, cpu_ms, mib = own.submit(one_run, source, quality).result()
                costs = round(wall_ms), round(cpu_ms), round(peer_ms), f"{peer_ms / wall_ms:.1f}"
                row(clip.name, quality, *costs, round(mib))
    print(json.dumps(facts()))


if __name__ == "__main__":
    run(main, __doc__)
