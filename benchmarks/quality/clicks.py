"""How much each click helps: a simulated person clicks where the mask is most wrong, then again.

``python -m benchmarks.quality.clicks FOLDER [--data FOLDER] [--clips NAME ...] [--clicks 0 1 2 4 8] [--alone]``
masks each clip without hints, takes the frame with the lowest J, in it the largest connected wrong place,
and clicks at the point of it that is farthest from its border: in where the subject is missing, out
where it is too much. The clip is masked again with all clicks so far. Printed: J&F after each
number of clicks. The first folder keeps the network's outputs, for a second call. ``--alone``: the
network's answer to the whole picture is ignored, and the first click is at random on the subject of
the first frame.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import options
from benchmarks.quality.scores import FOREGROUND, Binary, Scores, region_similarity, score
from benchmarks.quality.tiers import Numbered, resolved
from foremask.options import Quality
from foremask.types import Alpha, Image
from foremask.vision.image import Cropped
from foremask.vision.network.session import InputSize, Network, NetworkOutput, Session
from foremask.vision.temporal.frame_hints import Mark
from foremask.vision.temporal.network_cache import NetworkCache, open_file_store
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import learn, mask_images
from foremask.weights.catalogue import model_path

CLICKS = (0, 1, 2, 4, 8)
MOST_BYTES = 2 << 30


def number_of(image: Image) -> int | None:
    """Which frame of its clip an image is."""
    return image.number if isinstance(image, Numbered) else None


class Blind:
    """A network that finds nothing in a whole picture, only in crops."""

    def __init__(self, network: Network) -> None:
        self._network, self.runtime, self.any_size = network, network.runtime, network.any_size

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """As the network, of crops."""
        output = self._network.infer(image, size)
        return output if isinstance(image, Cropped) else replace(output, alpha=0 * output.alpha)


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


def anywhere_on(truth: Alpha) -> Click:
    """A point of the subject of the first frame, the same in each run."""
    points = np.argwhere(truth >= FOREGROUND)
    y, x = points[np.random.default_rng(0).integers(len(points))]
    return Click(0, int(x), int(y), positive=True)


def masks_of(
    images: list[Numbered],
    network: Network,
    quality: Quality,
    clicks: Sequence[Click],
    cache: NetworkCache | None = None,
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
            number_of,
            cache,
        )
    alphas = mask_images(images, network, tier, guidance=guidance, cache=cache)
    return resolved(images, alphas, tier)


def curve(
    clip: Clip,
    session: Session,
    quality: Quality,
    clicks: int,
    folder: Path,
    *,
    alone: bool,
) -> list[Scores]:
    """How good a clip is after each click, from none on; ``folder`` keeps what the network said."""
    images = [Numbered(frame, number) for number, frame in enumerate(clip.frames())]
    truths = clip.truths()
    made: list[Click] = []
    found: list[Scores] = []
    while True:
        network = Blind(session) if alone else session
        began = time.process_time()
        identity = {"clip": clip.name, "quality": quality, "runtime": network.runtime}
        identity |= {"alone": f"{alone}"}
        with open_file_store(folder / f"{clip.name}.zip", identity, MOST_BYTES) as store:
            masks = masks_of(images, network, quality, made, NetworkCache(store))
        scores = score(masks, truths)
        found.append(scores)
        print(
            f"{clip.name:16} {len(made)} J {scores.j:6.2f} F {scores.f:6.2f} J&F {scores.jf:6.2f}"
            f" worst {scores.j_worst:5.1f} {time.process_time() - began:.1f} cpu-s"
            f" {made[-1] if made else ''}",
            flush=True,
        )
        click = next_click(masks, truths, made) if len(made) < clicks else None
        if alone and not made:
            click = anywhere_on(truths[0])
        if click is None:
            return found + found[-1:] * (clicks - len(made))
        made.append(click)


def main() -> None:
    """Click, mask, print, for each clip."""
    data, quality = DATA / "davis", Quality.BALANCED
    args = options(
        __doc__, "folder", data=data, clips=[], clicks=list(CLICKS), quality=quality, alone=False
    )
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    session = Session(model_path(None))
    clips = {clip.name: clip for clip in clips_in(args.data)}
    missing = [name for name in args.clips if name not in clips]
    if missing:
        raise SystemExit(f"{args.data} has no {', '.join(missing)}: it has {', '.join(clips)}")
    curves = [
        curve(clips[name], session, args.quality, max(args.clicks), folder, alone=args.alone)
        for name in args.clips or clips
    ]
    for count in args.clicks:
        j, jf = (np.mean([getattr(each[count], of) for each in curves]) for of in ("j", "jf"))
        print(f"{count} clicks: J {j:.2f} J&F {jf:.2f}")


if __name__ == "__main__":
    main()
