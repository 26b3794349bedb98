"""Measures what each click gains: a simulated person clicks where the mask is most wrong.

``python -m benchmarks.quality.clicks FOLDER [CLIP ...] [--data FOLDER] [--clicks 0 1 2 4 8]
[--frames N] [--alone]`` masks each clip without hints. It takes the frame with the lowest J and the
largest connected wrong place in it, and clicks at the point of that place that is farthest from its
border: a positive click where the subject is missing, else a negative one. The clip is masked again
with all clicks so far. Prints J&F after each number of clicks. FOLDER keeps the network's results
for later calls.

With ``--frames``, each of N frames that are spread over a clip is measured as a clip of one frame.
With ``--alone``, the network finds nothing in whole pictures, and the first click is at a random
point of the subject in the first frame.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import run
from benchmarks.quality.answers import Named, named
from benchmarks.quality.scores import FOREGROUND, Scores, region_similarity, score, wrong_places
from benchmarks.quality.tiers import resolved
from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha, Image
from foremask.vision.image import Cropped
from foremask.vision.network.kept_results import open_file_store
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import InputSize, Network, NetworkOutput
from foremask.vision.network.prompted import prompted_network
from foremask.vision.network.session import Session
from foremask.vision.temporal.frame_hints import Mark, read_hints
from foremask.vision.temporal.places import middle_of
from foremask.vision.temporal.tier import TIERS
from foremask.weights.catalogue import model_path

MOST_BYTES = 2 << 30


class Blind:
    def __init__(self, network: Network) -> None:
        self._network, self.runtime, self.any_size = network, network.runtime, network.any_size

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        output = self._network.infer(image, size)
        return output if isinstance(image, Cropped) else replace(output, alpha=0 * output.alpha)


@dataclass(frozen=True, slots=True)
class Click:
    frame: int
    x: int
    y: int
    positive: bool


def next_click(
    masks: Sequence[Alpha], truths: Sequence[Alpha], earlier: Sequence[Click]
) -> Click | None:
    """The middle of the largest wrong place in the worst frame without a click."""
    pairs = zip(masks, truths, strict=True)
    binary = [(mask >= FOREGROUND, truth >= FOREGROUND) for mask, truth in pairs]
    for frame in sorted(range(len(binary)), key=lambda k: region_similarity(*binary[k])):
        for place, lacks in islice(wrong_places(*binary[frame]), 1):
            y, x = middle_of(place)
            if (click := Click(frame, x, y, lacks)) not in earlier:
                return click
    return None


def anywhere_on(truth: Alpha) -> Click:
    """A random point of the subject in the first frame, the same in each run."""
    points = np.argwhere(truth >= FOREGROUND)
    y, x = points[np.random.default_rng(0).integers(len(points))]
    return Click(0, int(x), int(y), positive=True)


def masks_of(
    images: list[Named],
    network: Network,
    quality: Quality,
    clicks: Sequence[Click],
    cache: NetworkCache | None = None,
) -> list[Alpha]:
    """The masks with these clicks, before encoding."""
    tier = TIERS[quality]
    width, height = images[0].width, images[0].height
    by_frame: dict[int, list[Mark]] = {}
    for number, each in enumerate(clicks):
        mark = Mark(number, each.positive, (each.x + 0.5) / width, (each.y + 0.5) / height)
        by_frame.setdefault(each.frame, []).append(mark)
    hinted = [(frame, images[frame], marks) for frame, marks in by_frame.items()]
    finder = prompted_network(model_path(None))
    guidance = read_hints(hinted, network, tier, _frame_of, cache, finder)
    alphas = mask_images(images, network, tier, guidance=guidance, cache=cache)
    return resolved(images, alphas, tier)


def _frame_of(image: Image) -> int | None:
    return int(image.name) if isinstance(image, Named) else None


@dataclass(frozen=True, slots=True)
class Clicked:
    """What is clicked: a clip, or one frame of it."""

    name: str
    images: list[Named]
    truths: list[Alpha]


def clicked_of(clip: Clip, frames: int) -> Iterator[Clicked]:
    """The clip, or if ``frames`` is not 0, as many frames that are spread over it."""
    pictures = list(clip.frames())
    truths = clip.truths()
    if not frames:
        yield Clicked(clip.name, named(iter(pictures)), truths)
        return
    for k in range(frames):
        number = int((k + 0.5) / frames * len(pictures))
        yield Clicked(f"{clip.name} {number}", named(iter([pictures[number]])), [truths[number]])


def curve(
    clicked: Clicked,
    session: Session,
    quality: Quality,
    clicks: int,
    folder: Path,
    *,
    alone: bool,
) -> list[Scores]:
    """The scores after each number of clicks; ``folder`` keeps the network's results."""
    images = clicked.images
    truths = clicked.truths
    made: list[Click] = []
    found: list[Scores] = []
    while True:
        network = Blind(session) if alone else session
        began = time.process_time()
        identity = {"clip": clicked.name, "quality": quality, "runtime": network.runtime}
        identity |= {"alone": f"{alone}"}
        with open_file_store(folder / f"{clicked.name}.zip", identity, MOST_BYTES) as store:
            masks = masks_of(images, network, quality, made, NetworkCache(store))
        scores = score(masks, truths)
        found.append(scores)
        print(
            f"{clicked.name:16} {len(made)} J {scores.j:6.2f} F {scores.f:6.2f}"
            f" J&F {scores.jf:6.2f} worst {scores.j_worst:5.1f}"
            f" {time.process_time() - began:.1f} cpu-s"
            f" {made[-1] if made else ''}",
            flush=True,
        )
        click = next_click(masks, truths, made) if len(made) < clicks else None
        if alone and not made:
            click = anywhere_on(truths[0])
        if click is None:
            return found + found[-1:] * (clicks - len(made))
        made.append(click)


def main(
    folder: Path,
    /,
    *names: str,
    data: Path = DATA / "davis",
    clicks: Sequence[int] = (0, 1, 2, 4, 8),
    quality: Quality = Quality.BALANCED,
    frames: int = 0,
    alone: bool = False,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    session = Session(model_path(None))
    clips = {clip.name: clip for clip in clips_in(data)}
    missing = [name for name in names if name not in clips]
    if missing:
        raise SystemExit(f"{data} has no {', '.join(missing)}: it has {', '.join(clips)}")
    curves = [
        curve(clicked, session, quality, max(clicks), folder, alone=alone)
        for name in names or clips
        for clicked in clicked_of(clips[name], frames)
    ]
    for count in clicks:
        j, jf = (np.mean([getattr(each[count], of) for each in curves]) for of in ("j", "jf"))
        print(f"{count} clicks: J {j:.2f} J&F {jf:.2f}")


if __name__ == "__main__":
    run(main, __doc__)
