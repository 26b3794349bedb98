"""How much each click helps: a simulated person clicks where the mask is most wrong, then again.

``python -m benchmarks.quality.clicks [--data FOLDER] [--clips NAME ...] [--clicks 0 1 2 4 8]`` masks
each clip without hints, takes the frame with the lowest J, in it the largest connected wrong place,
and clicks at the point of it that is farthest from its border: in where the subject is missing, out
where it is too much. The clip is masked again with all clicks so far. Printed: J&F after each
number of clicks. ``--cache FOLDER`` keeps what the network has answered.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality.scores import FOREGROUND, Binary, region_similarity, score
from benchmarks.quality.tiers import Numbered, _luma
from foremask.options import Quality
from foremask.types import Alpha, Image
from foremask.vision.image import Cropped, MirroredImage
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outlines
from foremask.vision.network.session import InputSize, NetworkOutput, Session
from foremask.vision.resample import as_alpha
from foremask.vision.temporal.lesson import Mark
from foremask.vision.temporal.windows import TIERS, learn, mask_images
from foremask.weights.catalogue import model_path

CLICKS = (0, 1, 2, 4, 8)


class Kept:
    """A session whose answers are kept in files, so that a second run infers nothing twice."""

    any_size = True

    def __init__(self, session: Session, folder: Path, clip: str) -> None:
        """Answers about the clip of this name are in a folder of their own."""
        self._session, self._folder = session, folder / clip
        self._folder.mkdir(parents=True, exist_ok=True)
        self.runtime = session.runtime

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """As the session's."""
        original = image.image if isinstance(image, MirroredImage | Cropped) else image
        number = original.number if isinstance(original, Numbered) else -1
        box = image.box if isinstance(image, Cropped) else None
        asked = repr((number, isinstance(image, MirroredImage), box, size))
        path = self._folder / (hashlib.sha256(asked.encode()).hexdigest()[:24] + ".npz")
        if not path.exists():
            output = self._session.infer(image, size)
            plain = image is original and size is None
            levels = output.features if plain else ()
            kept = [each.astype(np.float16) for each in (output.alpha, *levels)]
            np.savez(path, *kept)
        with np.load(path) as stored:
            alpha, *features = (stored[name].astype(np.float32) for name in stored.files)
            return NetworkOutput(alpha, tuple(features))


@dataclass(frozen=True, slots=True)
class Click:
    """Where the person clicks, on which frame, and whether in or out."""

    frame: int
    x: int
    y: int
    positive: bool


def next_click(
    masks: Sequence[Alpha], truths: Sequence[Alpha], earlier: Sequence[Click]
) -> Click | None:
    """The middle of the largest wrong place of the worst frame that was not clicked at before."""
    worst, found = 2.0, None  # type: float, Click | None
    for frame, (mask, truth) in enumerate(zip(masks, truths, strict=True)):
        picked, right = mask >= FOREGROUND, truth >= FOREGROUND
        j = region_similarity(picked, right)
        if j >= worst:
            continue
        click = _click(frame, picked, right)
        if click is not None and click not in earlier:
            worst, found = j, click
    return found


def _click(frame: int, picked: Binary, right: Binary) -> Click | None:
    best: tuple[int, Click] | None = None
    for positive, wrong in ((True, right & ~picked), (False, picked & ~right)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
        if count < 2:
            continue
        label = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        place = np.pad((labels == label).astype(np.uint8), 1)
        depth = cv2.distanceTransform(place, cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        area = int(stats[label, cv2.CC_STAT_AREA])
        if best is None or area > best[0]:
            best = area, Click(frame, int(x), int(y), positive)
    return None if best is None else best[1]


def masks_of(
    images: list[Numbered], network: Kept, quality: Quality, clicks: Sequence[Click]
) -> list[Alpha]:
    """What foremask gives with these clicks, before encoding."""
    tier = TIERS[quality]
    width, height = images[0].width, images[0].height
    by_frame: dict[int, list[Mark]] = {}
    for number, each in enumerate(clicks):
        mark = Mark(number, each.positive, (each.x + 0.5) / width, (each.y + 0.5) / height)
        by_frame.setdefault(each.frame, []).append(mark)
    guidance = None
    if clicks:
        guidance = learn(
            ((frame, images[frame], marks) for frame, marks in by_frame.items()),
            network,
            tier,
            lambda image: image.number if isinstance(image, Numbered) else None,
        )
    alphas = mask_images(images, network, tier, guidance=guidance)
    ahead_frames = BACKDROP_REACH_FRAMES if tier.uses_backdrop else None
    pairs = resolve_outlines(zip(images, alphas, strict=True), ahead_frames)
    return [as_alpha(refine(alpha, _luma(image.pixels))) for image, alpha in pairs]


def curve(
    clip: Clip, network: Kept, quality: Quality, clicks: int, dump: Path | None
) -> list[float]:
    """J&F of a clip after each click, from none on; the masks go to ``dump``."""
    images = [Numbered(frame, number) for number, frame in enumerate(clip.frames())]
    truths = clip.truths()
    made: list[Click] = []
    found: list[float] = []
    while True:
        masks = masks_of(images, network, quality, made)
        scores = score(masks, truths)
        found.append(scores.jf)
        print(
            f"{clip.name:16} {len(made)} J {scores.j:6.2f} F {scores.f:6.2f} J&F {scores.jf:6.2f}"
            f" worst {scores.j_worst:5.1f} {made[-1] if made else ''}",
            flush=True,
        )
        if dump is not None:
            levels = np.stack([np.rint(mask * 255).astype(np.uint8) for mask in masks])
            told = json.dumps([asdict(each) for each in made])
            np.savez_compressed(dump / f"{clip.name}-{len(made)}.npz", masks=levels, clicks=told)
        click = next_click(masks, truths, made) if len(made) < clicks else None
        if click is None:
            return found + found[-1:] * (clicks - len(made))
        made.append(click)


def main() -> None:
    """Click, mask, print, for each clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA / "davis")
    parser.add_argument("--clips", nargs="*", default=[])
    parser.add_argument("--clicks", type=int, nargs="*", default=list(CLICKS))
    parser.add_argument("--quality", type=Quality, default=Quality.BALANCED)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--dump", type=Path)
    args = parser.parse_args()
    session = Session(model_path(None))
    curves = {}
    for clip in clips_in(args.data):
        if not args.clips or clip.name in args.clips:
            network = Kept(session, args.cache, clip.name)
            curves[clip.name] = curve(clip, network, args.quality, max(args.clicks), args.dump)
    for count in args.clicks:
        print(f"{count} clicks: {np.mean([each[count] for each in curves.values()]):.2f}")


if __name__ == "__main__":
    main()
