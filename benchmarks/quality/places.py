"""Fits the trees of `foremask.vision.temporal.correction`, and scores them on clips left out.

``uv run --group fit python -m benchmarks.quality.places [--write]`` decides the anchors of the 29
clips of `folds` by trees fitted on other clips. It clicks on every wrong place twice: in the
middle, and at a random point at least half as deep. Prints the share of a frame's largest wrong
place that a click corrects, less the share that it spoils. ``--write`` writes correction.json.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.clips import Clip
from benchmarks.machine import run
from benchmarks.quality import folds
from benchmarks.quality.answers import Recorded, named
from benchmarks.quality.lessons import LEAST_SUBJECT_PX, Take, on_grid, scenes_of
from benchmarks.quality.scores import Binary, region_similarity, wrong_places
from benchmarks.quality.tiers import session
from foremask.options import Quality
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.opinions import infer_part
from foremask.vision.temporal.correction import Shown, measured
from foremask.vision.temporal.frame_hints import CROP_PX, Mark, Seed, crops_round
from foremask.vision.temporal.grids import Grid
from foremask.vision.temporal.places import depth_of, middle_of
from foremask.vision.temporal.regions import FOREGROUND, RegionFeatures
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import Trees, judge

LEAST_PX, LEAST_SHARE = 12, 0.003  # of the subject: smaller wrong places teach nothing
INEXACT_DEPTH, INEXACT_WEIGHT = 0.5, 0.25
LEAST_GAIN, MOST_GAIN = -0.5, 1.2  # what spoils more is just as wrong

FITTING = {"learning_rate": 0.1, "max_leaf_nodes": 12, "min_samples_leaf": 80, "max_iter": 200}


@dataclass(frozen=True, slots=True)
class Lesson:
    """The candidates for one click.

    ``gains`` are the corrected less the spoiled pixels, in sizes of the wrong place; ``likenesses`` are
    each candidate's J with it.
    """

    features: RegionFeatures
    gains: NDArray[np.float32]
    likenesses: NDArray[np.float32]
    weight: float
    is_largest: bool  # of the frame's wrong places, and hit exactly


def lessons_of(clip: Clip, network: Network, trees: Trees) -> Iterator[Lesson]:
    take = Take(named(clip.frames()), clip.truths())
    images, truths, frame = take.images, take.truths, 0
    scenes = scenes_of(take, network, TIERS[Quality.BALANCED])
    for scene, log_odds in zip(scenes, judge(scenes, trees), strict=True):
        rows, columns = log_odds.shape
        size = Grid(columns, rows)
        truth = on_grid(size, truths[frame]) > FOREGROUND
        mask, opinions = log_odds > 0, list(scene.opinions.values())
        shown = Shown(scene.rgb, mask.astype(np.float32), opinions, scene.logit, log_odds)
        subject = max(LEAST_SUBJECT_PX, int(truth.sum()))
        for number, (place, positive) in enumerate(wrong_places(mask, truth)):
            if place.sum() < max(LEAST_PX, LEAST_SHARE * subject):
                break
            for is_exact, (row, column) in enumerate(clicks_in(place)):
                mark = Mark(0, positive, (column + 0.5) / columns, (row + 0.5) / rows)
                crops = []
                for box in crops_round(mark, size):
                    crops.append(shown.mean())
                    part = infer_part(network, images[frame], (rows, columns), box, CROP_PX)
                    crops[-1][box] = part
                click = Seed(0, positive, row, column, crops, mask & False)
                candidates, features = measured(click, shown)
                if not candidates:
                    continue
                wrong, found = mask != truth, [each for *_, each in candidates]
                gains = [(2 * (each & wrong).sum() - each.sum()) / place.sum() for each in found]
                likenesses = [region_similarity(each, place) for each in found]
                yield Lesson(
                    features,
                    np.array(gains, np.float32),
                    np.array(likenesses, np.float32),
                    float(np.sqrt(place.sum() / subject)) * (1 if is_exact else INEXACT_WEIGHT),
                    is_largest=bool(is_exact) and number == 0,
                )
        frame += scene.links[1].frames if 1 in scene.links else 0


def clicks_in(place: Binary) -> list[tuple[int, int]]:
    """A random point of at least half the greatest depth, and the middle."""
    depth = depth_of(place)
    deep = np.argwhere(depth >= INEXACT_DEPTH * depth.max())
    row, column = deep[np.random.default_rng(len(deep)).integers(len(deep))]
    return [(int(row), int(column)), middle_of(place)]


def fitted(lessons: Sequence[Lesson]) -> dict[str, Any]:
    """Fit gradient-boosted trees that predict the sum of a candidate's gain and likeness.

    For the gain alone, a click that is not understood would change too little; for the likeness alone, it
    would spoil too much.
    """
    gains = np.concatenate([each.gains for each in lessons]).clip(LEAST_GAIN, MOST_GAIN)
    weights = [np.full(len(each.gains), each.weight / len(each.gains)) for each in lessons]
    model = HistGradientBoostingRegressor(**(folds.FITTING | FITTING)).fit(
        np.concatenate([np.stack(list(each.features.values()), axis=1) for each in lessons]),
        gains + np.concatenate([each.likenesses for each in lessons]),
        sample_weight=np.concatenate(weights),
    )
    return folds.table_of(model, list(lessons[0].features))


def mended(lessons: Sequence[Lesson], trees: Trees) -> float:
    """The mean gain of the chosen candidates, over the frames' largest wrong places."""
    largest = [each for each in lessons if each.is_largest]
    chosen = [each.gains[int(np.argmax(trees.log_odds(each.features)))] for each in largest]
    return float(np.mean(np.maximum(chosen, -1))) if chosen else np.nan


def main(*, write: bool = False) -> None:
    clips = folds.clips_by_name()
    regions = {name: folds.lessons_on(name) for fold in folds.FOLDS for name in fold}
    lessons: dict[str, list[Lesson]] = {}
    for fold in folds.FOLDS:
        trees = Trees(folds.fitted(folds.left_out(fold, regions)))
        for name in fold:
            lessons[name] = list(
                lessons_of(clips[name], Recorded(partial(session, whole=True)), trees)
            )
    found: list[float] = []
    for fold in folds.FOLDS:
        trees = Trees(fitted(folds.left_out(fold, lessons)))
        for name in fold:
            found.append(mended(lessons[name], trees))
            print(f"{name:16} {found[-1]:+.2f}", flush=True)
    print(f"{'mean':16} {np.nanmean(found):+.2f}")
    if write:
        folds.write_table(fitted(folds.left_out([], lessons)), "correction.json")


if __name__ == "__main__":
    run(main, __doc__)
