"""Fit the gate of `foremask.vision.temporal.correction` on clips with true masks.

``python -m benchmarks.quality.fit_correction [--data FOLDER] --keep FOLDER`` masks each clip, clicks
in each anchor's three largest wrong places, in their middle and at a random point near it, and fits
one small network on all of them: correction.json. In ``--keep`` it leaves the gate that was fitted
without each clip, ``NAME.json``, for ``benchmarks.quality.clicks --gates``. Printed for each clip:
the share of the wrong place that its own gate mends, net of what it breaks.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality.clicks import number_of
from benchmarks.quality.tiers import Numbered, Remembering
from foremask.options import Quality
from foremask.types import Alpha, Rgb
from foremask.vision.network.session import Session
from foremask.vision.temporal.correction import CLEAR, UNUSUAL, Click, Gate, Shown, measure
from foremask.vision.temporal.lesson import Mark
from foremask.vision.temporal.regions import FOREGROUND
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import learn, mask_images
from foremask.weights.catalogue import model_path

LEAST_PX = 40  # of a wrong place
PLACES = 3  # of an anchor, of each side
UNITS, STEPS, BATCH, RATE, DECAY = 24, 1600, 4096, 4e-3, 1e-2
BLIND_SHARE = 0.25  # of the clicks: as if nobody saw anything there
BLIND = (0, 0, 0, -0.5, 0, -0.5, -4, 0, -2, 0)
SAID = slice(7, 17)  # the features that opinions, classifier and verdict give

type Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """One click: the features of the pixels that may change, and which of them should."""

    features: Rows
    wanted: NDArray[np.bool_]


def shown_of(clip: Clip, network: Remembering) -> list[Shown]:
    """What is known of each anchor of a clip of one window."""
    images = [Numbered(frame, number) for number, frame in enumerate(clip.frames())]
    tier = TIERS[Quality.BALANCED]
    seen: list[Shown] = []
    hinted = [(0, images[0], [Mark(0, positive=True, x=0.5, y=0.5)])]
    guidance = replace(learn(hinted, network, tier, number_of), on_shown=seen.extend)
    list(mask_images(images, network, tier, guidance=guidance))
    return seen


def truth_of(shown: Shown, frames: Sequence[Rgb], truths: Sequence[Alpha]) -> NDArray[np.bool_]:
    """The truth of the frame that looks most like what is shown, on its grid."""
    rows, columns = shown.mask.shape
    apart = [np.abs(each.astype(int) - shown.rgb).mean() for each in frames]
    truth = truths[int(np.argmin(apart))]
    return cv2.resize(truth, (columns, rows), interpolation=cv2.INTER_AREA) > 0.5


def cases_of(shown: Shown, truth: NDArray[np.bool_], random: np.random.Generator) -> Iterator[Case]:
    """The clicks of one anchor."""
    picked = shown.mask > FOREGROUND
    for positive, wrong in ((True, truth & ~picked), (False, picked & ~truth)):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
        largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:PLACES]
        for place in (labels == label for label in largest):
            if place.sum() < LEAST_PX:
                continue
            padded = np.pad(place.astype(np.uint8), 1)
            depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
            near = np.argwhere(depth > depth.max() / 2)
            middle = np.unravel_index(int(depth.argmax()), depth.shape)
            for row, column in (middle, near[random.integers(len(near))]):
                features, may_change, window = measure(
                    Click(int(row), int(column), positive), shown
                )
                yield Case(features[may_change], place[window][may_change])


def fitted(cases: Sequence[Case], random: np.random.Generator) -> Gate:
    """AdamW (Loshchilov and Hutter, 2019) on the cross entropy; every wrong place weighs the same.

    Some clicks are shown as where nobody has seen anything.
    """
    rows, labels, weights = [], [], []
    for case in cases:
        for _ in range(2):
            features = case.features.copy()
            if random.random() < BLIND_SHARE:
                features[:, SAID] = BLIND
            rows.append(features)
            labels.append(case.wanted)
            weights.append(np.full(len(features), 1 / max(20, int(case.wanted.sum()))))
    x, y = np.concatenate(rows), np.concatenate(labels).astype(np.float32)
    chances = np.cumsum(np.concatenate(weights))
    mean, deviation = x.mean(axis=0), x.std(axis=0) + np.float32(0.05)
    x = np.clip((x - mean) / deviation, -UNUSUAL, UNUSUAL).astype(np.float32)
    spans = (x.shape[1], UNITS), (UNITS,), (UNITS, 1), (1,)
    weights_now = [
        np.asarray(
            random.normal(0, shape[0] ** -0.5, shape) if len(shape) > 1 else np.zeros(shape),
            np.float32,
        )
        for shape in spans
    ]
    first = [np.zeros_like(each) for each in weights_now]
    second = [np.zeros_like(each) for each in weights_now]
    for step in range(1, STEPS + 1):
        batch = np.searchsorted(chances, random.random(BATCH) * chances[-1])
        into, bias, out, last = weights_now
        before = x[batch] @ into + bias
        kept = (before > 0) * (random.random(before.shape) > 0.1) / 0.9
        hidden = before * kept
        z = (hidden @ out + last)[:, 0]
        error = ((1 / (1 + np.exp(-z)) - y[batch]) / BATCH)[:, None]
        inner = error @ out.T * kept
        gradients = [x[batch].T @ inner, inner.sum(0), hidden.T @ error, error.sum(0)]
        rate = RATE * (1 - step / STEPS) ** 0.5
        for i, gradient in enumerate(gradients):
            first[i] += 0.1 * (gradient - first[i])
            second[i] += 0.001 * (gradient**2 - second[i])
            size = np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8
            weights_now[i] -= rate * (DECAY * weights_now[i] + first[i] / (1 - 0.9**step) / size)
    return Gate(mean, deviation, [np.asarray(each, np.float32) for each in weights_now])


def main() -> None:
    """Fit, print what was left out, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA / "davis")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("src/foremask/vision/temporal/correction.json")
    )
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    session = Session(model_path())
    random = np.random.default_rng(0)
    clicks: dict[str, list[Case]] = {}
    for clip in clips_in(args.data):
        seen = shown_of(clip, Remembering(session))
        size = seen[0].mask.shape[::-1]
        frames = [
            cv2.resize(each, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
            for each in clip.frames()
        ]
        truths = clip.truths()
        clicks[clip.name] = [
            case for each in seen for case in cases_of(each, truth_of(each, frames, truths), random)
        ]
        print(f"{clip.name}: {len(clicks[clip.name])} clicks", flush=True)
    for name, own in clicks.items():
        others = [case for other, some in clicks.items() if other != name for case in some]
        gate = fitted(others, random)
        (args.keep / f"{name}.json").write_text(gate.written())
        net = [
            (case.wanted.astype(int) * 2 - 1)[gate(case.features) > CLEAR].sum() / case.wanted.sum()
            for case in own
        ]
        print(f"{name:16} mends {np.clip(net, -1, 1).mean():.2f}", flush=True)
    everything = [case for some in clicks.values() for case in some]
    args.out.write_text(fitted(everything, random).written() + "\n")


if __name__ == "__main__":
    main()
