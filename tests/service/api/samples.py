"""``python -m tests.service.api.samples`` writes the masks and thumbnails of the sample clips."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import cv2
import imageio_ffmpeg
import numpy as np
from benchmarks.clips import frames_of, frames_per_second, masks_of

from foremask.masking.pipeline import mask_video
from foremask.options import MaskOptions, Preset
from foremask.types import Levels, Rgb

SAMPLES: Final = Path(__file__).parents[3] / "src/foremask/service/api/static/samples"
BEHIND: Final = {"bird": 0xF2B134, "person": 0x2563C9, "flower": 0x1D6F78}
"""The colour behind each cut-out; samples.js has the same."""
THUMBNAIL_PX: Final = (240, 135)


def mask(name: str) -> list[Levels]:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "mask.webm"
        mask_video(SAMPLES / f"{name}.webm", made, MaskOptions(preset=Preset.WEBM_VP9))
        return list(masks_of(made))


def on_colour(rgb: Rgb, levels: Levels, colour: int) -> Rgb:
    alpha = levels[..., None] / np.float32(255)
    behind = np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.float32)
    return np.rint(rgb * alpha + behind * (1 - alpha)).astype(np.uint8)


def write(path: Path, frames: Iterable[Rgb], fps: float, *options: str) -> None:
    pictures = list(frames)
    height, width = pictures[0].shape[:2]
    taken = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps))
    program = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *taken, "-i", "-")
    command = [*program, *options, str(path)]
    subprocess.run(command, input=b"".join(map(bytes, pictures)), check=True)  # noqa: S603


def main() -> None:
    for name, colour in BEHIND.items():
        clip = SAMPLES / f"{name}.webm"
        frames, masks = list(frames_of(clip)), mask(name)
        as_pictures = (np.repeat(levels[..., None], 3, 2) for levels in masks)
        vp9 = ("-c:v", "libvpx-vp9", "-crf", "34", "-b:v", "0", "-pix_fmt", "yuv420p")
        write(clip.with_stem(f"{name}-mask"), as_pictures, frames_per_second(clip), *vp9)
        at = len(masks) * 2 // 3
        cut = _round_subject(on_colour(frames[at], masks[at], colour), masks[at])
        small = cv2.resize(cut[..., ::-1], THUMBNAIL_PX, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(clip.with_suffix(".webp")), small, [cv2.IMWRITE_WEBP_QUALITY, 80])


def _round_subject(picture: Rgb, levels: Levels) -> Rgb:
    height, width = levels.shape
    left, top, wide, tall = cv2.boundingRect((levels > 127).astype(np.uint8))
    part_tall = min(height, width * 9 // 16, round(1.15 * max(tall, wide * 9 / 16)))
    part_wide = part_tall * 16 // 9
    x = min(width - part_wide, max(0, left + (wide - part_wide) // 2))
    y = min(height - part_tall, max(0, top - part_tall // 16))
    return picture[y : y + part_tall, x : x + part_wide]


if __name__ == "__main__":
    main()
