"""Fit the gate of `foremask.vision.temporal.closer` on clips with true masks, and say how well it does on clips left out.

``uv run --group fit python -m benchmarks.quality.fit_closer [--data FOLDER ...]`` runs the real
network on every fourth frame and looks closer at each, in two settings, and fits one logistic
regression on all of them: closer.json. Printed for each clip and setting: J of the mask before the
closer look, of the closer look itself, of the gate that was fitted on all other clips, and of the
best that any gate could do with these regions.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality.fit_gate import ALWAYS, EVERY_FRAMES, Lesson, fitted, j_of, lesson
from benchmarks.quality.tiers import Numbered, Remembering
from foremask.options import Quality
from foremask.types import Alpha
from foremask.vision.network.opinions import NEVER
from foremask.vision.network.session import Session
from foremask.vision.temporal.closer import CLOSER, MASK, measure_closer
from foremask.vision.temporal.regions import Features, Regions, Scene
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import smooth_over_time
from foremask.vision.temporal.windows import WINDOW_FRAMES, mask_images
from foremask.weights.catalogue import model_path

SETTINGS = {"alone": NEVER, "mirrored": ALWAYS}
"""The uncertainty above which the mirror image is asked too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The anchors of one clip in one setting."""

    scenes: list[Scene]
    measured: list[tuple[Regions, Features]]
    truths: list[NDArray[np.bool_]]

    def lesson(self) -> Lesson:
        """What the gate learns from it."""
        return lesson(self.measured, self.truths)

    def opinion(self, name: str) -> list[Alpha]:
        """One of the two opinions, positive where it says foreground."""
        return [scene.opinions[name] - np.float32(0.5) for scene in self.scenes]

    def best_possible(self) -> list[Alpha]:
        """Each region decided by the truth."""
        return [
            regions.spread(regions.mean(truth.astype(np.float32)) - np.float32(0.5))
            for (regions, _), truth in zip(self.measured, self.truths, strict=True)
        ]


def seen_of(clip: Clip, network: Remembering, mirrored_above: float) -> Seen:
    """Every fourth frame of the clip's first window."""
    tier = replace(
        TIERS[Quality.BALANCED],
        stride=EVERY_FRAMES,
        anchors_per_frame=0,
        mirrored_above=mirrored_above,
    )
    seen: list[Scene] = []
    measured: list[tuple[Regions, Features]] = []

    def note(scenes: Sequence[Scene], log_odds: Sequence[Alpha]) -> list[Alpha]:
        seen[:] = scenes
        measured[:] = measure_closer(scenes, log_odds)
        return [scene.opinions[MASK] - np.float32(0.5) for scene in scenes]

    images = [Numbered(frame, number) for number, frame in enumerate(clip.frames())]
    images = images[:WINDOW_FRAMES]
    whole = EVERY_FRAMES * ((len(images) - 1) // EVERY_FRAMES) + 1
    list(mask_images(images[:whole], network, tier, judge_closer=note))
    rows, columns = seen[0].motion.shape
    every = clip.truths()[::EVERY_FRAMES][: len(seen)]
    truths = [
        cv2.resize(each, (columns, rows), interpolation=cv2.INTER_AREA) > 0.5 for each in every
    ]
    return Seen(seen, measured, truths)


def main() -> None:
    """Fit, print what was left out, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", type=Path, default=[DATA / "davis", DATA / "alpha"])
    parser.add_argument(
        "--out", type=Path, default=Path("src/foremask/vision/temporal/closer.json")
    )
    args = parser.parse_args()
    session = Session(model_path())
    everything: dict[str, list[Seen]] = {}
    for clip in (clip for folder in args.data for clip in clips_in(folder)):
        network = Remembering(session)
        everything[clip.name] = [seen_of(clip, network, above) for above in SETTINGS.values()]
    names = list(next(iter(everything.values()))[0].measured[0][1])
    lessons = {name: [one.lesson() for one in seen] for name, seen in everything.items()}
    for name, seen in everything.items():
        others = [each for other, some in lessons.items() if other != name for each in some]
        gate = fitted(others, names)
        for setting, one in zip(SETTINGS, seen, strict=True):
            planes = [regions.spread(gate.log_odds(found)) for regions, found in one.measured]
            smooth = smooth_over_time(planes, [scene.links for scene in one.scenes])
            scored = (one.opinion(MASK), one.opinion(CLOSER), smooth, one.best_possible())
            numbers = " ".join(f"{j_of(each, one.truths):6.2f}" for each in scored)
            print(f"{name:24s} {setting:8s} {numbers}")
    gate = fitted([each for some in lessons.values() for each in some], names)
    args.out.write_text(json.dumps({"bias": gate.bias, "weights": gate.weights}, indent=1) + "\n")


if __name__ == "__main__":
    main()
