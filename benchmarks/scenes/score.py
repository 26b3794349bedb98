"""Masks the rendered scenes in every quality, and scores the masks against their exact alpha.

``python -m benchmarks.scenes.score`` prints a table; README.md says what the scenes are.
"""

import tempfile
from pathlib import Path

import numpy as np

import foremask
from benchmarks.clips import masks_of
from benchmarks.machine import header, row
from benchmarks.quality.scores import score

HERE = Path(__file__).parent
SCENES = ("animal", "person", "thing")


def main() -> None:
    """Mask and score every scene."""
    header("scene", "quality", "J", "F", "MAD", "dtSSD")
    with tempfile.TemporaryDirectory() as folder:
        for scene in SCENES:
            levels = masks_of(HERE / f"{scene}.alpha.webm")
            truths = [np.divide(each, 255, dtype=np.float32) for each in levels]
            for quality in foremask.Quality:
                target = Path(folder) / f"{scene}-{quality}.mp4"
                foremask.mask_video(HERE / f"{scene}.webm", target, quality=quality.value)
                found = score([alpha for _, alpha in foremask.read_masks(target)], truths)
                rounded = [round(each, 1) for each in (found.j, found.f, found.mae)]
                row(scene, f"`{quality}`", *rounded, round(found.dtssd, 2))


if __name__ == "__main__":
    main()
