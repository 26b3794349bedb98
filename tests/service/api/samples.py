"""The clips of the page's first screen: ``python -m tests.service.api.samples`` masks them anew.

It writes each clip's mask and a small cut-out beside it, and the moving picture of the README. The
clips are other people's: their sources and licences are in the NOTICE of their folder.
"""

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

ROOT: Final = Path(__file__).parents[3]
SAMPLES: Final = ROOT / "src/foremask/service/api/static/samples"
HERO: Final = ROOT / "docs/pictures/hero.webp"
SEE: Final = ROOT / "docs/pictures/see.webp"
"""A clip, its mask and its cut-out side by side: the quickstart's."""
BEHIND: Final = {"bird": 0xF2B134, "person": 0x2563C9, "flower": 0x1D6F78}
"""The colour behind each cut-out; samples.js has the same."""
THUMBNAIL_PX: Final = (240, 135)
HERO_PX: Final = (560, 316)
HERO_FPS: Final = 15
SEEN_PX: Final = (320, 180)


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


def swept(rgb: Rgb, cut: Rgb, share: float) -> Rgb:
    both, at = cut.copy(), round(share * rgb.shape[1])
    both[:, :at] = rgb[:, :at]
    both[:, max(0, at - 1) : at + 2] = 255
    return both


def main() -> None:
    for name, colour in BEHIND.items():
        clip = SAMPLES / f"{name}.webm"
        frames, masks = list(frames_of(clip)), mask(name)
        as_pictures = (np.repeat(levels[..., None], 3, 2) for levels in masks)
        vp9 = ("-c:v", "libvpx-vp9", "-crf", "34", "-b:v", "0", "-pix_fmt", "yuv420p")
        write(clip.with_stem(f"{name}-mask"), as_pictures, frames_per_second(clip), *vp9)
        cuts = [on_colour(*pair, colour) for pair in zip(frames, masks, strict=True)]
        middle = len(cuts) * 2 // 3
        small = _scaled(_round_subject(cuts[middle], masks[middle]), THUMBNAIL_PX)
        cv2.imwrite(
            str(clip.with_suffix(".webp")), small[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 80]
        )
        if name == next(iter(BEHIND)):
            pairs = list(zip(frames, cuts, strict=True))[::2]
            pairs += pairs[::-1]  # to and fro: no jump where it begins anew
            shares = 0.5 + 0.34 * np.cos(np.linspace(0, 2 * np.pi, len(pairs), endpoint=False))
            shown = [swept(*pair, share) for pair, share in zip(pairs, shares, strict=True)]
            webp = ("-c:v", "libwebp_anim", "-loop", "0", "-quality", "90")
            write(HERO, (_scaled(each, HERO_PX) for each in shown), HERO_FPS, *webp)
            three = (frames[middle], np.repeat(masks[middle][..., None], 3, 2), cuts[middle])
            side_by_side = np.hstack([_scaled(each, SEEN_PX) for each in three])
            cv2.imwrite(str(SEE), side_by_side[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 80])


def _scaled(picture: Rgb, size: tuple[int, int]) -> Rgb:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


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
