"""Fit the trees of `foremask.vision.temporal.correction`, and say how well they find a wrong place.

``uv run --group fit python -m benchmarks.quality.places [--write]`` decides the anchors of the 29
clips of `folds` by trees that have not met the clip, and clicks in the middle of every wrong place,
once exactly and once up to half as deep. Printed, of clips left out: how much of the largest wrong
place of a frame a click mends, less what it spoils. ``--write`` writes correction.json.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality import folds
from benchmarks.quality.scores import Binary, region_similarity
from benchmarks.quality.tiers import Numbered, Remembering
from foremask.options import Quality
from foremask.vision.network.opinions import infer_part
from foremask.vision.network.session import Network, Session
from foremask.vision.temporal.correction import Shown, measured
from foremask.vision.temporal.frame_hints import CROP_PX, Correction, Mark, crops_round
from foremask.vision.temporal.regions import FOREGROUND, Features
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import Trees, judge, trees_of
from foremask.weights.catalogue import model_path

ALL_ASKED = replace(
    TIERS[Quality.BALANCED],
    mirrored_above=folds.ALWAYS,
    probed_above=folds.ALWAYS,
    cropped_above=folds.ALWAYS,
)
LEAST_PX, LEAST_SHARE = 12, 0.003  # of the subject: smaller wrong places teach nothing
INEXACT_DEPTH, INEXACT_WEIGHT = 0.5, 0.25
LEAST_GAIN, MOST_GAIN = -0.5, 1.2  # what spoils more is just as wrong


@dataclass(frozen=True, slots=True)
class Lesson:
    """The candidates for one click.

    ``gains``: what each mends less what it spoils, in wrong places; ``likenesses``: its J with it.
    """

    features: Features
    gains: NDArray[np.float32]
    likenesses: NDArray[np.float32]
    weight: float
    is_largest: bool  # of the frame's wrong places, and hit exactly


def lessons_of(clip: Clip, network: Network, trees: Trees) -> Iterator[Lesson]:
    """Every wrong place of the anchors of a clip's first frames."""
    images = [Numbered(each, at) for at, each in enumerate(islice(clip.frames(), folds.FRAMES))]
    truths, frame = clip.truths(), 0
    scenes = folds.seen(clip, network, ALL_ASKED)
    for scene, log_odds in zip(scenes, judge(scenes, trees), strict=True):
        rows, columns = log_odds.shape
        size = columns, rows
        truth = cv2.resize(truths[frame], size, interpolation=cv2.INTER_AREA) > FOREGROUND
        mask, opinions = log_odds > 0, list(scene.opinions.values())
        shown = Shown(scene.rgb, mask.astype(np.float32), opinions, scene.logit, log_odds)
        subject = max(folds.LEAST_SUBJECT_PX, int(truth.sum()))
        for number, (place, positive) in enumerate(wrong_places(mask, truth, subject)):
            for is_exact, (row, column) in enumerate(clicks_in(place)):
                mark = Mark(0, positive, (column + 0.5) / columns, (row + 0.5) / rows)
                crops = []
                for box in crops_round(mark, size):
                    crops.append(shown.mean())
                    part = infer_part(network, images[frame], (rows, columns), box, CROP_PX)
                    crops[-1][box] = part
                candidates, features = measured(Correction(row, column, positive, crops), shown)
                wrong, found = mask != truth, [each.place for each in candidates]
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


def wrong_places(mask: Binary, truth: Binary, subject: int) -> list[tuple[Binary, bool]]:
    """The connected places that lack or are too much, the largest first; whether they lack."""
    found = []
    for positive, wrong in ((True, truth & ~mask), (False, mask & ~truth)):
        count, labels = cv2.connectedComponents(wrong.astype(np.uint8))
        found += [(np.asarray(labels == label), positive) for label in range(1, count)]
    least = max(LEAST_PX, LEAST_SHARE * subject)
    return sorted(
        (each for each in found if each[0].sum() >= least), key=lambda each: -each[0].sum()
    )


def clicks_in(place: Binary) -> list[tuple[int, int]]:
    """Somewhere deep in a place, and in its middle."""
    depth = cv2.distanceTransform(np.pad(place.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deep = np.argwhere(place & (depth >= INEXACT_DEPTH * depth.max()))
    anywhere = deep[np.random.default_rng(len(deep)).integers(len(deep))]
    middle = np.unravel_index(int(depth.argmax()), depth.shape)
    return [(int(row), int(column)) for row, column in (anywhere, middle)]


def fitted(lessons: Sequence[Lesson]) -> dict[str, Any]:
    """Gradient-boosted trees that foresee a candidate's gain and likeness, as a table.

    By the gain alone a click that is not understood would change as little as it can; by likeness
    alone it would spoil too much.
    """
    names = list(lessons[0].features)
    gains = np.concatenate([each.gains for each in lessons]).clip(LEAST_GAIN, MOST_GAIN)
    weights = [np.full(len(each.gains), each.weight / len(each.gains)) for each in lessons]
    model = HistGradientBoostingRegressor(
        learning_rate=0.1,
        max_iter=200,
        max_leaf_nodes=12,
        min_samples_leaf=80,
        l2_regularization=20.0,
        max_features=0.5,
        early_stopping=False,
        random_state=0,
    ).fit(
        np.concatenate([np.stack(list(each.features.values()), axis=1) for each in lessons]),
        gains + np.concatenate([each.likenesses for each in lessons]),
        sample_weight=np.concatenate(weights),
    )
    return folds.table_of(model, names)


def mended(lessons: Sequence[Lesson], trees: Trees) -> float:
    """The mean gain of the candidates that are chosen, on each frame's largest wrong place."""
    return float(
        np.mean(
            [
                max(-1.0, each.gains[int(np.argmax(trees.log_odds(each.features)))])
                for each in lessons
                if each.is_largest
            ]
        )
    )


def main() -> None:
    """Print the gain on clips left out; with ``--write`` fit on all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    by_fold: list[list[str]] = json.loads((folds.HERE / "folds.json").read_text())
    clips = {clip.name: clip for folder in ("davis", "more") for clip in clips_in(DATA / folder)}
    session = Session(model_path())
    networks = {name: Remembering(session) for name in clips}
    regions = {
        name: [
            each
            for tier in folds.TIERS_TAUGHT
            for each in folds.lessons_of(clip, networks[name], tier)
        ]
        for name, clip in clips.items()
    }
    lessons: dict[str, list[Lesson]] = {}
    for fold in by_fold:
        others = [each for name, some in regions.items() if name not in fold for each in some]
        trees = trees_of(folds.fitted(others))
        lessons |= {name: list(lessons_of(clips[name], networks[name], trees)) for name in fold}
    found = []
    for fold in by_fold:
        trees = trees_of(
            fitted([each for name in lessons if name not in fold for each in lessons[name]])
        )
        for name in fold:
            found.append(mended(lessons[name], trees))
            print(f"{name:16} {found[-1]:+.2f}", flush=True)
    print(f"{'mean':16} {np.mean(found):+.2f}")
    if args.write:
        table = fitted([each for some in lessons.values() for each in some])
        path = folds.HERE.parents[1] / "src/foremask/vision/temporal/correction.json"
        path.write_text(json.dumps(table, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
