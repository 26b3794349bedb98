"""Makes the clips of the page's first screen, masks them, and measures the masks against the exact alpha.

``python -m benchmarks.quality.samples FOLDER`` takes what `benchmarks.scenes.render` has rendered.
It writes clips, masks and scores into the page, and exact alphas into ``benchmarks/scenes/alpha``
for the test of those scores.
"""

import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np

from benchmarks.scenes.score import alpha_of, frames_of
from foremask.masking.pipeline import mask_video
from foremask.options import MaskOptions, Preset, Quality
from foremask.types import Levels, Rgb
from foremask.vision.resample import as_levels

STATIC: Final = Path(__file__).parents[2] / "src/foremask/service/api/static"
EXACT: Final = Path(__file__).parents[1] / "scenes/alpha"
LABELS: Final = {"person": "Person", "animal": "Animal", "thing": "Thing"}
HALF: Final = 128


def write(path: Path, frames: Iterable[Rgb], fps: int, crf: int) -> None:
    """Encode as VP9, which every browser plays."""
    with av.open(str(path), "w") as out:
        video: Any = None
        for number, rgb in enumerate(frames):
            if video is None:
                video = out.add_stream("libvpx-vp9", rate=fps)
                video.height, video.width, video.pix_fmt = *rgb.shape[:2], "yuv420p"
                video.codec_context.time_base = Fraction(1, fps)
                video.codec_context.options = {
                    "crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "2"
                }  # fmt: skip
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def masks_of(path: Path) -> Iterator[Levels]:
    """Every frame of a mask."""
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="gray"), np.uint8)


def rendered(folder: Path) -> tuple[list[tuple[Rgb, Levels]], int]:
    """The frames and alphas of a scene that was rendered, and how many of them a second has."""
    paths, fps = frames_of(folder)
    pairs = []
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert picture is not None  # noqa: S101  # it was rendered
        pairs.append((np.asarray(picture[:, :, ::-1], np.uint8), as_levels(alpha_of(path))))
    return pairs, fps


def make(name: str, pairs: list[tuple[Rgb, Levels]], fps: int) -> dict[str, float]:
    """Write the clip and its mask; the mask's scores: intersection over union, mean difference."""
    clip, mask = (STATIC / "samples" / f"{name}{end}.webm" for end in ("", "-mask"))
    clip.parent.mkdir(exist_ok=True)
    write(clip, (rgb for rgb, _ in pairs), fps, 26)
    whole = mask.with_name("whole.webm")
    mask_video(clip, whole, MaskOptions(preset=Preset.WEBM_VP9, quality=Quality.BALANCED))
    found = list(masks_of(whole))
    write(
        mask, (np.repeat(levels[..., None], 3, 2) for levels in found), fps, 30
    )  # as exact, and smaller
    whole.unlink()
    exact = [levels for _, levels in pairs]
    both = sum(int(((a >= HALF) & (b >= HALF)).sum()) for a, b in zip(found, exact, strict=True))
    either = sum(int(((a >= HALF) | (b >= HALF)).sum()) for a, b in zip(found, exact, strict=True))
    mad = np.mean([cv2.absdiff(a, b).mean() / 255 for a, b in zip(found, exact, strict=True)])
    print(f"{name}: {clip.stat().st_size} + {mask.stat().st_size} bytes")
    return {"iou": round(both / either, 4), "mad": round(float(mad), 5)}


def main(folder: Path) -> None:
    """All three; then the module of their scores."""
    lines = []
    EXACT.mkdir(exist_ok=True)
    for name, label in LABELS.items():
        pairs, fps = rendered(folder / name)
        scores = make(name, pairs, fps)
        exact = (np.repeat(levels[..., None], 3, 2) for _, levels in pairs)
        write(EXACT / f"{name}.webm", exact, fps, 20)
        lines.append(
            f'  {{ name: "{name}", label: "{label}", fps: {fps}, frames: {len(pairs)},'
            f" iou: {scores['iou']}, mad: {scores['mad']} }},"
        )
    said = "// Written by benchmarks/quality/samples.py: the first screen's clips, and their masks' scores."
    module = STATIC / "playground/sample-scores.js"
    module.write_text("\n".join([said, "export const SAMPLES = [", *lines, "];", ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
