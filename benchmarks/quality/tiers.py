"""Scores the masks of each quality beside the single frames of the same network.

``python -m benchmarks.quality.tiers [--data FOLDER ...] [--tiers QUALITY ...] [--only CLIP ...]``
masks labelled clips whole. ``--network FILE`` is an ONNX file with its side-car (docs/models.md): the
trees of the decision were fitted on IS-Net's answers, and meet another network's. With ``--answers``
the network's answers are kept in that folder, by network, and a later run asks nothing.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import facts, header, row, run
from benchmarks.quality.answers import Named, Recorded, named
from benchmarks.quality.scores import score
from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.guided_filter import refine
from foremask.vision.matting.outline import resolve_outlines
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.session import Session
from foremask.vision.resample import as_alpha
from foremask.vision.temporal.tier import TIERS, Tier
from foremask.weights.catalogue import model_path

SINGLE = "single frames"
FOLDERS = (DATA / "davis", DATA / "more")
MEASURES = ("j", "f", "jf", "j_worst", "mae", "dtssd")


def per_frame(images: list[Named], network: Network) -> list[Alpha]:
    """The masks of an image tool: each frame alone, enlarged linearly."""
    size = (images[0].width, images[0].height)
    return [np.asarray(cv2.resize(network.infer(each).alpha, size), np.float32) for each in images]


def by_tier(images: list[Named], network: Network, tier: Quality) -> list[Alpha]:
    """The masks of foremask, before encoding."""
    masks = mask_images(images, network, TIERS[tier])
    return resolved(images, masks, TIERS[tier])


def resolved(images: list[Named], alphas: Iterable[Alpha], tier: Tier) -> list[Alpha]:
    ahead_frames = BACKDROP_REACH_FRAMES if tier.uses_backdrop else None
    pairs = resolve_outlines(zip(images, alphas, strict=True), ahead_frames)
    grey = ((alpha, cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)) for image, alpha, _ in pairs)
    return [as_alpha(refine(alpha, np.asarray(luma, np.uint8))) for alpha, luma in grey]


def values_of(clip: Clip, network: Recorded, tiers: Sequence[Quality]) -> Iterator[list[float]]:
    """`MEASURES` and inferences a frame: of single frames, then of each quality."""
    images = named(clip.frames())
    truths = clip.truths()
    masks = per_frame(images, network)
    for tier in (None, *tiers):
        asked = 1.0
        if tier is not None:
            network.asked = 0
            masks = by_tier(images, network, tier)
            asked = network.asked / len(images)
        scores = score(masks, truths)
        yield [*(getattr(scores, name) for name in MEASURES), asked]


def main(
    *,
    data: Sequence[Path] = FOLDERS,
    tiers: Sequence[Quality] = tuple(Quality),
    only: Sequence[str] = (),
    network: Path | None = None,
    answers: Path | None = None,
) -> None:
    session = Session(network or model_path())
    found: dict[str, list[list[float]]] = defaultdict(list)
    header("clip", "", "J", "F", "J&F", "gain", "worst J", "MAD", "dtSSD", "inferences a frame")
    for clip in [each for folder in data for each in clips_in(folder)]:
        if clip.name in (only or [clip.name]) and clip.truths():
            recorded = Recorded(lambda: session, answers and answers / clip.name)
            recorded.any_size = session.any_size
            values = values_of(clip, recorded, tiers)
            for name, made in zip((SINGLE, *tiers), values, strict=True):
                found[name].append(made)
                print_row(clip.name, name, made, found[SINGLE][-1])
    for name, rows in found.items():
        single = np.mean(found[SINGLE], axis=0)
        print_row("mean", name, np.mean(rows, axis=0).tolist(), single.tolist())
    print(json.dumps(facts()))


def print_row(clip: str, name: str, values: list[float], single: list[float]) -> None:
    jf = MEASURES.index("jf")
    cells = [f"{each:.2f}" for each in values]
    cells.insert(jf + 1, f"{values[jf] - single[jf]:+.2f}")
    row(clip, name, *cells)


if __name__ == "__main__":
    run(main, __doc__)
