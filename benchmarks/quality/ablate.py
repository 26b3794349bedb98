"""Scores masks with one part of the method switched off.

``python -m benchmarks.quality.ablate [PART ...] [--quality QUALITY] [--clips NAME ...]`` prints one row a part; the
first row has all parts. The decision's trees are those that are shipped, so they have met the 29 clips: a row tells
what its part gives beside the others, not how right masks are. The network's answers are kept, as by `folds`.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.machine import header, row, run
from benchmarks.quality.answers import named
from benchmarks.quality.folds import FOLDS, PROCESSES, clips_by_name, network_on
from benchmarks.quality.lessons import on_grid
from benchmarks.quality.scores import Scores, score
from benchmarks.quality.wholeness import Wholeness, wholeness
from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha
from foremask.vision.temporal import verdict
from foremask.vision.temporal.regions import Scene
from foremask.vision.temporal.tier import TIERS, Tier

ALL_PARTS = "nothing"
BALANCED = TIERS[Quality.BALANCED]


@dataclass(frozen=True, slots=True)
class Part:
    """How a part is switched off: other settings, another judge, or functions that do nothing."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # of `Tier`
    judge: Callable[[Sequence[Scene]], list[Alpha]] = verdict.judge
    learns_appearance: bool = True
    without: str = ""  # a function that now returns its first argument


def opinions_mean(scenes: Sequence[Scene]) -> list[Alpha]:
    """Log odds of the opinions' mean, in place of trees, time and shapes."""
    means = [np.clip(scene.mean(), 1e-3, 1 - 1e-3) for scene in scenes]
    return [np.asarray(np.log(mean / (1 - mean)), np.float32) for mean in means]


PARTS: dict[str, Part] = {
    ALL_PARTS: Part(),
    "trees": Part(judge=opinions_mean),
    "classifier": Part(learns_appearance=False),
    "time": Part(without="foremask.vision.temporal.verdict.along_flow"),
    "thin parts": Part(without="foremask.vision.temporal.verdict.with_thin_parts"),
    "wholes": Part(without="foremask.vision.temporal.verdict.as_wholes"),
    "hardening": Part(without="foremask.pipeline.stages.propagate.hardened"),
    "mirror image": Part({"mirrored_above": 1.0, "probed_above": 1.0}),
    "crop": Part({"cropped_above": 1.0}),
    "stride": Part({"stride": BALANCED.stride, "anchor_price": BALANCED.anchor_price}),
    "two anchors a side": Part({"anchors_per_side": 1}),
    "larger planes": Part(
        {"mask_area_px": BALANCED.mask_area_px, "flow_area_px": BALANCED.flow_area_px}
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    clip: str
    scores: Scores
    whole: Wholeness
    asked: float  # inferences a frame


def _as_it_is(plane: Any, *_: object) -> Any:  # noqa: ANN401  stands for functions of several types
    return plane


def found_on(clip_name: str, part: Part, tier: Tier) -> Found:
    """Mask a whole clip without a part, on the grid on which masks are propagated."""
    clip = clips_by_name()[clip_name]
    images = named(clip.frames())
    network = network_on(clip_name)
    with mock.patch(part.without, _as_it_is) if part.without else nullcontext():
        masks = list(
            mask_images(
                images,
                network,
                replace(tier, **part.settings),
                part.judge,
                learns_appearance=part.learns_appearance,
            )
        )
    rows, columns = masks[0].shape
    truths = [on_grid((columns, rows), truth) for truth in clip.truths()]
    return Found(
        clip_name, score(masks, truths), wholeness(masks, truths), network.asked / len(images)
    )


def print_row(name: str, found: Sequence[Found], base: Sequence[Found]) -> None:
    changes = {
        here.clip: here.scores.jf - there.scores.jf for here, there in zip(found, base, strict=True)
    }
    worst = min(changes, key=lambda clip: changes[clip])
    best = max(changes, key=lambda clip: changes[clip])
    row(
        name,
        f"{np.mean([each.scores.jf for each in found]):.2f}",
        f"{np.mean([each.scores.dtssd for each in found]):.2f}",
        f"{worst} {changes[worst]:+.1f}",
        f"{best} {changes[best]:+.1f}",
        sum(each.whole.torn_frames for each in found),
        f"{np.mean([each.whole.holes for each in found]):.2f}",
        f"{np.mean([each.whole.islands for each in found]):.2f}",
        f"{np.mean([each.asked for each in found]):.2f}",
    )


def main(*parts: str, quality: Quality = Quality.BALANCED, clips: Sequence[str] = ()) -> None:
    chosen = clips or [name for fold in FOLDS for name in fold]
    names = [ALL_PARTS, *(parts or [name for name in PARTS if name != ALL_PARTS])]
    header(
        *("switched off", "J&F", "dtSSD", "worst clip", "best clip"),
        *("torn frames", "holes a frame", "islands a frame", "inferences a frame"),
    )
    with ProcessPoolExecutor(PROCESSES) as processes:
        base: list[Found] = []
        for name in names:
            measure = partial(found_on, part=PARTS[name], tier=TIERS[quality])
            found = list(processes.map(measure, chosen))
            base = base or found
            print_row(name, found, base)


if __name__ == "__main__":
    run(main, __doc__)
