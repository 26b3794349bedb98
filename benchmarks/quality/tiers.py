"""Scores the masks of every tier, and those of the same network run on each frame alone.

``python -m benchmarks.quality.tiers [--data FOLDER ...]`` prints the tables of docs/quality.md.
Clips with a truth are scored against it; all clips are measured for steadiness.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import facts, header, row, run
from benchmarks.quality.answers import Named, Recorded, named
from benchmarks.quality.scores import Scores, score
from benchmarks.quality.steadiness import Steadiness, steadiness
from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outlines
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.session import Precision, Session
from foremask.vision.resample import as_alpha, as_levels
from foremask.vision.temporal.tier import TIERS, Tier
from foremask.weights.catalogue import model_path

BASE = "per frame"
FOLDERS = tuple(DATA / each for each in ("davis", "alpha", "clips"))
TRUTH = "truth"  # measured like a mask: what it has is the error of the measure


@dataclass(frozen=True, slots=True)
class Row:
    """One tier on one clip; the scores are missing without a truth."""

    clip: str
    tier: str
    scores: Scores | None
    inferences_per_frame: float = 0.0
    steady: Steadiness | None = None


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


@cache
def session() -> Session:
    return Session(model_path(None))


def rows_of(clip: Clip, base: Session, tiers: Sequence[Quality]) -> list[Row]:
    images = named(clip.frames())
    truths = clip.truths()
    network = Recorded(session)
    masks: dict[str, list[Alpha]] = {}
    asked: dict[str, float] = {}
    if truths:
        masks, asked = {TRUTH: truths, BASE: per_frame(images, base)}, {BASE: 1.0}
    for tier in tiers:
        network.asked = 0
        masks[tier] = by_tier(images, network, tier)
        asked[tier] = network.asked / len(images)
    levels = ([as_levels(alpha) for alpha in alphas] for alphas in masks.values())
    results = zip(masks, steadiness((each.pixels for each in images), *levels), strict=True)
    rows = []
    for name, steady in results:
        scores = score(masks[name], truths) if truths and name != TRUTH else None
        rows.append(Row(clip.name, name, scores, asked.get(name, 0.0), steady))
        if scores is not None:
            print(f"{clip.name:24} {name:10} J&F {scores.jf:.2f}", flush=True)
    return rows


def summary(rows: list[Row]) -> None:
    """The mean of each measure over clips, and its ratio to that of the base, for each tier."""
    measures = ("J", "F", "J&F", "J recall", "MAD", "MSE", "dtSSD", "dtSSD ratio")
    header("", *measures, "inferences a frame")

    def mean(tier: str) -> Scores:
        found = [asdict(each.scores) for each in rows if each.tier == tier and each.scores]
        return Scores(**{name: float(np.mean([each[name] for each in found])) for name in found[0]})

    base = mean(BASE)
    for tier in dict.fromkeys(each.tier for each in rows if each.scores):
        m = mean(tier)
        asked = np.mean([each.inferences_per_frame for each in rows if each.tier == tier])
        gain, ratio = f"{m.jf:.2f} ({m.jf - base.jf:+.2f})", f"{m.dtssd / base.dtssd:.2f}"
        errors = f"{m.mae:.1f}", f"{m.mse:.1f}", f"{m.dtssd:.2f}", ratio
        row(tier, f"{m.j:.1f}", f"{m.f:.1f}", gain, f"{m.j_recall:.1f}", *errors, f"{asked:.2f}")


def by_clip(rows: list[Row]) -> None:
    """The change of J and F against the base, for each clip."""
    at = {(each.clip, each.tier): each.scores for each in rows if each.scores}
    tiers = [tier for tier in dict.fromkeys(tier for _, tier in at) if tier != BASE]
    header("clip", "per frame J / F", *(f"{tier} J / F" for tier in tiers))
    for clip in dict.fromkeys(clip for clip, _ in at):
        base = at[clip, BASE]
        pairs = [(at[clip, tier].j - base.j, at[clip, tier].f - base.f) for tier in tiers]
        row(clip, f"{base.j:.1f} / {base.f:.1f}", *(f"{j:+.1f} / {f:+.1f}" for j, f in pairs))


def steadiness_table(rows: list[Row]) -> None:
    header("clip", "", "ghost", "vanish", "appear", "jumps", "followed")
    for each in rows:
        if s := each.steady:
            shares = f"{s.ghost:.1f}", f"{s.vanish:.2f}", f"{s.appear:.2f}"
            row(each.clip, each.tier, *shares, s.jumps, f"{s.followed:.0f}")


def main(*, data: Sequence[Path] = FOLDERS, tiers: Sequence[Quality] = tuple(Quality)) -> None:
    base = Session(model_path(None), precision=Precision.BF16, whole=True)
    for folder in data:
        rows = [each for clip in clips_in(folder) for each in rows_of(clip, base, tiers)]
        print(f"\n### {folder.name}\n")
        if any(each.scores for each in rows):
            for table in (summary, by_clip):
                table(rows)
                print()
        steadiness_table(rows)
    print(json.dumps(facts()))


if __name__ == "__main__":
    run(main, __doc__)
