"""Fit the trees of `foremask.vision.temporal.verdict`, and say how good they are on clips left out.

``uv run --group fit python -m benchmarks.quality.folds [--write]`` asks the network about every
fourth frame of the 29 labelled clips of FOREMASK_DATA, once: what they say is kept under
``benchmarks/results/folds``, so a second run takes minutes. Then it fits on five folds of six and
prints J and F on the sixth, for each way a tier asks (`POLICIES`): folds.json has which
clips are in which fold, siblings together. ``--write`` fits on all clips and writes verdict.json.
Whatever changes a mask is chosen by the numbers printed here, never by those of a fitted clip.
"""

import argparse
import json
import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality.scores import contour_accuracy, region_similarity
from foremask.options import Device, Quality
from foremask.types import Alpha
from foremask.vision.image import ArrayImage
from foremask.vision.network.devices import network_at
from foremask.vision.network.opinions import View, uncertainty
from foremask.vision.network.session import Network
from foremask.vision.temporal.regions import FOREGROUND, Features, Regions, Scene, measure
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import Trees, smooth_over_time, trees_of
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

HERE = Path(__file__).parent
KEPT = HERE.parent / "results/folds"
EVERY_FRAMES, MOST_FRAMES = 4, 61
ALWAYS = -1.0  # below every uncertainty
LEAST_REGION_PX = 12  # smaller ones teach nothing
LEAST_SUBJECT_PX = 50  # a smaller one, or none, counts as this large
_BALANCED, _FAST = TIERS[Quality.BALANCED], TIERS[Quality.FAST]
POLICIES = {
    "all": (ALWAYS, ALWAYS, EVERY_FRAMES),
    "balanced": (_BALANCED.mirrored_above, _BALANCED.closer_above, EVERY_FRAMES),
    "fast": (_FAST.mirrored_above, _FAST.closer_above, EVERY_FRAMES),
    "fast, its anchors": (_FAST.mirrored_above, _FAST.closer_above, _FAST.stride),
}
"""The uncertainty above which an anchor's mirror image and crop are asked; frames to the next."""
MORE_IS_FOREGROUND = {
    *View,
    *("mean", "most", "least", "share for", "classifier", "colour", "carried"),
    *("near", "near, least", "near, most", "enclosed", "enclosed by solid"),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One clip by one set of opinions."""

    regions: list[Regions]
    features: list[Features]
    scenes: list[Scene]
    truths: list[NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """The regions of one clip: features, whether each is foreground, and how much it counts."""

    features: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    weights: NDArray[np.float32]


class _Seen(Exception):
    """What the decision is made by was seen: nothing more is needed of this run."""


def scenes_of(clip: Clip, network: Network, stride: int) -> list[Scene]:
    """Anchors ``stride`` apart as the product sees them, with all opinions; kept on the disk."""
    path = KEPT / f"{clip.name} {stride}.pickle"
    if path.is_file():
        return [_of_floats(each, np.float32) for each in pickle.loads(path.read_bytes())]  # noqa: S301
    tier = replace(
        TIERS[Quality.BALANCED],
        stride=stride,
        anchors_per_frame=0,
        mirrored_above=ALWAYS,
        closer_above=ALWAYS,
    )
    seen: list[Scene] = []

    def note(scenes: Sequence[Scene]) -> NoReturn:
        seen[:] = scenes
        raise _Seen

    images = [ArrayImage(frame) for frame in clip.frames()][:MOST_FRAMES]
    whole = stride * ((len(images) - 1) // stride) + 1
    with suppress(_Seen):
        list(mask_images(images[:whole], network, tier, note))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps([_of_floats(each, np.float16) for each in seen]))
    return seen


def _of_floats(scene: Scene, kind: type[np.floating]) -> Scene:
    """Half of them on the disk."""
    links = {
        offset: replace(
            link,
            flow=link.flow.astype(kind),
            trust=link.trust.astype(kind),
            continuity=link.continuity.astype(kind),
        )
        for offset, link in scene.links.items()
    }
    opinions = {view: each.astype(kind) for view, each in scene.opinions.items()}
    return replace(scene, links=links, opinions=opinions)


def truths_of(clip: Clip, scenes: Sequence[Scene], stride: int) -> list[NDArray[np.bool_]]:
    """The true masks of the scenes, on their grid."""
    grid = scenes[0].motion.shape[::-1]
    return [
        cv2.resize(truth, grid, interpolation=cv2.INTER_AREA) > FOREGROUND
        for truth in clip.truths()[::stride][: len(scenes)]
    ]


def measured(scenes: Sequence[Scene], truths: list[NDArray[np.bool_]], policy: str) -> Measured:
    """What is known of a clip's regions by what this policy asks."""
    mirrored_above, closer_above, _ = POLICIES[policy]
    asked = []
    for scene in scenes:
        undecided = uncertainty(scene.opinions[View.STRETCHED])
        left = {View.MIRRORED: mirrored_above, View.CROPPED: closer_above}
        opinions = {v: each for v, each in scene.opinions.items() if undecided > left.get(v, -1)}
        asked.append(replace(scene, opinions=opinions))
    found = measure(asked)
    return Measured([each for each, _ in found], [each for _, each in found], asked, truths)


def lesson(clip: Measured) -> Lesson:
    """Each frame of a clip counts the same: a region by the root of its share of the subject.

    As far as it is all one side. By the share itself, thin things would count for nothing.
    """
    features, foreground, weights = [], [], []
    for regions, found, truth in zip(clip.regions, clip.features, clip.truths, strict=True):
        share = regions.mean(truth.astype(np.float32))
        kept = regions.sizes >= LEAST_REGION_PX
        subject = np.float32(max(LEAST_SUBJECT_PX, int(truth.sum())))
        counted = np.sqrt(np.minimum(1, regions.sizes * np.abs(2 * share - 1) / subject))
        features.append(np.stack(list(found.values()), axis=1)[kept])
        foreground.append(share[kept] > FOREGROUND)
        weights.append(counted[kept])
    each = np.asarray(np.concatenate(weights) / len(clip.truths), np.float32)
    return Lesson(np.concatenate(features), np.concatenate(foreground), each)


def fitted(lessons: Sequence[Lesson], names: Sequence[str]) -> Trees:
    """Gradient-boosted trees; evidence for the foreground never counts against it."""
    weights = np.concatenate([each.weights for each in lessons])
    features = np.concatenate([each.features for each in lessons])
    features[:, np.isnan(features).all(axis=0)] = 0  # of what is never asked
    model = HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_iter=100,
        max_leaf_nodes=8,
        min_samples_leaf=60,
        l2_regularization=20.0,
        max_features=0.5,
        monotonic_cst=[int(name in MORE_IS_FOREGROUND) for name in names],
        early_stopping=False,
        random_state=0,
    ).fit(
        features,
        np.concatenate([each.foreground for each in lessons]),
        sample_weight=weights / weights.mean(),
    )
    return trees_of(table_of(model, names))


def table_of(model: HistGradientBoostingClassifier, names: Sequence[str]) -> dict[str, Any]:
    """The fitted trees as lists; a leaf leads to itself."""
    trees = [each[0].nodes for each in model._predictors]
    most = max(len(nodes) for nodes in trees)
    table: dict[str, Any] = {
        "names": list(names),
        "bias": float(model._baseline_prediction.item()),
        "depth": int(max(nodes["depth"].max() for nodes in trees)),
    }
    columns: dict[str, list[list[float]]] = {
        each: [] for each in ("feature", "threshold", "missing_left", "left", "right", "value")
    }
    for nodes in trees:
        itself = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        rows = {
            "feature": np.where(leaf, 0, nodes["feature_idx"]),
            "threshold": np.where(leaf, 0, nodes["num_threshold"]).astype(np.float32),
            "missing_left": nodes["missing_go_to_left"].astype(int),
            "left": np.where(leaf, itself, nodes["left"]),
            "right": np.where(leaf, itself, nodes["right"]),
            "value": np.where(leaf, nodes["value"], 0).round(5),
        }
        for name, row in rows.items():
            padded = [*row.tolist(), *[0] * (most - len(nodes))]
            columns[name].append([float(f"{each:.6g}") for each in padded])
    for name in ("feature", "missing_left", "left", "right"):
        columns[name] = [[int(each) for each in row] for row in columns[name]]
    return table | columns


def scores_of(planes: Sequence[Alpha], truths: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
    """Mean J and F in percent, without the first and the last."""
    pairs = [(plane > 0, truth) for plane, truth in zip(planes, truths, strict=True)][1:-1]
    return (
        100 * float(np.mean([region_similarity(*pair) for pair in pairs])),
        100 * float(np.mean([contour_accuracy(*pair) for pair in pairs])),
    )


def decided(clip: Measured, trees: Trees) -> list[Alpha]:
    """As `verdict.judge`, by these trees."""
    planes = [
        regions.spread(trees.log_odds(features))
        for regions, features in zip(clip.regions, clip.features, strict=True)
    ]
    logits = [scene.logit for scene in clip.scenes]
    return smooth_over_time(planes, [scene.links for scene in clip.scenes], logits)


def main() -> None:
    """Print the table of clips left out; with ``--write`` fit on all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    folds: list[list[str]] = json.loads((HERE / "folds.json").read_text())
    clips = {clip.name: clip for folder in ("davis", "more") for clip in clips_in(DATA / folder)}
    network = network_at(model_path(), Device())
    by_set: dict[str, dict[str, Measured]] = {policy: {} for policy in POLICIES}
    for name in (name for fold in folds for name in fold):
        for policy, measured_clips in by_set.items():
            stride = POLICIES[policy][-1]
            scenes = scenes_of(clips[name], network, stride)
            truths = truths_of(clips[name], scenes, stride)
            measured_clips[name] = measured(scenes, truths, policy)
        print(f"{name}: {len(scenes)} anchors", flush=True)
    names = list(next(iter(by_set["all"].values())).features[0])
    lessons = {
        name: [lesson(found[name]) for found in by_set.values()] for fold in folds for name in fold
    }
    rows: dict[str, list[tuple[float, float]]] = {}
    for fold in folds:
        others = [each for name, some in lessons.items() if name not in fold for each in some]
        trees = fitted(others, names)
        write(trees, KEPT / f"trees without {fold[0]}.json")
        for name in fold:
            alone = by_set["all"][name]
            plain = [
                [scene.opinions[View.STRETCHED] - FOREGROUND for scene in alone.scenes],
                [scene.stack().mean(axis=0) - FOREGROUND for scene in alone.scenes],
            ]
            rows[name] = [scores_of(each, alone.truths) for each in plain]
            for found in by_set.values():
                rows[name].append(scores_of(decided(found[name], trees), found[name].truths))
    print("\n| clip | stretched | mean | " + " | ".join(POLICIES) + " |")
    print("|---" * (3 + len(POLICIES)) + "|")
    rows["mean"] = [tuple(each) for each in np.mean(list(rows.values()), axis=0)]
    for name, scores in rows.items():
        print(f"| {name} | " + " | ".join(f"{j:.1f} / {f:.1f}" for j, f in scores) + " |")
    if args.write:
        every = [each for some in lessons.values() for each in some]
        write(fitted(every, names), HERE.parents[1] / "src/foremask/vision/temporal/verdict.json")


def write(trees: Trees, path: Path) -> None:
    """As the product reads them."""
    table = {
        "names": trees.names,
        "bias": trees.bias,
        "depth": trees.depth,
        "feature": trees.feature.tolist(),
        "threshold": [[float(f"{each:.6g}") for each in row] for row in trees.threshold],
        "missing_left": trees.missing_left.astype(int).tolist(),
        "left": trees.left.tolist(),
        "right": trees.right.tolist(),
        "value": [[float(f"{each:.5g}") for each in row] for row in trees.value],
    }
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
