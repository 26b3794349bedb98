"""Fit the gate of `foremask.vision.temporal.verdict` on clips with true masks, and say how well it does on clips left out.

``uv run --group fit python -m benchmarks.quality.fit_gate [--data FOLDER ...]`` runs the real
network on every fourth frame, cuts each into regions, and fits one logistic regression for each set
of opinions: verdict.json. Printed for each clip: J of the memory alone, and of the gate that was
fitted on all other clips. FOLDER has DAVIS's layout; the defaults are the sequences and the
composites of FOREMASK_DATA.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.clips import DATA, Clip, clips_in
from foremask.options import Quality
from foremask.types import Alpha
from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import NEVER, View
from foremask.vision.network.session import Session
from foremask.vision.temporal.regions import Regions, Scene, measure
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import MEMORY, Gate, smooth_over_time
from foremask.vision.temporal.windows import WINDOW_FRAMES, mask_images
from foremask.weights.catalogue import model_path

EVERY_FRAMES = 4
LEAST_REGION_PX, MOST_REGION_PX = 12, 4000  # smaller ones teach nothing; larger ones teach no more
REGULARISATION = 0.1  # scikit-learn's C
ALWAYS = -1.0  # under every uncertainty
SETS = (
    (View.STRETCHED,),
    (View.STRETCHED, View.MIRRORED),
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """The regions of one clip: their features, whether each is foreground, and how much it counts."""

    features: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    weights: NDArray[np.float32]


def scenes_of(clip: Clip, session: Session, views: tuple[View, ...]) -> list[Scene]:
    """Every fourth frame of the clip's last window, as the product sees it with these views."""
    tier = replace(
        TIERS[Quality.BALANCED],
        stride=EVERY_FRAMES,
        anchors_per_frame=0,
        mirrored_above=ALWAYS if View.MIRRORED in views else NEVER,
    )
    seen: list[Scene] = []

    def note(scenes: Sequence[Scene]) -> list[Alpha]:
        seen[:] = scenes
        return [scene.opinions[MEMORY] - np.float32(0.5) for scene in scenes]

    images = [ArrayImage(frame) for frame in clip.frames()][:WINDOW_FRAMES]
    whole = EVERY_FRAMES * ((len(images) - 1) // EVERY_FRAMES) + 1
    list(mask_images(images[:whole], session, tier, note))
    return seen


def lesson(
    measured: list[tuple[Regions, dict[str, Alpha]]], truths: list[NDArray[np.bool_]]
) -> Lesson:
    """Each clip counts the same: a region by its pixels, as far as it is all one side."""
    features, foreground, weights = [], [], []
    total = sum(int(truth.sum()) + 200 for truth in truths)
    for (regions, found), truth in zip(measured, truths, strict=True):
        share = regions.mean(truth.astype(np.float32))
        kept = regions.sizes >= LEAST_REGION_PX
        counted = np.minimum(regions.sizes * np.abs(2 * share - 1), MOST_REGION_PX)
        features.append(np.stack(list(found.values()), axis=1)[kept])
        foreground.append(share[kept] > 0.5)
        weights.append(counted[kept] / total)
    return Lesson(np.concatenate(features), np.concatenate(foreground), np.concatenate(weights))


def fitted(lessons: Sequence[Lesson], names: Sequence[str]) -> Gate:
    """A logistic regression on standardised features, in the features' own units."""
    weights = np.concatenate([each.weights for each in lessons])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=2000)
    ).fit(
        np.concatenate([each.features for each in lessons]),
        np.concatenate([each.foreground for each in lessons]),
        logisticregression__sample_weight=weights / weights.mean(),
    )
    scaler, regression = model[0], model[1]
    slopes = regression.coef_[0] / scaler.scale_
    bias = float(regression.intercept_[0] - (slopes * scaler.mean_).sum())
    return Gate(
        {name: round(float(slope), 4) for name, slope in zip(names, slopes, strict=True)},
        round(bias, 4),
    )


def j_of(planes: Sequence[Alpha], truths: Sequence[NDArray[np.bool_]]) -> float:
    """Mean intersection over union, in percent."""
    ious = []
    for plane, truth in zip(planes, truths, strict=True):
        picked = plane > 0
        union = int((picked | truth).sum())
        ious.append((picked & truth).sum() / union if union else 1.0)
    return 100 * float(np.mean(ious))


def truths_of(clip: Clip, scenes: Sequence[Scene]) -> list[NDArray[np.bool_]]:
    """The true masks of the scenes, on their grid."""
    rows, columns = scenes[0].motion.shape
    every = clip.truths()[::EVERY_FRAMES][: len(scenes)]
    return [
        cv2.resize(truth, (columns, rows), interpolation=cv2.INTER_AREA) > 0.5 for truth in every
    ]


def fit_set(clips: Sequence[Clip], session: Session, views: tuple[View, ...]) -> Gate:
    """The gate of these views on all clips; prints each clip's J by the gate of the others."""
    scenes = {clip.name: scenes_of(clip, session, views) for clip in clips}
    truths = {clip.name: truths_of(clip, scenes[clip.name]) for clip in clips}
    measured = {name: measure(each) for name, each in scenes.items()}
    names = list(next(iter(measured.values()))[0][1])
    lessons = {name: lesson(measured[name], truths[name]) for name in measured}
    print(f"\n{'+'.join(views)}: J of the memory, of the gate fitted on the other clips")
    for name in measured:
        gate = fitted([each for other, each in lessons.items() if other != name], names)
        planes = [regions.spread(gate.log_odds(found)) for regions, found in measured[name]]
        links = [scene.links for scene in scenes[name]]
        memory = [scene.opinions[MEMORY] - np.float32(0.5) for scene in scenes[name]]
        alone = j_of(memory, truths[name])
        print(f"{name:24s} {alone:6.2f} {j_of(smooth_over_time(planes, links), truths[name]):6.2f}")
    return fitted(list(lessons.values()), names)


def main() -> None:
    """Fit all sets and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", type=Path, default=[DATA / "davis", DATA / "alpha"])
    parser.add_argument(
        "--out", type=Path, default=Path("src/foremask/vision/temporal/verdict.json")
    )
    args = parser.parse_args()
    clips = [clip for folder in args.data for clip in clips_in(folder)]
    session = Session(model_path())
    gates = {"+".join(views): fit_set(clips, session, views) for views in SETS}
    rows = {name: {"bias": gate.bias, "weights": gate.weights} for name, gate in gates.items()}
    args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
