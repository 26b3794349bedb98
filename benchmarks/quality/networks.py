"""Scores the masks that foremask makes with another network, beside that network's single frames.

``python -m benchmarks.quality.networks FILE`` shows the 29 labelled clips of FOREMASK_DATA whole to
one quality. FILE is an ONNX file with its side-car (docs/models.md). The trees of the decision were
fitted on IS-Net's answers: here they meet another network's. A clip takes minutes: with ``--kept``,
a run that was ended goes on with the clips that are not in that file of JSON lines. With
``--answers``, the network's answers are kept in that folder, and a later run asks nothing.
"""

import json
from pathlib import Path

import numpy as np

from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.machine import header, row, run
from benchmarks.quality.answers import Recorded, named
from benchmarks.quality.scores import Scores, score
from benchmarks.quality.tiers import per_frame, resolved
from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.vision.network.session import Session
from foremask.vision.temporal.tier import TIERS


def scores_of(clip: Clip, network: Recorded, quality: Quality) -> tuple[Scores, Scores, float]:
    """The scores of single frames, those of foremask's masks, and inferences a frame."""
    images = named(clip.frames(), f"{clip.name} ")
    truths = clip.truths()
    network.asked = 0
    tier = TIERS[quality]
    masks = resolved(images, mask_images(images, network, tier), tier)
    asked = network.asked / len(images)
    return score(per_frame(images, network), truths), score(masks, truths), asked


def main(
    file: Path,
    *,
    quality: Quality = Quality.BALANCED,
    only: tuple[str, ...] = (),
    threads: int = 1,
    kept: Path | None = None,
    answers: Path | None = None,
) -> None:
    """Score ``file``; ``only`` names the clips, all without it.

    ``kept`` and ``answers`` are read and added to; ``answers`` must be of the same ``file``.
    """
    session = Session(file, threads=threads)
    header("clip", "single frames", quality, "difference", "dtSSD, single", "dtSSD", "asked")
    known: dict[str, list[float]] = {}
    if kept is not None and kept.exists():
        known = dict(map(json.loads, kept.read_text().splitlines()))
    found = {}
    for clip in [each for folder in ("davis", "more") for each in clips_in(DATA / folder)]:
        if only and clip.name not in only:
            continue
        values = known.get(clip.name)
        if values is None:
            folder = None if answers is None else answers / clip.name
            network = Recorded(lambda: session, folder)
            network.any_size = session.any_size
            single, ours, asked = scores_of(clip, network, quality)
            values = [single.jf, ours.jf, single.dtssd, ours.dtssd, asked]
            if kept is not None:
                with kept.open("a") as file_of_lines:
                    file_of_lines.write(json.dumps([clip.name, values]) + "\n")
        found[clip.name] = values
        row(clip.name, *_cells(values))
    row("mean", *_cells(np.mean(list(found.values()), axis=0).tolist()))


def _cells(values: list[float]) -> list[str]:
    single, ours, single_dtssd, dtssd, asked = values
    scores = [f"{single:.1f}", f"{ours:.1f}", f"{ours - single:+.1f}"]
    return [*scores, f"{single_dtssd:.2f}", f"{dtssd:.2f}", f"{asked:.2f}"]


if __name__ == "__main__":
    run(main, __doc__)
