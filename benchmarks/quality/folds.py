"""Fits the trees of `foremask.vision.temporal.verdict`, and scores them on clips left out.

``uv run --group fit python -m benchmarks.quality.folds [--write]`` masks the first `FRAMES` frames
of the 29 labelled clips of FOREMASK_DATA in each quality of `QUALITIES`. The network's results are
kept below ``benchmarks/results/folds`` for later runs. Trees are fitted on the anchors of five of
six folds, and mask the clips of the sixth end to end; folds.json has the folds, with similar clips
in one. ``--write`` fits on all clips and writes verdict.json. Changes to masks are chosen by these
scores.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import header, row, run
from benchmarks.quality.scores import score
from benchmarks.quality.tiers import Numbered, Remembering
from foremask.options import Quality
from foremask.types import Alpha
from foremask.vision.network.kept_results import open_file_store
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.opinions import View
from foremask.vision.network.session import Network, Session
from foremask.vision.temporal.regions import FOREGROUND, Scene, measure
from foremask.vision.temporal.tier import TIERS, Tier
from foremask.vision.temporal.verdict import Judge, Trees, judge
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

HERE = Path(__file__).parent
FOLDS: list[list[str]] = json.loads((HERE / "folds.json").read_text())
KEPT = HERE.parent / "results/folds"
MOST_KEPT_BYTES = 1 << 30  # of one clip in one quality
FRAMES = 25
ALWAYS = -1.0  # below every uncertainty
QUALITIES = (Quality.FAST, Quality.BALANCED)
TIERS_TAUGHT = [TIERS[each] for each in QUALITIES]
LEAST_REGION_PX = 12  # smaller ones teach nothing
LEAST_SUBJECT_PX = 50  # a smaller one, or none, counts as this large
MORE_IS_FOREGROUND = {*View, "mean", "most", "least", "classifier", "near", "near, least"}
FITTING: dict[str, Any] = {
    "max_iter": 200,
    "l2_regularization": 20.0,
    "max_features": 0.5,
    "early_stopping": False,
    "random_state": 0,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Regions of one clip: their features, whether each is foreground, and their weights."""

    names: list[str]
    features: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    weights: NDArray[np.float32]


def masked(clip: Clip, network: Network, tier: Tier, by: Judge) -> list[Alpha]:
    """The masks of a clip's first frames, decided by ``by``; the network's results are kept."""
    images = [Numbered(frame, at) for at, frame in enumerate(islice(clip.frames(), FRAMES))]
    identity = {"tier": repr(tier)}
    path = KEPT / f"{clip.name} {sha256(repr(tier).encode()).hexdigest()[:8]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open_file_store(path, identity, MOST_KEPT_BYTES) as store:
        return list(mask_images(images, network, tier, by, cache=NetworkCache(store)))


def seen(clip: Clip, network: Network, tier: Tier) -> list[Scene]:
    scenes: list[Scene] = []

    def note(them: Sequence[Scene]) -> list[Alpha]:
        scenes[:] = them
        return [np.zeros_like(each.motion) for each in them]

    masked(clip, network, tier, note)
    return scenes


def lessons_of(clip: Clip, network: Network, tier: Tier) -> list[Lesson]:
    """Regions of a clip from three kinds of anchors: as the tier infers, with all views, with one.

    Trees fitted on all three do not depend on the limits of the tier.
    """
    more = seen(clip, network, always(tier))
    alone = [
        replace(each, opinions={View.STRETCHED: each.opinions[View.STRETCHED]}) for each in more
    ]
    truths = clip.truths()
    return [lesson(scenes, truths) for scenes in (seen(clip, network, tier), more, alone)]


def always(tier: Tier) -> Tier:
    """The tier with every view of every anchor."""
    return replace(tier, mirrored_above=ALWAYS, probed_above=ALWAYS, cropped_above=ALWAYS)


def lesson(scenes: Sequence[Scene], truths: Sequence[Alpha]) -> Lesson:
    """Weigh a region by the root of its share of the subject, less where its pixels disagree.

    With the share itself, thin regions would have no weight. Each frame of a clip weighs the same.
    """
    features, foreground, weights = [], [], []
    frame = 0
    for scene, (regions, found) in zip(scenes, measure(scenes), strict=True):
        rows, columns = scene.motion.shape
        truth = on_grid((columns, rows), truths[frame]) > FOREGROUND
        share = regions.mean(truth.astype(np.float32))
        kept = regions.sizes >= LEAST_REGION_PX
        subject = np.float32(max(LEAST_SUBJECT_PX, int(truth.sum())))
        counted = np.sqrt(np.minimum(1, regions.sizes * np.abs(2 * share - 1) / subject))
        features.append(np.stack(list(found.values()), axis=1)[kept])
        foreground.append(share[kept] > FOREGROUND)
        weights.append(counted[kept])
        frame += scene.links[1].frames if 1 in scene.links else 0
    each = np.asarray(np.concatenate(weights) / len(scenes), np.float32)
    return Lesson(list(found), np.concatenate(features), np.concatenate(foreground), each)


def on_grid(grid: tuple[int, int], truth: Alpha) -> Alpha:
    return np.asarray(cv2.resize(truth, grid, interpolation=cv2.INTER_AREA), np.float32)


def fitted(lessons: Sequence[Lesson]) -> dict[str, Any]:
    """Fit gradient-boosted trees; a feature of `MORE_IS_FOREGROUND` never lowers the result."""
    names = lessons[0].names
    weights = np.concatenate([each.weights for each in lessons])
    model = HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_leaf_nodes=8,
        min_samples_leaf=60,
        monotonic_cst=[int(name in MORE_IS_FOREGROUND) for name in names],
        **FITTING,
    ).fit(
        np.concatenate([each.features for each in lessons]),
        np.concatenate([each.foreground for each in lessons]),
        sample_weight=weights / weights.mean(),
    )
    return table_of(model, names)


def table_of(model: HistGradientBoostingClassifier, names: Sequence[str]) -> dict[str, Any]:
    """The trees as lists; a leaf leads to itself."""
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
        made = {
            "feature": np.where(leaf, 0, nodes["feature_idx"]),
            "threshold": np.where(leaf, 0, nodes["num_threshold"]).astype(np.float32),
            "missing_left": nodes["missing_go_to_left"].astype(int),
            "left": np.where(leaf, itself, nodes["left"]),
            "right": np.where(leaf, itself, nodes["right"]),
            "value": np.where(leaf, nodes["value"], 0).round(5),
        }
        for name, column in made.items():
            padded = [*column.tolist(), *[0] * (most - len(nodes))]
            columns[name].append([float(f"{each:.6g}") for each in padded])
    for name in ("feature", "missing_left", "left", "right"):
        columns[name] = [[int(each) for each in column] for column in columns[name]]
    return table | columns


def clips_by_name() -> dict[str, Clip]:
    return {clip.name: clip for folder in ("davis", "more") for clip in clips_in(DATA / folder)}


def lessons_by_clip(clips: Mapping[str, Clip], session: Session) -> dict[str, list[Lesson]]:
    lessons = {}
    for name in (name for fold in FOLDS for name in fold):
        network = Remembering(session)
        lessons[name] = [
            each for tier in TIERS_TAUGHT for each in lessons_of(clips[name], network, tier)
        ]
        print(f"{name}: {sum(len(each.weights) for each in lessons[name])} regions", flush=True)
    return lessons


def left_out[T](names: Collection[str], lessons: Mapping[str, Sequence[T]]) -> list[T]:
    return [each for name, some in lessons.items() if name not in names for each in some]


def write_table(table: Mapping[str, Any], name: str) -> None:
    path = HERE.parents[1] / "src/foremask/vision/temporal" / name
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")


def main(*, write: bool = False) -> None:
    clips, session = clips_by_name(), Session(model_path())
    lessons = lessons_by_clip(clips, Session(model_path(), whole=True))
    header("clip", *(f"{each}: {what}" for each in QUALITIES for what in ("J", "F", "dtSSD")))
    rows = []
    for fold in FOLDS:
        by = partial(judge, trees=Trees(fitted(left_out(fold, lessons))))
        for name in fold:
            truths = clips[name].truths()[:FRAMES]
            found: list[float] = []
            for tier in TIERS_TAUGHT:
                masks = masked(clips[name], session, tier, by)
                height, columns = masks[0].shape
                scores = score(masks, [on_grid((columns, height), each) for each in truths])
                found += [scores.j, scores.f, scores.dtssd]
            rows.append(found)
            row(name, *(f"{each:.2f}" for each in found))
    row("mean", *(f"{each:.2f}" for each in np.mean(rows, axis=0)))
    if write:
        write_table(fitted(left_out([], lessons)), "verdict.json")


if __name__ == "__main__":
    run(main, __doc__)
