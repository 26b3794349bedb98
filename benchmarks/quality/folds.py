"""Fits the trees of `foremask.vision.temporal.verdict`, and scores them on clips left out.

``uv run --group fit python -m benchmarks.quality.folds [--write] [--as-shipped]`` shows the 29
labelled clips of FOREMASK_DATA whole to each quality of `QUALITIES`. The network's answers are kept
(`benchmarks.quality.answers`), so that a later run asks nothing. Trees are fitted on the clips of
five of six folds, and mask the clips of the sixth end to end; folds.json has the folds, with
similar clips in one. ``--as-shipped`` masks by the shipped trees, which have met the clips.
``--write`` fits on all clips and writes verdict.json. Changes to masks are chosen by these scores.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import header, row, run
from benchmarks.quality.answers import KEPT, Recorded, named
from benchmarks.quality.lessons import Lesson, lessons_of, on_grid, takes_of
from benchmarks.quality.scores import (
    FOREGROUND,
    contour_accuracy,
    region_similarity,
    temporal_error,
)
from benchmarks.quality.wholeness import Wholeness, wholeness
from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.vision.network.opinions import View
from foremask.vision.network.session import Session
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import Trees, fitted_trees, judge
from foremask.weights.catalogue import model_path

HERE = Path(__file__).parent
FOLDS: list[list[str]] = json.loads((HERE / "folds.json").read_text())
QUALITIES = (Quality.FAST, Quality.BALANCED)
QUARTERS = 4
PROCESSES = 2
MORE_IS_FOREGROUND = {*View, "mean", "most", "least", "classifier", "near", "near, least"}
COLUMNS = ("feature", "threshold", "missing_left", "left", "right", "value")  # of `Trees`
# Weights of the lessons in which the subject comes close, one for each fit: docs/adr/0050
CLOSE_WEIGHTS = (0.0, 0.3, 1.0)
FITTING: dict[str, Any] = {
    "learning_rate": 0.08,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 60,
    "max_iter": 100,
    "l2_regularization": 20.0,
    "max_features": 0.5,
    "early_stopping": False,
    "random_state": 0,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What one quality makes of one clip; J, F and shares in percent, a value for each frame."""

    clip: str
    quality: Quality
    j: list[float]
    f: list[float]
    share: list[float]  # of the picture that the subject fills
    network_j: list[float]  # of the network's mask of the picture; NaN where it was not asked
    dtssd: float
    asked: float  # inferences a frame
    whole: Wholeness

    @property
    def jf(self) -> float:
        """The mean of J and F without the first and the last frame, as DAVIS has it."""
        return (float(np.mean(self.j[1:-1])) + float(np.mean(self.f[1:-1]))) / 2


@cache
def clips_by_name() -> dict[str, Clip]:
    return {clip.name: clip for folder in ("davis", "more") for clip in clips_in(DATA / folder)}


@cache
def session() -> Session:
    return Session(model_path(), threads=1)


def network_on(name: str) -> Recorded:
    return Recorded(session, KEPT / name)


def lessons_on(name: str) -> list[Lesson]:
    number = [each for fold in FOLDS for each in fold].index(name)
    takes = takes_of(clips_by_name()[name], number)
    network = network_on(name)
    tiers = [TIERS[each] for each in QUALITIES]
    return [each for take in takes for tier in tiers for each in lessons_of(take, network, tier)]


def fitted(lessons: Sequence[Lesson]) -> dict[str, Any]:
    """The mean of one fit for each of `CLOSE_WEIGHTS`.

    Fits differ most where lessons are few; their mean is wrong less often than each.
    """
    return mean_of([_fitted_once(lessons, weight) for weight in CLOSE_WEIGHTS])


def _fitted_once(lessons: Sequence[Lesson], close_weight: float) -> dict[str, Any]:
    """Fit gradient-boosted trees; a feature of `MORE_IS_FOREGROUND` never lowers the result.

    Lessons in which the subject comes close count as ``close_weight`` of the others.
    """
    names = lessons[0].names
    weights = np.concatenate(
        [each.weights * (close_weight if each.comes_close else 1) for each in lessons]
    )
    counted = weights > 0
    model = HistGradientBoostingClassifier(
        monotonic_cst=[int(name in MORE_IS_FOREGROUND) for name in names], **FITTING
    ).fit(
        np.concatenate([each.features for each in lessons])[counted],
        np.concatenate([each.foreground for each in lessons])[counted],
        sample_weight=weights[counted] / weights[counted].mean(),
    )
    return table_of(model, names)


def mean_of(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One table whose log odds are the mean of those of ``tables``."""
    width = max(len(table["left"][0]) for table in tables)
    mean: dict[str, Any] = {
        "names": tables[0]["names"],
        "bias": float(np.mean([table["bias"] for table in tables])),
        "depth": max(table["depth"] for table in tables),
    }
    for column in COLUMNS:
        mean[column] = []
        for table in tables:
            for nodes in table[column]:
                padded = [*nodes, *[0] * (width - len(nodes))]
                if column == "value":
                    padded = [float(f"{each / len(tables):.6g}") for each in padded]
                mean[column].append(padded)
    return mean


def table_of(model: HistGradientBoostingClassifier, names: Sequence[str]) -> dict[str, Any]:
    """The trees as lists; a leaf leads to itself."""
    trees = [each[0].nodes for each in model._predictors]
    most = max(len(nodes) for nodes in trees)
    table: dict[str, Any] = {
        "names": list(names),
        "bias": float(model._baseline_prediction.item()),
        "depth": int(max(nodes["depth"].max() for nodes in trees)),
    }
    columns: dict[str, list[list[float]]] = {each: [] for each in COLUMNS}
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


def left_out[T](names: Collection[str], lessons: Mapping[str, Sequence[T]]) -> list[T]:
    return [each for name, some in lessons.items() if name not in names for each in some]


def score_on(name: str, table: Mapping[str, Any] | None) -> list[Found]:
    """Mask a whole clip in each quality by the trees of ``table``, or by those that are shipped."""
    clip = clips_by_name()[name]
    images = named(clip.frames())
    trees = fitted_trees() if table is None else Trees(table)
    network = network_on(name)
    found = []
    for quality in QUALITIES:
        network.asked = 0
        by_trees = partial(judge, trees=trees)
        masks = list(mask_images(images, network, TIERS[quality], by_trees))
        asked = network.asked / len(images)  # before single frames are read
        rows, columns = masks[0].shape
        truths = [on_grid((columns, rows), truth) for truth in clip.truths()]
        pairs = [
            (mask >= FOREGROUND, truth >= FOREGROUND)
            for mask, truth in zip(masks, truths, strict=True)
        ]
        single = [
            on_grid((columns, rows), network.infer(image).alpha)
            if network.knows(image)
            else np.full((rows, columns), np.nan, np.float32)
            for image in images
        ]
        found.append(
            Found(
                clip=name,
                quality=quality,
                j=[100 * region_similarity(mask, truth) for mask, truth in pairs],
                f=[100 * contour_accuracy(mask, truth) for mask, truth in pairs],
                share=[100 * float(truth.mean()) for truth in truths],
                network_j=[
                    100 * region_similarity(mask >= FOREGROUND, truth)
                    if np.isfinite(mask).all()
                    else float("nan")
                    for mask, (_, truth) in zip(single, pairs, strict=True)
                ],
                dtssd=temporal_error(masks, truths),
                asked=asked,
                whole=wholeness(masks, truths),
            )
        )
    return found


def print_tables(found: Sequence[Found]) -> None:
    for quality in QUALITIES:
        of = [each for each in found if each.quality is quality]
        print(f"\n### {quality}\n")
        header("clip", "J", "F", "J&F", "dtSSD", "J by quarters", "J above the network's", "asked")
        for each in of:
            row(each.clip, *_cells([each]))
        row("mean", *_cells(of))
        print()
        header("subject's share, %", "frames", "J", "J above the network's")
        for low, high in ((0, 3), (3, 10), (10, 25), (25, 100)):
            inside = [
                (j, j - network)
                for each in of
                for j, network, share in zip(each.j, each.network_j, each.share, strict=True)
                if low <= share < high
            ]
            if inside:
                j, above = np.nanmean(inside, axis=0)
                row(f"{low} to {high}", len(inside), f"{j:.1f}", f"{above:+.1f}")
        wholes = [each.whole for each in of]
        print()
        header("holes a frame", "their area", "islands a frame", "their area", "torn frames")
        means = [
            np.mean([getattr(each, name) for each in wholes])
            for name in ("holes", "hole_area", "islands", "island_area")
        ]
        row(*(f"{mean:.2f}" for mean in means), sum(each.torn_frames for each in wholes))


def _cells(of: Sequence[Found]) -> list[str]:
    quarters = np.mean(
        [[part.mean() for part in np.array_split(each.j, QUARTERS)] for each in of], axis=0
    )
    above = [np.nanmean(np.subtract(each.j, each.network_j)) for each in of]
    return [
        f"{np.mean([np.mean(each.j[1:-1]) for each in of]):.2f}",
        f"{np.mean([np.mean(each.f[1:-1]) for each in of]):.2f}",
        f"{np.mean([each.jf for each in of]):.2f}",
        f"{np.mean([each.dtssd for each in of]):.2f}",
        " ".join(f"{each:.1f}" for each in quarters),
        f"{np.mean(above):+.1f}",
        f"{np.mean([each.asked for each in of]):.3f}",
    ]


def write_table(table: Mapping[str, Any], name: str) -> None:
    path = HERE.parents[1] / "src/foremask/vision/temporal" / name
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")


def main(*, write: bool = False, as_shipped: bool = False) -> None:
    names = [name for fold in FOLDS for name in fold]
    with ProcessPoolExecutor(PROCESSES) as processes:
        if as_shipped:
            tables: list[Mapping[str, Any] | None] = [None] * len(names)
        else:
            lessons = dict(zip(names, processes.map(lessons_on, names), strict=True))
            by_fold = [fitted(left_out(fold, lessons)) for fold in FOLDS]
            tables = [table for fold, table in zip(FOLDS, by_fold, strict=True) for _ in fold]
        scored = list(processes.map(score_on, names, tables))
    print_tables([each for some in scored for each in some])
    if write:
        write_table(fitted(left_out([], lessons)), "verdict.json")


if __name__ == "__main__":
    run(main, __doc__)
