"""Masks the rendered scenes in every quality, and scores the masks against their exact alpha.

``python -m benchmarks.scenes.score FOLDER`` reads what `render` wrote. It writes beside each scene
its clip, its alpha and its masks as videos, and prints the table of docs/quality.md.
"""

import argparse
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

import foremask
from benchmarks.quality.scores import score
from foremask.types import Alpha

RATE = 16


def frames_of(scene: Path) -> tuple[list[Path], int]:
    """The frames that are rendered with their alpha, evenly spaced, and their rate.

    All frames count, or every second one where only these are there.
    """
    numbers = sorted(
        int(each.stem)
        for each in (scene / "frames").glob("*.png")
        if (scene / "alpha" / each.name).exists()
    )
    step = 1 if numbers == list(range(1, len(numbers) + 1)) else 2
    chosen = [number for number in numbers if (number - 1) % step == 0]
    return [scene / "frames" / f"{number:04}.png" for number in chosen], RATE // step


def alpha_of(frame: Path) -> Alpha:
    """The exact coverage of the subject in a frame."""
    picture = cv2.imread(str(frame.parents[1] / "alpha" / frame.name), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise FileNotFoundError(frame)
    white = 65535 if picture.dtype == np.uint16 else 255
    return np.divide(picture[..., 3], white, dtype=np.float32)


def encode(pictures: list[Path], rate: int, target: Path, chain: str) -> None:
    """A video of pictures, nearly lossless."""
    listed = "".join(f"file '{each.resolve()}'\nduration {1 / rate}\n" for each in pictures)
    target.with_suffix(".txt").write_text(listed)
    subprocess.run(  # noqa: S603
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-f", "concat", "-safe", "0", "-r", str(rate)),
            *("-i", str(target.with_suffix(".txt")), "-vf", chain, "-r", str(rate)),
            *("-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p", str(target)),
        ],
        check=True,
    )
    target.with_suffix(".txt").unlink()


def main() -> None:
    """Mask and score every scene of a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scene", action="append")
    asked = parser.parse_args()
    print("| scene | quality | J | F | MAD | dtSSD |\n|---|---|---|---|---|---|")
    table = {}
    for scene in sorted(each.parent for each in asked.folder.glob("*/frames")):
        if asked.scene and scene.name not in asked.scene:
            continue
        frames, rate = frames_of(scene)
        clip = asked.folder / f"{scene.name}.mp4"
        encode(frames, rate, clip, "null")
        alphas = [scene / "alpha" / each.name for each in frames]
        encode(alphas, rate, asked.folder / f"{scene.name}.alpha.mp4", "alphaextract,format=gray")
        truths = [alpha_of(each) for each in frames]
        for quality in foremask.Quality:
            target = asked.folder / f"{scene.name}.mask-{quality.value}.mp4"
            foremask.mask_video(clip, target, quality=quality.value, replace=True)
            masks = [alpha for _, alpha in foremask.read_masks(target)]
            found = score(masks, truths)
            table[f"{scene.name} {quality.value}"] = asdict(found) | {"frames": len(frames)}
            print(
                f"| {scene.name} | `{quality.value}` | {found.j:.1f} | {found.f:.1f} "
                f"| {found.mae:.1f} | {found.dtssd:.2f} |",
                flush=True,
            )
        (asked.folder / "scores.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
